"""A text -> its words, and when each is said where no aligner tells. Pure.

Positions are samples at 16 kHz of the recording.
"""

import unicodedata
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, Protocol

from protocol.limits import SAMPLE_RATE
from protocol.transcription import Word
from worker.text import scripts

MIN_WORD_SAMPLES: Final = SAMPLE_RATE // 50
"""20 ms, where the speech has room for it; a sample, where it has not."""

# A pause falls behind a word that ends a sentence, or a clause, rather than where counting letters
# puts it, if spans misfit less than so much more. With spans of 2 s: 0.7 or 0.5 s beside it.
_SENTENCE_BONUS: Final = 0.4 * SAMPLE_RATE
_CLAUSE_BONUS: Final = 0.2 * SAMPLE_RATE
# Of digits strung together with pauses of 0.05 to 0.5 s, 89 % then overlap where they are said;
# 85 % where misfits are not squared, 80 % where pauses are placed one after the other.
_SLACK: Final = 0.3 * SAMPLE_RATE
_WORDS_AROUND: Final = 12

# Written small or as a mark, they are half of the sound before them.
_JOINED_TO_PREVIOUS: Final = frozenset(
    "ゃゅょぁぃぅぇぉっゎャュョァィゥェォッヮะาำๅະາຳ\u200c\u200d"
)
_VOWELS_BEFORE_CONSONANTS: Final = frozenset("เแโใไເແໂໃໄ")


class _Sharing(NamedTuple):
    """Words shared out to the first spans: (0, words by the end of the first, ...)."""

    cost: float
    cuts: tuple[int, ...]


class Stretch(Protocol):
    """Samples [start, end) in which somebody speaks."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A word as text[start:end], with the punctuation behind it."""

    start: int
    end: int


def words_of(text: str, language: str | None) -> list[str]:
    """The words in order, each as it stands in the text; only spaces are left out.

    Punctuation belongs to the word before it, opening brackets to the one behind. Scripts without
    spaces come in characters (Thai and its relatives with the vowels around them).
    """
    return [text[piece.start : piece.end] for piece in pieces_of(text, language)]


def pieces_of(text: str, language: str | None) -> list[Piece]:
    """words_of by position in the text."""
    begins = [
        position
        for position in range(len(text))
        if not text[position].isspace() and _is_word_begin(text, position, language)
    ]
    whole = [
        Piece(begin, begin + len(text[begin:end].rstrip()))
        for begin, end in pairwise([*begins, len(text)])
    ]
    return _with_sound(text, whole)


def estimated_words(text: str, language: str | None, spans: Sequence[Stretch]) -> tuple[Word, ...]:
    """The words of words_of over the time of `spans`, which are in order, apart and not empty.

    In order, each inside one span, longer words longer. They do not overlap, unless the spans have
    fewer samples than the text words. Raises ValueError for words without a span.
    """
    words = words_of(text, language)
    if not words:
        return ()
    if not spans:
        raise ValueError("words need a span to be said in")
    times = []
    for span, (first, last) in zip(spans, _shared_out(words, spans), strict=True):
        times += _laid_out(words[first:last], span)
    return tuple(
        Word(start, end, word, is_estimated=True)
        for word, (start, end) in zip(words, times, strict=True)
    )


def _is_word_begin(text: str, position: int, language: str | None) -> bool:
    """At a character that is no space."""
    if position == 0 or text[position - 1].isspace():
        return True
    if language == "Korean":  # spaced, Chinese characters in it too
        return False
    previous, character = text[position - 1], text[position]
    if previous in _VOWELS_BEFORE_CONSONANTS or _is_opening(previous):
        return False
    if _is_opening(character):
        return scripts.is_unspaced(previous) or scripts.is_unspaced(character)
    if not scripts.is_spoken(character) or character in _JOINED_TO_PREVIOUS:
        return False
    if unicodedata.category(character) == "Lm":  # marks of length and repetition
        return False
    return scripts.is_unspaced(character) or _last_spoken_is_unspaced(text, position)


def _last_spoken_is_unspaced(text: str, position: int) -> bool:
    """Whether Latin letters or digits here follow a script without spaces."""
    while position and not text[position - 1].isspace():
        position -= 1
        if scripts.is_spoken(text[position]):
            return scripts.is_unspaced(text[position])
    return False


def _is_opening(character: str) -> bool:
    return unicodedata.category(character) in ("Ps", "Pi")


def _with_sound(text: str, pieces: Sequence[Piece]) -> list[Piece]:
    """What has only punctuation joins the piece before it, or at the beginning the one behind."""
    joined: list[Piece] = []
    silent_from: int | None = None
    for piece in pieces:
        if any(map(scripts.is_spoken, text[piece.start : piece.end])):
            joined.append(Piece(piece.start if silent_from is None else silent_from, piece.end))
            silent_from = None
        elif joined:
            joined[-1] = Piece(joined[-1].start, piece.end)
        elif silent_from is None:
            silent_from = piece.start
    if silent_from is not None:
        joined.append(Piece(silent_from, pieces[-1].end))
    return joined


def _shared_out(words: Sequence[str], spans: Sequence[Stretch]) -> list[tuple[int, int]]:
    """For each span the words [first, last) said in it, so that lengths fit and pauses fall behind
    punctuation.

    By dynamic programming over how many words are said by the end of each span; only counts near
    those by letters alone are looked at.
    """
    spoken = list(accumulate((span.end - span.start for span in spans), initial=0))
    weights = list(accumulate(map(_weight, words), initial=0.0))
    ends = [spoken[-1] * weight / weights[-1] for weight in weights]
    bonuses = [0.0, *map(_bonus, words)]
    best = {0: _Sharing(0.0, (0,))}
    for number, pause in enumerate(spoken[1:], start=1):
        nearest = bisect(ends, pause) - 1
        counts = range(max(0, nearest - _WORDS_AROUND), nearest + _WORDS_AROUND + 1)
        if number == len(spans):
            counts = range(len(words), len(words) + 1)
        length = pause - spoken[number - 1]
        best = {
            count: min(
                (
                    _Sharing(
                        before.cost + _misfit(length, ends[count] - ends[first]) - bonuses[count],
                        (*before.cuts, count),
                    )
                    for first, before in best.items()
                    if first <= count
                ),
                key=lambda sharing: sharing.cost,
            )
            for count in counts
            if min(best) <= count <= len(words)
        }
    return list(pairwise(best[len(words)].cuts))


def _misfit(length: float, estimate: float) -> float:
    """Samples; the variance of a guess at speech grows with its length."""
    return (length - estimate) ** 2 / (length + _SLACK)


def _bonus(word: str) -> float:
    if scripts.ends_sentence(word):
        return _SENTENCE_BONUS
    return _CLAUSE_BONUS if scripts.ends_clause(word) else 0.0


def _weight(word: str) -> float:
    return max(1.0, scripts.letters(word))


def _laid_out(words: Sequence[str], span: Stretch) -> list[tuple[int, int]]:
    """(start, end) of each, together the whole span."""
    if not words:
        return []
    length = span.end - span.start
    if length < len(words):
        starts = [span.start + number * length // len(words) for number in range(len(words))]
        return [(start, start + 1) for start in starts]
    least = min(MIN_WORD_SAMPLES, length // len(words))
    shared = length - least * len(words)
    weights = list(accumulate(map(_weight, words), initial=0.0))
    edges = [
        span.start + least * number + int(shared * weight / weights[-1])
        for number, weight in enumerate(weights)
    ]
    return list(pairwise([*edges[:-1], span.end]))
