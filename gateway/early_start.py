"""A transcription that begins while its upload still arrives, where order and content of the body
allow it. Nobody hears of it before the whole form was received and found valid."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from gateway.errors import ApiError
from gateway.front_to_back import HEAD_BYTES, reads_front_to_back
from gateway.multipart import Form, MultipartReader
from gateway.spool import SpooledUpload
from gateway.worker_client.interface import TranscriptionRequest, WorkerClient
from protocol.transcription import ChunkDone, Partial, Progress

TELL_INTERVAL = 0.1
"""Seconds between two messages about the growth of one upload."""

Take = Callable[[ChunkDone | Partial | Progress], Awaitable[None]]
Outcome = float | ApiError
Transcribe = Callable[[TranscriptionRequest, Take], Awaitable[Outcome]]


class EarlyStart:
    """What is done of one recording ahead of its form's end; an async context, which ends it.

    `wanted_by` makes the request that a form asks for, or raises ApiError. `transcribe` gives
    `take` all messages and returns the outcome. `begin_bytes` of a recording are enough; 0: none.
    """

    def __init__(
        self,
        upload: SpooledUpload,
        worker_client: WorkerClient,
        wanted_by: Callable[[Form], TranscriptionRequest],
        transcribe: Transcribe,
        *,
        begin_bytes: int,
    ) -> None:
        self._upload = upload
        self._worker_client = worker_client
        self._wanted_by = wanted_by
        self._transcribe = transcribe
        self._begin_bytes = begin_bytes
        self._is_decided = begin_bytes == 0
        self._tasks = asyncio.TaskGroup()
        self._run: asyncio.Task[Outcome | Exception] | None = None
        self._wanted: TranscriptionRequest | None = None
        """What was begun."""
        self._is_confirmed = asyncio.Event()
        self._take: Take
        self._telling: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<EarlyStart {'begun' if self._run else 'not begun'}>"

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_telling()
        if self._run is not None:
            self._run.cancel()
        await self._tasks.__aexit__(None, None, None)  # an ApiError is not to be wrapped

    def watch(self, form: MultipartReader) -> None:
        """More of the body was read: begin once enough is there, and tell how far it is."""
        if self._run is not None:
            self._tell_soon()
        elif not self._is_decided and (form.file_bytes or 0) >= self._begin_bytes:
            self._is_decided = True
            self._begin(form.form_so_far())

    async def outcome(self, wanted: TranscriptionRequest, take: Take) -> Outcome:
        """The form was received and asks for this: what became of it, when `take` has had all.

        What has begun goes on if it is the same; otherwise it is given up, under another id, since
        of the first run messages may still be on their way.
        """
        self._stop_telling()
        if self._run is None or self._wanted is None:
            return await self._transcribe(wanted, take)
        if _without_size(self._wanted) == _without_size(wanted):
            return await self._confirmed(self._run, self._wanted, take)
        await self._give_up(self._run)
        again = replace(wanted, request_id=f"{wanted.request_id}.2")
        return await self._transcribe(again, take)

    def _begin(self, form: Form) -> None:
        if not reads_front_to_back(self._upload.head(HEAD_BYTES)):
            return
        try:
            self._wanted = self._wanted_by(form)
        except ApiError:
            return  # a later field may mend it; if none does, the whole form is refused
        self._run = self._tasks.create_task(self._run_early(self._wanted))

    async def _run_early(self, wanted: TranscriptionRequest) -> Outcome | Exception:
        """Faults are returned: they belong to whoever asks for the outcome."""
        is_whole = self._is_confirmed.is_set()  # what was told before now, nobody has heard
        wanted = replace(wanted, upload_bytes=self._upload.size, is_upload_whole=is_whole)
        try:
            return await self._transcribe(wanted, self._hold)
        except Exception as error:
            return error

    async def _hold(self, message: ChunkDone | Partial | Progress) -> None:
        await self._is_confirmed.wait()
        await self._take(message)

    async def _confirmed(
        self, run: "asyncio.Task[Outcome | Exception]", begun: TranscriptionRequest, take: Take
    ) -> Outcome:
        self._take = take
        self._is_confirmed.set()
        self._worker_client.upload_grew(begun.request_id, self._upload.size, is_whole=True)
        result = await run
        if isinstance(result, Exception) and not isinstance(result, ApiError):
            raise result
        return result

    async def _give_up(self, run: "asyncio.Task[Outcome | Exception]") -> None:
        run.cancel()
        await asyncio.wait((run,))
        self._upload.delete_chunks()

    def _tell_soon(self) -> None:
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(TELL_INTERVAL, self._tell)

    def _tell(self) -> None:
        self._telling = None
        assert self._wanted is not None
        self._worker_client.upload_grew(self._wanted.request_id, self._upload.size, is_whole=False)

    def _stop_telling(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None


def _without_size(request: TranscriptionRequest) -> TranscriptionRequest:
    return replace(request, upload_bytes=0)
