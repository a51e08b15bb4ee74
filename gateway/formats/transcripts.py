"""Puts the texts of a recording's chunks together, as they come. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.scripts import is_unspaced
from protocol.transcription import ChunkDone, Segment


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all chunks together."""

    prompt_tokens: int
    audio_tokens: int
    """Those of prompt_tokens that stand for audio."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one recording."""

    text: str
    language: str | None
    """English name of the language most of the speech is in; None where nothing was heard."""
    languages: tuple[str, ...]
    """All that were heard, in order of first appearance."""
    usage: Usage


class GrowingText:
    """The text of a recording while it is heard. What was told of it is never taken back."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last = ""
        """The last character so far."""
        self._told = ""
        """What was told of the chunk under way."""

    def __repr__(self) -> str:
        return f"<GrowingText {len(self._pieces)} pieces>"

    @property
    def text(self) -> str:
        """Everything told so far."""
        return "".join(self._pieces)

    def settle(self, text: str) -> str:
        """The beginning of the chunk under way; what is new of it, with the space before it.

        Where the chunk began anew and now reads otherwise, nothing is new until it is done.
        """
        text = text.strip()
        return self._tell(text[len(self._told) :]) if text.startswith(self._told) else ""

    def finish_chunk(self, text: str) -> str:
        """The whole text of the chunk under way; what is new of it. The next chunk begins."""
        delta = self._tell(continuation(self._told, text.strip()))
        self._told = ""
        return delta

    def _tell(self, addition: str) -> str:
        if not addition:
            return ""
        delta = addition if self._told else joint(self._last, addition[0]) + addition
        self._pieces.append(delta)
        self._told += addition
        self._last = addition[-1]
        return delta


def continuation(told: str, text: str) -> str:
    """What of `text` follows `told`, its beginning.

    An engine that died may have told what the next one hears otherwise: then what was told stands,
    and as many words of the new text, or characters of a script without spaces, are left out.
    """
    if text.startswith(told):
        return text[len(told) :]
    if is_unspaced(told[-1]) and " " not in told:
        return text[len(told) :]
    rest = text.split()[len(told.split()) :]
    return "".join(f" {word}" for word in rest)


class TranscriptBuilder:
    """One transcript from chunks in order."""

    def __init__(self) -> None:
        self._text = GrowingText()
        self._samples: dict[str, int] = {}
        """Of each language, in order of first appearance."""
        self._usage = Usage(0, 0, 0)

    def settle(self, text: str) -> str:
        """See GrowingText."""
        return self._text.settle(text)

    def add(self, chunk: ChunkDone) -> str:
        """What is new of the text."""
        if chunk.language:
            known = self._samples.get(chunk.language, 0)
            self._samples[chunk.language] = known + chunk.end - chunk.start
        self._usage = Usage(
            prompt_tokens=self._usage.prompt_tokens + chunk.prompt_tokens,
            audio_tokens=self._usage.audio_tokens + chunk.audio_tokens,
            output_tokens=self._usage.output_tokens + chunk.output_tokens,
        )
        return self._text.finish_chunk(chunk.text)

    def transcript(self) -> Transcript:
        """Everything added so far."""
        samples = self._samples
        return Transcript(
            text=self._text.text,
            language=max(samples, key=lambda name: samples[name]) if samples else None,
            languages=tuple(samples),
            usage=self._usage,
        )


def joint(left: str, right: str) -> str:
    """What belongs between two characters at the edges of neighbouring texts; `left` may be empty.

    A space, except where both belong to scripts without spaces.
    """
    return " " if left and needs_space(left, right) else ""


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two characters at the edges of neighbouring texts."""
    return not (is_unspaced(left) and is_unspaced(right))


def timed_segments(chunk: ChunkDone) -> Sequence[Segment]:
    """A chunk's segments; the whole chunk is one where its text came without times."""
    if chunk.segments or not chunk.text.strip():
        return chunk.segments
    whole = Segment(chunk.start, chunk.end, chunk.text.strip(), (), None, (), None, 0.0)
    return (whole,)
