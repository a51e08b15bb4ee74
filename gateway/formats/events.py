"""A transcription as server-sent events, in OpenAI's shape. Pure.

Never `id:`, `retry:`, an event without data, or unasked a type of our own: the official clients
fail on those. Every event ends in a blank line.
"""

import json
from collections.abc import Iterator
from typing import Protocol

from gateway.errors import ApiError
from gateway.formats.diarized import Conversation
from gateway.formats.json_pieces import JsonList, encoded, json_object
from gateway.formats.openai_json import (
    language_objects,
    logprob_objects,
    plain_segment,
    usage_by_tokens,
)
from gateway.formats.transcripts import TranscriptBuilder, timed_segments
from gateway.formats.verbose import TimedLists
from protocol.transcription import ChunkDone, Partial

KEEP_ALIVE = b": keep-alive\n\n"
END = b"data: [DONE]\n\n"


class Events(Protocol):
    """The events of one transcription."""

    def of(self, message: ChunkDone | Partial) -> Iterator[bytes]:
        """Those that a message causes. Raises ApiError where the format cannot show it."""
        ...

    def done(self, audio_seconds: float) -> Iterator[bytes]:
        """The last ones, in pieces. Raises ApiError where the format cannot show the whole."""
        ...


class TranscriptEvents:
    """Deltas as the text settles; `done` repeats it whole, with segments for subtitle programs."""

    def __init__(
        self, asked_language: str | None, lists: TimedLists | None, *, with_logprobs: bool
    ) -> None:
        """`lists`: what verbose_json would have; None gives segments with their text alone."""
        self._asked_language = asked_language
        self._lists = lists
        self._builder = TranscriptBuilder()
        self._segments = JsonList()
        self._count = 0
        self._logprobs = JsonList() if with_logprobs else None

    def of(self, message: ChunkDone | Partial) -> Iterator[bytes]:
        """A delta where there is new text."""
        if isinstance(message, Partial):
            delta, logprobs = self._builder.settle(message.text), None
        else:
            delta = self._builder.add(message)
            logprobs = self._logprobs_of(message, delta)
            self._add_segments(message)
        if delta:
            fields: dict[str, object] = {"type": "transcript.text.delta", "delta": delta}
            yield event(fields if logprobs is None else {**fields, "logprobs": logprobs})

    def done(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole text again, and what is known besides."""
        transcript = self._builder.transcript()
        lists = {"segments": self._segments} if self._lists is None else self._lists.fields()
        yield from _event_pieces(
            {
                "type": "transcript.text.done",
                "text": transcript.text,
                "language": transcript.language or self._asked_language or "",
                "languages": language_objects(transcript.languages),
                "duration": round(audio_seconds, 3),
                **lists,
                **({} if self._logprobs is None else {"logprobs": self._logprobs}),
                "usage": usage_by_tokens(transcript.usage),
            }
        )
        yield END

    def _logprobs_of(self, chunk: ChunkDone, delta: str) -> list[dict[str, object]] | None:
        if self._logprobs is None:
            return None
        logprobs = list(logprob_objects(chunk.tokens, chunk.text, delta))
        for logprob in logprobs:
            self._logprobs.add(logprob)
        return logprobs

    def _add_segments(self, chunk: ChunkDone) -> None:
        if self._lists is not None:
            self._lists.add(chunk)
            return
        for segment in timed_segments(chunk):
            self._segments.add(plain_segment(self._count, segment))
            self._count += 1


class ConversationEvents:
    """A delta and a segment for each turn of a conversation."""

    def __init__(self) -> None:
        self._conversation = Conversation()
        self._builder = TranscriptBuilder()
        self._segments = JsonList()

    def of(self, message: ChunkDone | Partial) -> Iterator[bytes]:
        """The turns of a chunk. Raises BadRequest, see Conversation."""
        if isinstance(message, Partial):
            return
        self._builder.add(message)
        for turn in self._conversation.add(message):
            self._segments.add(turn.json())
            yield event(
                {
                    "type": "transcript.text.delta",
                    "delta": turn.delta,
                    "segment_id": turn.id,
                }
            )
            yield event(turn.json())

    def done(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole text again, and what is known besides. Raises BadRequest, see Conversation."""
        self._conversation.finish()
        transcript = self._builder.transcript()
        yield from _event_pieces(
            {
                "type": "transcript.text.done",
                "text": self._conversation.text,
                "languages": language_objects(transcript.languages),
                "duration": round(audio_seconds, 3),
                "segments": self._segments,
                "usage": usage_by_tokens(transcript.usage),
            }
        )
        yield END


def event(fields: dict[str, object]) -> bytes:
    """One event; JSON escapes line ends, so its data is one line."""
    return b"data: " + encoded(fields) + b"\n\n"


def failure(error: ApiError) -> bytes:
    """The event that ends a stream whose work failed. A flat object is not heard by clients."""
    fields = {"type": "error", **json.loads(error.body())}
    return b"event: error\n" + event(fields)


def _event_pieces(fields: dict[str, object]) -> Iterator[bytes]:
    yield b"data: "
    yield from json_object(fields)
    yield b"\n\n"
