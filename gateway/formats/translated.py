"""Answers in another language, written once all lines of a recording are translated. Pure.

Lines are segments, or cues where subtitles are asked for: each keeps its times, whatever its
translation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gateway.formats.documents import JSON, PLAIN_TEXT, SEGMENTS_AT_ONCE
from gateway.formats.json_pieces import JsonList, cut, json_object
from gateway.formats.openai_json import usage_by_duration, usage_by_tokens
from gateway.formats.transcripts import GrowingText, TranscriptBuilder, joint, timed_segments
from gateway.formats.verbose import verbose_segment
from protocol.transcription import ChunkDone, Segment

if TYPE_CHECKING:
    from gateway.formats.cue_rules import CueRules
    from gateway.formats.cues import Cue


class Translated(Protocol):
    """One answer in the making."""

    @property
    def media_type(self) -> str:
        """Its Content-Type."""
        ...

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        ...

    def lines(self, audio_seconds: float) -> Sequence[str]:
        """What is to be translated; after the last chunk. None where all was said in the language
        that is asked for."""
        ...

    def translate(self, lines: Sequence[str]) -> None:
        """Take the translations of all lines."""
        ...

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer, in pieces."""
        ...

    @property
    def takes_long(self) -> bool:
        """Whether finding lines or writing translations would hold up an event loop."""
        ...


class TranslatedText:
    """json, text and verbose_json: segment by segment."""

    takes_long = False

    def __init__(self, response_format: str, language: str, temperature: float) -> None:
        self.media_type = PLAIN_TEXT if response_format == "text" else JSON
        self._format = response_format
        self._language = language
        self._temperature = temperature
        self._builder = TranscriptBuilder()
        self._segments: list[Segment] = []

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        self._builder.add(chunk)
        self._segments += timed_segments(chunk)

    def lines(self, audio_seconds: float) -> Sequence[str]:
        """See Translated."""
        if self._builder.transcript().languages == (self._language,):
            return ()
        return [segment.text for segment in self._segments]

    def translate(self, lines: Sequence[str]) -> None:
        """See Translated."""
        self._segments = [
            replace(segment, text=line, words=(), token_ids=())
            for segment, line in zip(self._segments, lines, strict=True)
        ]

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """See Translated."""
        text = GrowingText()
        for segment in self._segments:
            text.finish_chunk(segment.text)
        if self._format == "text":
            return cut(f"{text.text}\n".encode())
        if self._format == "json":
            usage = usage_by_tokens(self._builder.transcript().usage)
            return json_object({"text": text.text, "language": self._language, "usage": usage})
        return json_object(
            {
                "task": "translate",
                "language": self._language.lower(),
                "duration": round(audio_seconds, 3),
                "text": text.text,
                "segments": self._segment_objects(),
                "usage": usage_by_duration(audio_seconds),
            }
        )

    def _segment_objects(self) -> JsonList:
        listed, last = JsonList(), ""
        for number, segment in enumerate(self._segments):
            text = segment.text.strip()
            spaced = joint(last, text[:1] or " ") + text
            last = text[-1:] or last
            listed.add(verbose_segment(number, segment, spaced, self._temperature))
        return listed


class TranslatedSubtitles:
    """srt and vtt: cue by cue."""

    def __init__(
        self,
        media_type: str,
        language: str,
        rules_of: "Callable[[str | None], CueRules]",
        print_cues: "Callable[[Sequence[Cue]], str]",
    ) -> None:
        self.media_type = media_type
        self._language = language
        self._rules_of = rules_of
        self._print_cues = print_cues
        self._builder = TranscriptBuilder()
        self._segments: list[Segment] = []
        self._cues: list[Cue] = []

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        self._builder.add(chunk)
        self._segments += timed_segments(chunk)

    def lines(self, audio_seconds: float) -> Sequence[str]:
        """See Translated."""
        from gateway.formats.cues import cues_of

        spoken = self._builder.transcript()
        rules = self._rules_of(spoken.language)
        self._cues = cues_of(self._segments, rules, until=audio_seconds)
        self._segments = []
        if spoken.languages == (self._language,):
            return ()
        return [cue.text for cue in self._cues]

    def translate(self, lines: Sequence[str]) -> None:
        """See Translated."""
        from gateway.formats.cues import with_text

        rules = self._rules_of(self._language)
        self._cues = [
            with_text(cue, line, rules) for cue, line in zip(self._cues, lines, strict=True)
        ]

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """See Translated."""
        yield from cut(self._print_cues(self._cues).encode("utf-8"))

    @property
    def takes_long(self) -> bool:
        """See Translated."""
        return max(len(self._segments), len(self._cues)) > SEGMENTS_AT_ONCE
