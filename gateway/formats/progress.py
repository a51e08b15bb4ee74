"""How far a transcription is, as events for callers that ask for them. Pure."""

from collections.abc import Iterator

from gateway.formats.events import event
from protocol.limits import SAMPLE_RATE
from protocol.transcription import ChunkDone, Partial, Progress

INTERVAL = 1.0
"""Seconds from one event to the next, at least."""
MOST_BEFORE_THE_END = 99
"""Per cent: containers may be wrong about a recording's length."""


class ProgressEvents:
    """Tells what is transcribed, once there is some; its numbers only grow."""

    def __init__(self) -> None:
        self._done_seconds = 0.0
        self._total_seconds: float | None = None
        self._percent: int | None = None
        self._told_seconds = 0.0
        self._told_at: float | None = None

    def __repr__(self) -> str:
        return f"<ProgressEvents {self._done_seconds:.1f} of {self._total_seconds} s>"

    def of(self, message: ChunkDone | Partial | Progress, now: float) -> Iterator[bytes]:
        """An event where there is news and the last one is long enough ago; `now` in seconds."""
        if isinstance(message, ChunkDone):
            self._done_seconds = message.end / SAMPLE_RATE
        elif isinstance(message, Progress) and message.total_seconds:
            self._total_seconds = message.total_seconds
        if self._done_seconds > self._told_seconds and self._is_due(now):
            self._told_at, self._told_seconds = now, self._done_seconds
            yield self._event()

    def done(self, audio_seconds: float) -> Iterator[bytes]:
        """The last one, before what ends the stream."""
        self._done_seconds = self._total_seconds = audio_seconds
        self._percent = 100
        yield self._event()

    def _is_due(self, now: float) -> bool:
        return self._told_at is None or now - self._told_at >= INTERVAL

    def _event(self) -> bytes:
        total = self._total_seconds
        if total is not None:
            total = max(total, self._done_seconds)
            percent = int(100 * self._done_seconds / total) if total else 100
            known = self._percent or 0
            self._percent = max(known, min(percent, MOST_BEFORE_THE_END))
        return event(
            {
                "type": "transcript.progress",
                "percent": self._percent,
                "done_seconds": round(self._done_seconds, 3),
                "total_seconds": None if total is None else round(total, 3),
            }
        )
