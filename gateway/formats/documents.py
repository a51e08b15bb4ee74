"""Answers to plain requests, each written while the chunks of its recording come in. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.formats.json_pieces import JsonList, cut, json_object
from gateway.formats.openai_json import language_objects, logprob_objects, usage_by_tokens
from gateway.formats.transcripts import TranscriptBuilder, timed_segments
from protocol.transcription import ChunkDone, Segment

if TYPE_CHECKING:
    from gateway.formats.cue_rules import CueRules

JSON = "application/json"
PLAIN_TEXT = "text/plain; charset=utf-8"
SEGMENTS_AT_ONCE = 50
"""Cues of so many segments are found within some 20 ms, those of 12 hours in 3 s."""


class Document(Protocol):
    """One answer in the making."""

    @property
    def media_type(self) -> str:
        """Its Content-Type."""
        ...

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk. Raises ApiError where the format cannot show it."""
        ...

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer, in pieces; after the last chunk."""
        ...

    @property
    def takes_long(self) -> bool:
        """Whether making those pieces would hold up an event loop."""
        ...


class Json:
    """OpenAI's json format, plus `language`, which the predecessor's clients read."""

    media_type = JSON
    takes_long = False

    def __init__(self, asked_language: str | None, *, with_logprobs: bool) -> None:
        self._asked_language = asked_language
        self._builder = TranscriptBuilder()
        self._logprobs = JsonList() if with_logprobs else None

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        delta = self._builder.add(chunk)
        if self._logprobs is not None:
            for token in logprob_objects(chunk.tokens, chunk.text, delta):
                self._logprobs.add(token)

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        transcript = self._builder.transcript()
        return json_object(
            {
                "text": transcript.text,
                "language": transcript.language or self._asked_language or "",
                "languages": language_objects(transcript.languages),
                **({} if self._logprobs is None else {"logprobs": self._logprobs}),
                "usage": usage_by_tokens(transcript.usage),
            }
        )


class Text:
    """The transcript and a line end."""

    media_type = PLAIN_TEXT
    takes_long = False

    def __init__(self) -> None:
        self._builder = TranscriptBuilder()

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        self._builder.add(chunk)

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        return cut(f"{self._builder.transcript().text}\n".encode())


class Subtitles:
    """Cues in one of the subtitle formats, by rules that depend on the language."""

    def __init__(
        self,
        media_type: str,
        asked_language: str | None,
        rules_of: "Callable[[str | None], CueRules]",
        print_cues: "Callable[[Sequence[Segment], CueRules, float], str]",
    ) -> None:
        self.media_type = media_type
        self._asked_language = asked_language
        self._rules_of = rules_of
        self._print_cues = print_cues
        self._builder = TranscriptBuilder()
        self._segments: list[Segment] = []

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        self._builder.add(chunk)
        self._segments += timed_segments(chunk)

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        language = self._builder.transcript().language or self._asked_language
        rules = self._rules_of(language)
        yield from cut(self._print_cues(self._segments, rules, audio_seconds).encode("utf-8"))

    @property
    def takes_long(self) -> bool:
        """See Document."""
        return len(self._segments) > SEGMENTS_AT_ONCE
