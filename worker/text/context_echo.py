"""Recognises a transcript that is no transcript but the prompt handed back.

Given context or keywords and nothing to hear, the model may write the context (Qwen3-ASR issue
106). Whether there was anything to hear is for the caller to say: people do speak keywords.
"""

import re
import unicodedata
from typing import Final

LEAST_WORDS: Final = 4
"""A shorter stretch of the context may well have been said."""

# Scripts without spaces have no words to count: each character of theirs stands for one.
_WORD: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"|[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_MARK_CATEGORIES: Final = frozenset({"Mn", "Me"})


def is_copy_of_context(text: str, context: str) -> bool:
    """True where all of `text` is the whole context, or at least LEAST_WORDS words of it in a row.

    Case, punctuation, accents and width do not count. An empty text copies nothing.
    """
    words, context_words = _words(text), _words(context)
    if not words:
        return False
    if words == context_words:
        return True
    return len(words) >= LEAST_WORDS and _contains(context_words, words)


def may_become_copy_of_context(beginning: str, context: str) -> bool:
    """Whether a text that begins with these whole words could be a copy of the context."""
    words = _words(beginning)
    return not words or _contains(_words(context), words)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    letters = (c for c in plain if unicodedata.category(c) not in _MARK_CATEGORIES)
    return _WORD.findall(unicodedata.normalize("NFC", "".join(letters)))


def _contains(words: list[str], stretch: list[str]) -> bool:
    """Joined by a character that is in no word, so that the substring search sees whole words."""
    return f"\0{chr(0).join(stretch)}\0" in f"\0{chr(0).join(words)}\0"
