"""The languages Qwen3-ASR transcribes: the model's names, ISO 639 codes, what callers write."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Name as the model says it: (code we answer with, further codes and names, lower case).
# The 30 names are the model card's; codes are ISO 639-1, where there is one, then 639-2/T and /B.
_LANGUAGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Chinese": ("zh", "zho", "chi", "cmn", "mandarin"),
        "English": ("en", "eng"),
        "Cantonese": ("yue", "zh-yue", "zh-hk", "zh-hant-hk", "zh-mo", "zh-hant-mo"),
        "Arabic": ("ar", "ara", "arb"),
        "German": ("de", "deu", "ger"),
        "French": ("fr", "fra", "fre"),
        "Spanish": ("es", "spa", "castilian"),
        "Portuguese": ("pt", "por"),
        "Indonesian": ("id", "ind", "in"),
        "Italian": ("it", "ita"),
        "Korean": ("ko", "kor"),
        "Russian": ("ru", "rus"),
        "Thai": ("th", "tha"),
        "Vietnamese": ("vi", "vie"),
        "Japanese": ("ja", "jpn"),
        "Turkish": ("tr", "tur"),
        "Hindi": ("hi", "hin"),
        "Malay": ("ms", "msa", "may", "zsm"),
        "Dutch": ("nl", "nld", "dut", "flemish"),
        "Swedish": ("sv", "swe"),
        "Danish": ("da", "dan"),
        "Finnish": ("fi", "fin"),
        "Polish": ("pl", "pol"),
        "Czech": ("cs", "ces", "cze"),
        "Filipino": ("fil", "tl", "tgl", "tagalog"),
        "Persian": ("fa", "fas", "per", "pes", "farsi"),
        "Greek": ("el", "ell", "gre"),
        "Romanian": ("ro", "ron", "rum", "mo", "moldavian"),
        "Hungarian": ("hu", "hun"),
        "Macedonian": ("mk", "mkd", "mac"),
    }
)

NAMES: Final = tuple(_LANGUAGES)
"""All languages, as the model names them."""

_DETECT: Final = frozenset({"", "auto", "und"})
_TAG: Final = re.compile(r"([a-z]{2,3})(?:-[a-z0-9]{1,8})+")
_NAME_OF: Final = {
    key: name for name, codes in _LANGUAGES.items() for key in (name.lower(), *codes)
}


class UnknownLanguage(ValueError):
    """Not one of the languages above; the text is fit for the caller."""


def parse_language(text: str) -> str | None:
    """A name or code as callers write it -> the model's name; None where it is to be detected.

    Takes names, ISO 639 codes and BCP 47 tags ("en", "ENG", "English", "en-US", "zh_CN") in any
    case; "", "auto" and "und" ask for detection. "zh-HK" means what is spoken there: Cantonese.
    Raises UnknownLanguage.
    """
    key = text.strip().lower().replace("_", "-")
    if key in _DETECT:
        return None
    if name := _NAME_OF.get(key):
        return name
    tag = _TAG.fullmatch(key)
    if tag and (name := _NAME_OF.get(tag[1])):
        return name
    raise UnknownLanguage(
        f"Language {text.strip()[:40]!r} is not supported. Leave it out to have it detected, "
        f"or send one of: {', '.join(f'{name} ({code_of(name)})' for name in NAMES)}."
    )


def code_of(name: str) -> str:
    """The model's name -> ISO 639-1 code, or 639-3 where there is none. Raises UnknownLanguage."""
    if name not in _LANGUAGES:
        raise UnknownLanguage(f"{name[:40]!r} is no name of a language that is supported.")
    return _LANGUAGES[name][0]
