"""What scripts write where: words without spaces, ends of sentences. Pure."""

import unicodedata
from typing import Final

from protocol.scripts import is_unspaced as is_unspaced  # with the rest, for who asks of scripts

_KANA: Final = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
_IDEOGRAPHS: Final = ((0x2E80, 0x2FDF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_HANGUL_SYLLABLES: Final = ((0xAC00, 0xD7A3),)
_CLOSING: Final = "\"'”’»›)]}）】」』》〉］｝"
_SENTENCE_ENDS: Final = frozenset(".!?…。！？．｡؟۔।॥")
_CLAUSE_ENDS: Final = frozenset(",;:，、；：､،؛–—")


def is_spoken(character: str) -> bool:
    """Whether it sounds: letters, digits and symbols like %; not punctuation, space or marks."""
    return unicodedata.category(character)[0] in "LN" or character in "%$€£¥&@°+="


def ends_sentence(word: str) -> bool:
    """Whether a word, punctuation included, is the last of a sentence."""
    return word.rstrip(_CLOSING)[-1:] in _SENTENCE_ENDS


def ends_clause(word: str) -> bool:
    """Whether a speaker may pause behind the word, short of the sentence's end."""
    return word.rstrip(_CLOSING)[-1:] in _CLAUSE_ENDS


def letters(text: str) -> float:
    """About how long it takes to say, in letters of an alphabet.

    A syllable is some three letters long, so is an ideograph; a kana is a short syllable; digits
    and symbols are whole words.
    """
    return sum(map(_letters_of, text))


def _letters_of(character: str) -> float:
    kind = unicodedata.category(character)
    if kind[0] == "M":
        return 0.5  # vowel signs of Indic scripts; accents make no difference to speak of
    if not is_spoken(character):
        return 0.0
    if _is_among(character, _IDEOGRAPHS) or _is_among(character, _HANGUL_SYLLABLES):
        return 3.0
    if _is_among(character, _KANA):
        return 2.0
    return 1.0 if kind[0] == "L" else 4.0


def _is_among(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)
