"""Joins the texts of a recording's chunks into one transcript. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.transcription import ChunkDone

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x3190, 0xA4CF),  # CJK ideographs, Yi; Hangul, which is spaced, lies around these ranges
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFE30, 0xFE4F),  # CJK compatibility forms
    (0xFF00, 0xFF9F),  # fullwidth forms, halfwidth Katakana
    (0x20000, 0x3FFFF),  # further CJK ideographs
)
"""Code points (Unicode 16 blocks) of scripts that write no spaces between words."""


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


def join_chunks(chunks: Sequence[ChunkDone]) -> Transcript:
    """One transcript from chunks in order."""
    return Transcript(
        text=join_texts([chunk.text for chunk in chunks]),
        language=_main_language(chunks),
        languages=tuple(dict.fromkeys(chunk.language for chunk in chunks if chunk.language)),
        usage=Usage(
            prompt_tokens=sum(chunk.prompt_tokens for chunk in chunks),
            audio_tokens=sum(chunk.audio_tokens for chunk in chunks),
            output_tokens=sum(chunk.output_tokens for chunk in chunks),
        ),
    )


def join_texts(texts: Sequence[str]) -> str:
    """Texts with a space between, except where both edges belong to scripts without spaces."""
    stripped = [text for text in map(str.strip, texts) if text]
    pieces: list[str] = []
    for previous, text in zip(["", *stripped], stripped, strict=False):
        if previous and needs_space(previous[-1], text[0]):
            pieces.append(" ")
        pieces.append(text)
    return "".join(pieces)


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two characters at the edges of neighbouring texts."""
    return not (_is_unspaced(left) and _is_unspaced(right))


def _is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED)


def _main_language(chunks: Sequence[ChunkDone]) -> str | None:
    samples: dict[str, int] = {}
    for chunk in chunks:
        if chunk.language:
            samples[chunk.language] = samples.get(chunk.language, 0) + chunk.end - chunk.start
    return max(samples, key=lambda language: samples[language]) if samples else None
