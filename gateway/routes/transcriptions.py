"""POST /v1/audio/transcriptions: one uploaded recording in, its transcript out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager

from starlette.types import Receive, Scope, Send

from gateway.boundary import ClientGone, RequestRecord, record_of
from gateway.context import Gateway
from gateway.early_start import EarlyStart
from gateway.errors import ApiError, InternalError, from_failure, queue_full, shutting_down
from gateway.formats.progress import ProgressEvents
from gateway.memory import MemoryTrimmer
from gateway.multipart import FILE_FIELD, Form, MultipartReader
from gateway.routes.answering import Answer, PlainAnswer, StreamedAnswer
from gateway.routes.answers import document_for, events_for, model_headers, request_for
from gateway.routes.options import TranscriptionOptions, parse_options
from gateway.spool import SpooledUpload
from gateway.uploads import FileSink, receive_form, wait_for_disconnect
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from protocol.transcription import ChunkDone, Final, Partial, Progress


class TranscriptionRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._memory = MemoryTrimmer()

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive, check, transcribe, answer. Raises as `serve` does."""

        def answer_to(form: Form) -> tuple[TranscriptionOptions, Answer]:
            options = parse_options(form)
            return options, self._answer_for(options, send)

        await self.serve(scope, receive, answer_to)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        answer_to: Callable[[Form], tuple[TranscriptionOptions, Answer]],
    ) -> None:
        """Receive, check by `answer_to`, transcribe, and let its answer answer; the upload is gone
        before the answer ends. The work may begin while the upload arrives: `answer_to` is then
        asked twice, and its first answer is not used.

        Raises ApiError, and ClientGone as soon as the caller leaves; the work ends then too.
        """
        record = record_of(scope)
        async with self._uploading() as upload:

            def wanted_by(form: Form) -> tuple[TranscriptionRequest, Answer]:
                options, answer = answer_to(form)
                wanted = request_for(
                    options, upload, request_id=record.request_id, owner=record.owner
                )
                return wanted, answer

            async with self._early_start(upload, lambda form: wanted_by(form)[0], record) as early:
                form = await self._form(scope, receive, upload, watch=early.watch)
                wanted, answer = wanted_by(form)
                work = early.outcome(wanted, answer.take)
                audio_seconds = await self._transcribe(work, answer, receive)
        await answer.finish(audio_seconds)

    def _early_start(
        self,
        upload: SpooledUpload,
        wanted_by: Callable[[Form], TranscriptionRequest],
        record: RequestRecord,
    ) -> EarlyStart:
        return EarlyStart(
            upload,
            self._gateway.worker_client,
            wanted_by,
            lambda wanted, take: self.outcome(wanted, take, record),
            begin_bytes=self._gateway.settings.early_start_bytes,
        )

    @asynccontextmanager
    async def received(
        self,
        scope: Scope,
        receive: Receive,
        *,
        file_field: str = FILE_FIELD,
        through: Callable[[SpooledUpload], FileSink] = lambda upload: upload,
    ) -> AsyncIterator[tuple[SpooledUpload, Form]]:
        """The request's recording and fields; the recording is gone when the context ends.

        `through` makes what takes the recording to the spool. Raises ApiError and ClientGone.
        """
        async with self._uploading() as upload:
            yield upload, await self._form(scope, receive, through(upload), file_field=file_field)

    @asynccontextmanager
    async def _uploading(self) -> AsyncIterator[SpooledUpload]:
        self._refuse_early()
        with self._memory.upload(), self._gateway.worker_client.expecting():
            async with self._gateway.spool.new_upload() as upload:
                yield upload

    async def _form(
        self,
        scope: Scope,
        receive: Receive,
        sink: FileSink,
        *,
        file_field: str = FILE_FIELD,
        watch: Callable[[MultipartReader], None] = lambda reader: None,
    ) -> Form:
        settings = self._gateway.settings
        return await receive_form(
            scope,
            receive,
            sink,
            max_file_bytes=settings.max_upload_bytes,
            stall_timeout=settings.body_timeout,
            file_field=file_field,
            watch=watch,
        )

    def _refuse_early(self) -> None:
        """Refuse before the body is read what would be refused after it."""
        if self._gateway.is_draining:
            raise shutting_down()
        waiting = self._gateway.worker_client.snapshot().waiting_requests
        if waiting >= self._gateway.settings.max_waiting_requests:
            raise queue_full()

    def _answer_for(self, options: TranscriptionOptions, send: Send) -> Answer:
        settings = self._gateway.settings
        headers = model_headers(settings)
        if options.is_streamed:
            progress = ProgressEvents() if options.wants_progress else None
            return StreamedAnswer(events_for(options), send, headers, progress=progress)
        document = document_for(options)
        return PlainAnswer(document, send, headers, keepalive=settings.keepalive_seconds)

    async def _transcribe(
        self,
        work: Coroutine[None, None, float | ApiError],
        answer: Answer,
        receive: Receive,
    ) -> float:
        """Give the answer all it is made of; returns the recording's length in seconds."""
        try:
            outcome = await self._outcome_unless_gone(work, answer, receive)
        except Exception:
            await answer.fail(InternalError())
            raise
        if isinstance(outcome, ApiError):
            await answer.fail(outcome)
            raise outcome
        return outcome

    async def _outcome_unless_gone(
        self,
        work: Coroutine[None, None, float | ApiError],
        answer: Answer,
        receive: Receive,
    ) -> float | ApiError:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work)
            leaving = tasks.create_task(wait_for_disconnect(receive))
            awake = tasks.create_task(answer.keep_awake())
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, leaving, awake):
                task.cancel()
        if working.cancelled():
            raise ClientGone
        return working.result()

    async def outcome(
        self,
        wanted: TranscriptionRequest,
        take: Callable[[ChunkDone | Partial | Progress], Awaitable[None]],
        record: RequestRecord,
    ) -> float | ApiError:
        """The recording's length, when `take` has had all messages, or why there is no transcript:
        returned, since a task group would wrap it. Does not watch whether the caller leaves."""
        audio_seconds = 0.0
        try:
            async with aclosing(self._gateway.worker_client.transcribe(wanted)) as messages:
                async for message in messages:
                    if isinstance(message, Final):
                        audio_seconds = message.audio_seconds
                        record.details["audio_seconds"] = audio_seconds
                        record.details["chunks"] = message.chunks
                    else:
                        await take(message)
        except TranscriptionFailed as failure:
            record.details["failure"] = str(failure.code)
            error = from_failure(failure)
            error.__cause__ = failure.__cause__
            return error
        except ApiError as error:
            return error
        return audio_seconds
