"""Parts of OpenAI's answers that several formats share. Pure."""

import math
from collections.abc import Iterator, Sequence

from gateway.formats.transcripts import Usage
from protocol.languages import NAMES, code_of
from protocol.transcription import Segment, Token, Word

SAMPLE_RATE = 16_000


def seconds(samples: int) -> float:
    """A position in a recording, to the millisecond."""
    return round(samples / SAMPLE_RATE, 3)


def usage_by_tokens(usage: Usage) -> dict[str, object]:
    """OpenAI's account by tokens."""
    return {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "input_token_details": {
            "text_tokens": usage.prompt_tokens - usage.audio_tokens,
            "audio_tokens": usage.audio_tokens,
        },
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def usage_by_duration(audio_seconds: float) -> dict[str, object]:
    """OpenAI's account by whole seconds begun."""
    return {"type": "duration", "seconds": math.ceil(audio_seconds)}


def language_objects(languages: Sequence[str]) -> list[dict[str, str]]:
    """English names -> codes, as OpenAI lists them; a name that has none is left out."""
    return [{"code": code_of(language)} for language in languages if language in NAMES]


def plain_segment(number: int, segment: Segment) -> dict[str, object]:
    """A segment in the last event of a stream."""
    return {
        "id": number,
        "start": seconds(segment.start),
        "end": seconds(segment.end),
        "text": segment.text,
    }


def word_object(word: Word) -> dict[str, object]:
    """A word; one whose times are not measured says so."""
    return {
        "word": word.text.strip(),
        "start": seconds(word.start),
        "end": seconds(word.end),
        **({"estimated": True} if word.is_estimated else {}),
    }


def logprob_objects(tokens: Sequence[Token], text: str, delta: str) -> Iterator[dict[str, object]]:
    """The tokens of a chunk's `text`, whose bytes together are `delta`: what it adds to the
    transcript, without white space around it and with the space that joins it to what is before.

    Nothing where tokens and text do not belong together.
    """
    stripped = text.strip()
    content = b"".join(token.content for token in tokens)
    if not delta.endswith(stripped) or content != text.encode("utf-8"):
        return
    first = len(text[: len(text) - len(text.lstrip())].encode("utf-8"))
    last = first + len(stripped.encode("utf-8"))
    prefix = delta[: len(delta) - len(stripped)].encode("utf-8")
    position = 0
    for token in tokens:
        start, position = position, position + len(token.content)
        kept = token.content[max(first - start, 0) : max(last - start, 0)]
        if kept:
            kept, prefix = prefix + kept, b""
            yield {
                "token": kept.decode("utf-8", "replace"),
                "logprob": token.logprob,
                "bytes": list(kept),
            }
