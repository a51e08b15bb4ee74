"""Repair of the loops a speech model falls into: one unit written over and over.

Works on characters, so that words, phrases and languages without spaces are one case. A loop is
long; what people say again and again is short. The line between them (_copies_needed) is upstream's
for short units: qwen-asr 0.0.6 collapses from 20 copies on, of units up to 20 characters. Loops run
to the token limit (512 tokens: 100 copies of a short phrase, 20 of a sentence), so there is
room above everything people say within a chunk: laughter, "no no no", a chant, a refrain.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

_SHORT_WEIGHT: Final = 12
_SHORT_COPIES: Final = 21
# For longer units the whole stretch counts: some 50 words of one thing.
_STRETCH_WEIGHT: Final = 260
# A long sentence word for word four times over takes half a minute to say; nobody does.
_SENTENCE_WEIGHT: Final = 100
_SENTENCE_COPIES: Final = 4
_PHRASE_COPIES: Final = 5
# Text that was still being written when the tokens ran out is a loop already half proven.
_CUT_OFF_SHARE: Final = 1 / 3
_CUT_OFF_COPIES: Final = 3

_WIDE_WEIGHT: Final = 3
_WIDE: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_WORD: Final = re.compile(r"\w+")
_DIGIT_WORDS: Final = frozenset(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)
_DIGIT_CHARACTERS: Final = frozenset("零〇一二三四五六七八九幺兩两")


@dataclass(frozen=True, slots=True)
class Repetition:
    """text[start:end] repeats with `period`; the last copy may be incomplete."""

    start: int
    end: int
    period: int


def repair_repetitions(text: str, is_cut_off: bool = False, settled: int = 0) -> str:
    """Leave one copy of each unit that is repeated beyond what people say; digits stay.

    `is_cut_off`: generation ended at the token limit, so a loop at the end needs fewer copies.
    `settled`: so many characters from the start, which end in no white space, are with the caller
    already and stay, whatever they repeat. Idempotent, and linear but for a logarithm.
    """
    while True:
        shorter = _shortened(text, is_cut_off, settled)
        if shorter == text and is_cut_off:  # the loop at the end is settled; others may not be
            shorter = _shortened(text, False, settled)
        if shorter == text:
            return text
        text = shorter


def _shortened(text: str, is_cut_off: bool, settled: int) -> str:
    for stretch in reversed(find_repetitions(text, is_cut_off)):
        text = _without_copies(text, stretch, settled)
    return text


def find_repetitions(text: str, is_cut_off: bool = False) -> list[Repetition]:
    """Stretches repair_repetitions shortens in its next step, in order and not overlapping.

    None where it changes nothing; loops within loops show up once the inner ones are gone.
    """
    last = _loop_at_end(text) if is_cut_off else None
    return [last] if last else _Search(text).run()


class _Search:
    """Finds every stretch with enough copies, the shortest periods first.

    A stretch of four copies holds three multiples of its period, and at one of them at least two
    copies begin. So it is enough to look there: n/1 + n/2 + ... places in all.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        # Where to go on from a position that a shorter period has explained already.
        self._explained_to = [0] * len(text)
        self._found: list[Repetition] = []

    def run(self) -> list[Repetition]:
        for period in range(1, len(self._text) // _SENTENCE_COPIES + 1):
            self._look_for(period)
        return sorted(self._found, key=lambda each: each.start)

    def _look_for(self, period: int) -> None:
        text, explained_to = self._text, self._explained_to
        last = len(text) - 2 * period
        place = 0
        while place <= last:
            if text[place] != text[place + period]:
                place += period
            elif explained_to[place]:
                place = -(-explained_to[place] // period) * period
            elif _repeats(text, place, period):
                stretch = _widened(text, place, period)
                self._judge(stretch)
                place = max(place + period, stretch.end // period * period)
            else:
                place += period

    def _judge(self, stretch: Repetition) -> None:
        if _copies(stretch) < _copies_needed(_unit(self._text, stretch)):
            return
        length = stretch.end - stretch.start
        overlaps = any(self._explained_to[stretch.start : stretch.end])
        self._explained_to[stretch.start : stretch.end] = [stretch.end] * length
        if not overlaps and not _is_number(_unit(self._text, stretch)):
            self._found.append(stretch)


def _repeats(text: str, place: int, period: int) -> bool:
    """Compares a little first: nearly all places fail there."""
    if period > 16 and not text.startswith(text[place : place + 16], place + period):
        return False
    return text.startswith(text[place : place + period], place + period)


def _widened(text: str, place: int, period: int) -> Repetition:
    start, end = place, place + 2 * period
    while start and text[start - 1] == text[start - 1 + period]:
        start -= 1
    while end < len(text) and text[end] == text[end - period]:
        end += 1
    return Repetition(start, end, period)


def _loop_at_end(text: str) -> Repetition | None:
    """The shortest period in which the end of a text repeats often enough for one cut off."""
    matches = _prefix_matches(text[::-1])
    for period in range(1, len(text) // _CUT_OFF_COPIES + 1):
        stretch = Repetition(len(text) - period - matches[period], len(text), period)
        if _copies(stretch) < _CUT_OFF_COPIES:
            continue
        unit = _unit(text, stretch)
        needed = max(_CUT_OFF_COPIES, round(_copies_needed(unit) * _CUT_OFF_SHARE))
        if _copies(stretch) >= needed:
            return None if _is_number(unit) else stretch
    return None


def _prefix_matches(text: str) -> list[int]:
    """How many characters from each position on equal the beginning (the Z function)."""
    matches = [0] * len(text)
    left = right = 0
    for place in range(1, len(text)):
        length = min(right - place, matches[place - left]) if place < right else 0
        while place + length < len(text) and text[length] == text[place + length]:
            length += 1
        matches[place] = length
        if place + length > right:
            left, right = place, place + length
    return matches


def _copies(stretch: Repetition) -> int:
    return (stretch.end - stretch.start) // stretch.period


def _copies_needed(unit: str) -> int:
    weight = _weight(unit)
    if weight <= _SHORT_WEIGHT:
        return _SHORT_COPIES
    least = _SENTENCE_COPIES if weight >= _SENTENCE_WEIGHT else _PHRASE_COPIES
    return max(least, -(-_STRETCH_WEIGHT // weight))


def _weight(unit: str) -> int:
    """Letters; a Chinese, Japanese or Korean character says as much as three."""
    letters = sum(map(str.isalnum, unit))
    return letters + (_WIDE_WEIGHT - 1) * len(_WIDE.findall(unit))


def _is_number(unit: str) -> bool:
    """Numbers repeat for reasons of their own: telephone, account, serial numbers."""
    words = _WORD.findall(unit.lower())
    return bool(words) and all(
        word in _DIGIT_WORDS or all(c.isdigit() or c in _DIGIT_CHARACTERS for c in word)
        for word in words
    )


def _unit(text: str, stretch: Repetition) -> str:
    start = _unit_start(text, stretch)
    return text[start : start + stretch.period]


def _unit_start(text: str, stretch: Repetition) -> int:
    """Where a word begins within the first copy, if anywhere."""
    for place in range(stretch.start, stretch.start + stretch.period + 1):
        if not _separates(text[place]) and (place == 0 or _separates(text[place - 1])):
            return place
    return stretch.start


def _separates(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith("P")


def _without_copies(text: str, stretch: Repetition, settled: int) -> str:
    if stretch.end == len(text):  # an incomplete last copy goes too
        return text[: max(settled, _unit_start(text, stretch) + stretch.period)].rstrip()
    free = max(0, stretch.end - max(settled, stretch.start + stretch.period))
    surplus = free // stretch.period * stretch.period
    return text[: stretch.end - surplus] + text[stretch.end :]
