"""One caller's request on its way through engines: what it waits for and how it stands."""

import asyncio
from collections.abc import AsyncGenerator

from gateway.worker_client.attempts import Attempts
from gateway.worker_client.chunk_file import ChunkFile
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from protocol.transcription import ChunkDone, Final, Partial, Progress, Transcribe

SLOW_GRACE = 15.0
"""Seconds after which the upload of a request that was opened early has to have kept its pace."""
SLOWEST_BYTES_PER_SECOND = 16 * 1024
"""Slower than that it does not keep a place in an engine, or an engine awake."""


class Call:
    """State of one request between the link, which moves it, and its caller, who reads it."""

    def __init__(self, request: TranscriptionRequest, chunks: ChunkFile, now: float) -> None:
        self.request = request
        self.chunks = chunks
        self.attempts = Attempts()
        self.engine: tuple[str, int] | None = None
        """Worker id and epoch of the engine that holds it; None while it waits, and afterwards."""
        self.waiting_since = now
        self.last_progress = now
        self.upload_bytes = request.upload_bytes
        """What is there of its upload by now."""
        self.is_upload_whole = request.is_upload_whole
        self.waits_for_whole = False
        """It gave its place in an engine back, for the time in which its upload still arrives."""
        self._opened_at = now
        self._progress: Progress | None = None
        self._partial: Partial | None = None
        self._outcome: Final | TranscriptionFailed | None = None
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        where = self.engine or ("ended" if self.has_ended else "waiting")
        return f"<Call {self.request.request_id} {where} attempt {self.attempts.count}>"

    @property
    def has_ended(self) -> bool:
        """Whether its one answer is there."""
        return self._outcome is not None

    @property
    def may_begin(self) -> bool:
        """Whether an engine may get it. A suspect would keep others from the engine for as long as
        its upload takes."""
        return self.is_upload_whole or not (self.waits_for_whole or self.attempts.is_suspect)

    def is_upload_slow(self, now: float) -> bool:
        """Whether its upload still arrives, but too slowly to be worked on meanwhile."""
        seconds = now - self._opened_at
        grown = self.upload_bytes - self.request.upload_bytes
        is_late = seconds > SLOW_GRACE and grown < SLOWEST_BYTES_PER_SECOND * seconds
        return is_late and not self.is_upload_whole

    def upload_grew(self, upload_bytes: int, *, is_whole: bool, now: float) -> None:
        """So much of its upload is there by now; from when it is whole, its time counts."""
        self.upload_bytes, self.is_upload_whole = upload_bytes, is_whole
        if is_whole:
            self.waiting_since = self.last_progress = now

    def opening_message(self) -> Transcribe:
        """The message that hands it to the next engine; counts the attempt."""
        request = self.request
        attempt = self.attempts.begin()
        self._partial = None
        return Transcribe(
            request_id=request.request_id,
            attempt=attempt,
            spool_file=request.spool_file,
            upload_bytes=self.upload_bytes,
            language=request.language,
            prompt=request.prompt,
            keywords=request.keywords,
            temperature=request.temperature,
            runs_alone=self.attempts.runs_alone,
            done_chunks=self.chunks.chunks,
            done_samples=self.chunks.samples,
            languages=request.languages,
            wants_partials=request.wants_partials,
            wants_logprobs=request.wants_logprobs,
            splits_channels=request.splits_channels,
            uses_previous_context=request.uses_previous_context,
            audio_track=request.audio_track,
            wants_words=request.wants_words,
            is_upload_whole=self.is_upload_whole,
            reads_forward=not request.is_upload_whole,
        )

    def add_chunk(self, chunk: ChunkDone, now: float) -> None:
        """Store a finished chunk for the caller. Raises OSError when the disk is full."""
        self.chunks.append(chunk)
        self.attempts.chunk_finished()
        self._partial = None
        self.last_progress = now
        self._changed.set()

    def note_progress(self, progress: Progress, now: float) -> None:
        """Remember the latest progress; an unread older one is replaced."""
        self._progress = progress
        self.last_progress = now
        self._changed.set()

    def note_partial(self, partial: Partial, now: float) -> None:
        """Remember the latest text of the chunk under way; an unread older one is replaced."""
        if partial.index != self.chunks.chunks:
            return
        self._partial = partial
        self.last_progress = now
        self._changed.set()

    def end(self, outcome: Final | TranscriptionFailed) -> None:
        """Give the one answer; later ones are dropped."""
        if self._outcome is None:
            self._outcome = outcome
            self._changed.set()

    async def events(self) -> AsyncGenerator[ChunkDone | Partial | Progress | Final, None]:
        """Chunks in order, latest partial and progress in between, then the Final or failure."""
        while True:
            if (chunk := self.chunks.read_next()) is not None:
                yield chunk
            elif isinstance(self._outcome, Final):
                yield self._outcome
                return
            elif self._outcome is not None:
                raise self._outcome
            elif self._partial is not None:
                partial, self._partial = self._partial, None
                yield partial
            elif self._progress is not None:
                progress, self._progress = self._progress, None
                yield progress
            else:
                self._changed.clear()
                await self._changed.wait()
