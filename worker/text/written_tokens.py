"""The model's tokens as bytes of its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_TEXT_MARK: Final = b"<asr_text>"


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token of a text, with the natural logarithm of its probability."""

    id: int
    content: bytes
    """Its part of the text in UTF-8: not always whole characters."""
    logprob: float


def tokens_of_text(text: str, output: Sequence[WrittenToken]) -> tuple[WrittenToken, ...]:
    """The tokens of `output` that wrote `text`, cut to it: together they are the text in UTF-8.

    Empty where the text is not a stretch of the output behind its last <asr_text>.
    """
    written = b"".join(token.content for token in output)
    wanted = text.encode("utf-8", "replace")
    behind_mark = written.rfind(_TEXT_MARK)
    first = 0 if behind_mark < 0 else behind_mark + len(_TEXT_MARK)
    # The text is free of white space around it, of any kind that str.strip() knows.
    spoken = written[first:].decode("utf-8", "replace")
    space = spoken[: len(spoken) - len(spoken.lstrip())]
    begin = first + len(space.encode())
    end = begin + len(wanted)
    if not wanted or written[begin:end] != wanted:
        return ()
    tokens: list[WrittenToken] = []
    place = 0
    for token in output:
        content = token.content[max(0, begin - place) : max(0, end - place)]
        place += len(token.content)
        if content:
            tokens.append(WrittenToken(token.id, content, token.logprob))
    return tuple(tokens)
