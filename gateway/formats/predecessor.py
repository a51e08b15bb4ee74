"""The stream of jaaacki/qwen3-asr: one event for each chunk, which says whether it is the last.

That is known when the next one, or the end, is there: events are sent one chunk late. Pure.
"""

from collections.abc import Iterator

from gateway.errors import ApiError
from gateway.formats.events import event
from protocol.transcription import ChunkDone, Partial

SHORT_SECONDS = 5.0
"""A recording no longer than this is one event without chunk_index."""


class ChunkEvents:
    """See gateway.formats.events.Events."""

    def __init__(self, asked_language: str | None) -> None:
        self._language = asked_language or ""
        self._held: ChunkDone | None = None
        self._sent = 0

    def of(self, message: ChunkDone | Partial) -> Iterator[bytes]:
        """The event of the chunk before."""
        if isinstance(message, Partial):
            return
        if self._held is not None:
            yield self._event(self._held, is_final=False, is_short=False)
            self._sent += 1
        self._held = message

    def done(self, audio_seconds: float) -> Iterator[bytes]:
        """The last chunk, which is empty where nothing was said, and the end."""
        is_short = audio_seconds <= SHORT_SECONDS and not self._sent
        yield self._event(self._held, is_final=True, is_short=is_short)
        yield event({"done": True})

    def _event(self, chunk: ChunkDone | None, *, is_final: bool, is_short: bool) -> bytes:
        text = "" if chunk is None else chunk.text.strip()
        language = (chunk.language if chunk else None) or self._language
        fields: dict[str, object] = {"text": text, "language": language, "is_final": is_final}
        return event(fields if is_short else {**fields, "chunk_index": self._sent})


def stream_failure(error: ApiError) -> bytes:
    """The event that ends a stream whose work failed."""
    return event({"code": "SSE_STREAM_ERROR", "message": error.message, "statusCode": 500})
