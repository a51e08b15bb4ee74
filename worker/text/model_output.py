"""The model's raw output -> language and text.

Asked to detect the language, Qwen3-ASR writes `language English<asr_text>hello`, and
`language None<asr_text>` where it hears no speech; told the language, it writes the text alone.
"""

import re
from dataclasses import dataclass
from typing import Final

# At the start, lines between the name and the tag are the model's notes and go too.
_OPENING: Final = re.compile(r"\A\s*language\b\s*([^<\n]{0,60})(?:\n[^<]{0,200})?<asr_text>", re.I)
_OPENING_WITHOUT_TAG: Final = re.compile(r"\A\s*language[ \t]+([A-Z][a-z]+)\b(?:,[A-Z][a-z]+)*")
_BARE_OPENING: Final = re.compile(r"\A\s*language()\s*\Z")
_LATER_OPENING: Final = re.compile(r"(?:language\s{1,9}[A-Za-z,]{1,40}\s{0,9})?<asr_text>", re.I)
_SPECIAL_TOKEN: Final = re.compile(r"<\|[^<>|]{0,64}\|>")
# What a cut at the token limit leaves: half a tag or half a special token.
_BROKEN_END: Final = re.compile(r"(?:<asr(?:_(?:t(?:e(?:xt?)?)?)?)?|<\|[^<>|\s]{0,64}\|?)\Z")
_LONGEST_BROKEN_END: Final = 67
_NAME: Final = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)?")


@dataclass(frozen=True, slots=True)
class ModelOutput:
    language: str | None
    """As the model names it, the first if it names several; None where it names none."""

    text: str
    """Free of the model's markup; empty where it heard no speech."""


def parse_model_output(raw: str, forced_language: str | None = None) -> ModelOutput:
    """`forced_language`: the name the prompt ended with, so that `raw` is text from the start.

    Any `raw` is accepted. Whatever is no markup of the model's is kept.
    """
    plain = _without_special_tokens(raw)
    opening = _OPENING.match(plain)
    if opening is None and forced_language is None:
        # Text spoken so would stand behind an opening of its own.
        opening = _OPENING_WITHOUT_TAG.match(plain) or _BARE_OPENING.match(plain)
    named = _language_in(opening[1]) if opening else None
    text = plain[opening.end() :] if opening else plain
    parts = (part.strip() for part in _LATER_OPENING.split(text))
    return ModelOutput(forced_language or named, " ".join(part for part in parts if part))


def _without_special_tokens(raw: str) -> str:
    """To a fixed point: taking one out may join the halves of another."""
    count = 1
    while count:
        raw, count = _SPECIAL_TOKEN.subn("", raw)
    return _without_broken_end(raw)


def _without_broken_end(text: str) -> str:
    while True:
        text = text.rstrip().rstrip("\ufffd")  # the latter is half a character
        broken = _BROKEN_END.search(text, max(0, len(text) - _LONGEST_BROKEN_END))
        if broken is None and not text[-1:].isspace():
            return text
        text = text[: broken.start()] if broken else text


def _language_in(announced: str) -> str | None:
    first = _NAME.match(announced.strip())
    if first is None or first[0].lower() == "none":
        return None
    return first[0].capitalize()
