"""The two ways in which a caller gets a transcript: whole, or as events while it is heard."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from starlette.types import Send

from gateway.errors import ApiError
from gateway.formats.documents import JSON, Document
from gateway.formats.events import KEEP_ALIVE, Events, failure
from gateway.formats.progress import ProgressEvents
from gateway.open_answer import OpenAnswer, send_whole
from protocol.transcription import ChunkDone, Partial, Progress

QUIET_SECONDS = 10.0
"""No stream is silent for longer, so that nothing on the way takes it for dead: 15 s is what
clients and proxies are known to bear."""
STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Answer(Protocol):
    """One way to answer a caller while the work on its recording goes on."""

    async def take(self, message: ChunkDone | Partial | Progress) -> None:
        """Use the next message. Raises ApiError where the format cannot show it."""
        ...

    async def keep_awake(self) -> None:
        """Show the caller from time to time that the work goes on; returns only if it need not."""
        ...

    async def fail(self, error: ApiError) -> None:
        """Tell the error where the status has been sent already; afterwards it is raised."""
        ...

    async def finish(self, audio_seconds: float) -> None:
        """Send the rest. Raises ApiError where the format cannot show the whole, told as by
        `fail`."""
        ...


class PlainAnswer:
    """The whole transcript at once.

    With `keepalive`, long JSON answers begin with a space each so many seconds once a chunk has
    succeeded; such an answer that fails after all carries the error and is broken off, so that
    nobody takes it for a transcript.
    """

    def __init__(
        self, document: Document, send: Send, headers: Mapping[str, str], *, keepalive: float
    ) -> None:
        self._document = document
        self._send = send
        self._headers = {"content-type": document.media_type, **headers}
        self._open = OpenAnswer(send, self._headers)
        self._keepalive = keepalive if document.media_type == JSON else 0.0
        self._has_succeeded = asyncio.Event()

    async def take(self, message: ChunkDone | Partial | Progress) -> None:
        """See Answer."""
        if isinstance(message, ChunkDone):
            self._document.add(message)
            self._has_succeeded.set()

    async def keep_awake(self) -> None:
        """See Answer."""
        if self._keepalive:
            await self._has_succeeded.wait()
            await self._open.keep_awake(b" ", self._keepalive)

    async def fail(self, error: ApiError) -> None:
        """See Answer."""
        if self._open.has_begun:
            await self._open.write(error.body())

    async def finish(self, audio_seconds: float) -> None:
        """See Answer."""
        try:
            pieces: Iterable[bytes] = self._document.finish(audio_seconds)
        except ApiError as error:
            await self.fail(error)
            raise
        if self._document.takes_long:
            pieces = await asyncio.to_thread(list, pieces)
        if self._open.has_begun:
            await self._open.write(pieces)
            await self._open.finish()
        else:
            await send_whole(self._send, pieces, self._headers)


class StreamedAnswer:
    """Server-sent events. The status is sent with the first of them, so that what fails before
    has a status of its own; or with the first keep-alive comment, where that is due earlier."""

    def __init__(
        self,
        events: Events,
        send: Send,
        headers: Mapping[str, str],
        *,
        progress: ProgressEvents | None = None,
        failure: Callable[[ApiError], bytes] = failure,
    ) -> None:
        """`progress`: for a caller that asked how far the work is; `failure` makes the event that
        ends a stream whose work failed."""
        self._events = events
        self._progress = progress
        self._failure = failure
        self._clock = asyncio.get_running_loop().time
        self._open = OpenAnswer(send, {**STREAM_HEADERS, **headers})

    async def take(self, message: ChunkDone | Partial | Progress) -> None:
        """See Answer. Returns when the caller has taken what was sent before."""
        await self._open.write(self._pieces(message))

    async def keep_awake(self) -> None:
        """See Answer."""
        await self._open.keep_awake(KEEP_ALIVE, QUIET_SECONDS)

    async def fail(self, error: ApiError) -> None:
        """See Answer."""
        if self._open.has_begun:
            await self._open.write(self._failure(error))
            await self._open.finish()

    async def finish(self, audio_seconds: float) -> None:
        """See Answer."""
        if self._progress is not None:
            await self._open.write(self._progress.done(audio_seconds))
        try:
            await self._open.write(self._events.done(audio_seconds))
        except ApiError as error:
            await self.fail(error)
            raise
        await self._open.finish()

    def _pieces(self, message: ChunkDone | Partial | Progress) -> Iterator[bytes]:
        if not isinstance(message, Progress):
            yield from self._events.of(message)
        if self._progress is not None:
            yield from self._progress.of(message, self._clock())
