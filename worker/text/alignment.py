"""Units of a text with measured times -> the text's words with times. Pure.

A forced aligner is given a text in units (words without punctuation, characters of Chinese) and
says when each is said, in steps of some 80 ms: equal and descending times are common.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Final

from protocol.transcription import Word
from worker.text.word_times import MIN_WORD_SAMPLES, Piece, pieces_of

MOST_UNMEASURED_SHARE: Final = 0.5
"""With more words than that out of order or without length, times say nothing of the text."""
MOST_UNMEASURED_RUN: Final = 8
"""Nor do they with more such words in a row: the aligner lost its place."""

# Those the aligner knows as such: to extension E, without the supplements since.
_IDEOGRAPHS: Final = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF))


@dataclass(frozen=True, slots=True)
class TimedUnit:
    """A unit and the samples [start, end) of the chunk in which it is said, as they were told:
    in any order, also empty or outside the chunk."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Alignment:
    """What an aligner said of a text."""

    text: str
    units: tuple[TimedUnit, ...]


@dataclass(frozen=True, slots=True)
class TimedText:
    """Words and where in the text each stands."""

    pieces: tuple[Piece, ...]
    words: tuple[Word, ...]


def kept(text: str) -> str:
    """What of a text an aligner is given: letters, digits and straight apostrophes."""
    return "".join(char for char in text if char == "'" or unicodedata.category(char)[0] in "LN")


def units_of(text: str) -> list[str]:
    """The units of a text in a spaced script or in Chinese: each ideograph is one."""
    units: list[str] = []
    for part in text.split():
        for is_ideograph, run in groupby(kept(part), _is_ideograph):
            letters = "".join(run)
            units += list(letters) if is_ideograph else [letters]
    return units


def timed_words(alignment: Alignment, language: str | None, *, start: int, end: int) -> TimedText:
    """The text's words inside samples [start, end), the chunk; none where the times are nonsense.

    In order, never empty, apart. A word is what the aligner and words_of both take for whole: at
    least a unit, with the punctuation and symbols around it. It is marked as estimated where its
    own times had no length or did not fit to those of the others.
    """
    text, units = alignment.text, alignment.units
    pieces = pieces_of(text, language)
    groups = _groups(text, pieces, units)
    if not groups or end - start < len(groups):
        return TimedText((), ())
    stamps = [
        min(max(start + stamp, start), end)
        for group in groups
        for stamp in (units[group.first_unit].start, units[group.last_unit - 1].end)
    ]
    in_order = _longest_ascent(stamps)
    is_measured = [
        first and last and stamps[2 * number] < stamps[2 * number + 1]
        for number, (first, last) in enumerate(zip(in_order[::2], in_order[1::2], strict=True))
    ]
    if _is_nonsense(is_measured):
        return TimedText((), ())
    spans = _apart(_filled(stamps, in_order), start, end)
    return TimedText(
        tuple(group.piece for group in groups),
        tuple(
            Word(*span, text[group.piece.start : group.piece.end], is_estimated=not measured)
            for group, span, measured in zip(groups, spans, is_measured, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """A stretch of text that is whole pieces and whole units [first_unit, last_unit)."""

    piece: Piece
    first_unit: int
    last_unit: int


def _groups(text: str, pieces: Sequence[Piece], units: Sequence[TimedUnit]) -> list[_Group]:
    """Empty where the units do not spell the text: some tokenisers write it anew."""
    for spelling in (kept, _composed):
        written = [spelling(text[piece.start : piece.end]) for piece in pieces]
        heard = [spelling(unit.text) for unit in units]
        if heard and "".join(written) == "".join(heard) != "":
            return _common(pieces, list(map(len, written)), list(map(len, heard)))
    return []


def _composed(text: str) -> str:
    return kept(unicodedata.normalize("NFKC", text))


def _common(pieces: Sequence[Piece], written: Sequence[int], heard: Sequence[int]) -> list[_Group]:
    """Parts the text where a piece and a unit end at the same letter; lengths are in letters."""
    piece_ends = list(accumulate(written))
    unit_ends = list(accumulate(heard))
    groups: list[_Group] = []
    # By the last piece that ends there, so that what has no letters joins the word before it.
    last_piece = {end: number + 1 for number, end in enumerate(piece_ends)}
    last_unit = {end: number + 1 for number, end in enumerate(unit_ends)}
    first = (0, 0)
    for end in sorted(last_piece.keys() & last_unit.keys()):
        if end == 0:  # nothing but symbols so far; they join the word behind them
            continue
        last = (last_piece[end], last_unit[end])
        piece = Piece(pieces[first[0]].start, pieces[last[0] - 1].end)
        groups.append(_Group(piece, first[1], last[1]))
        first = last
    return groups


def _is_ideograph(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)


def _is_nonsense(is_measured: Sequence[bool]) -> bool:
    runs = [len(list(run)) for measured, run in groupby(is_measured) if not measured]
    unmeasured = sum(runs)
    return (
        unmeasured > MOST_UNMEASURED_SHARE * len(is_measured)
        or max(runs, default=0) > MOST_UNMEASURED_RUN
    )


def _longest_ascent(stamps: Sequence[int]) -> list[bool]:
    """Which stamps belong to the longest sequence of them that never descends."""
    ends: list[int] = []
    """The least stamp at which an ascent of each length can end."""
    holders: list[int] = []
    before: list[int | None] = []
    for number, stamp in enumerate(stamps):
        length = bisect_right(ends, stamp)
        before.append(holders[length - 1] if length else None)
        ends[length : length + 1] = [stamp]
        holders[length : length + 1] = [number]
    belongs = [False] * len(stamps)
    number_or_none = holders[-1] if holders else None
    while number_or_none is not None:
        belongs[number_or_none] = True
        number_or_none = before[number_or_none]
    return belongs


def _filled(stamps: Sequence[int], in_order: Sequence[bool]) -> list[int]:
    """Stamps out of order, replaced by even steps between those around them that are in order."""
    known = [number for number, fits in enumerate(in_order) if fits]
    filled = list(stamps)
    filled[: known[0]] = [stamps[known[0]]] * known[0]
    filled[known[-1] :] = [stamps[known[-1]]] * (len(stamps) - known[-1])
    for left, right in pairwise(known):
        for number in range(left + 1, right):
            share = (number - left) / (right - left)
            filled[number] = stamps[left] + int(share * (stamps[right] - stamps[left]))
    return filled


def _apart(stamps: Sequence[int], start: int, end: int) -> list[tuple[int, int]]:
    """Spans of ascending stamps, moved as little as gives each its least length in [start, end)."""
    least = min(MIN_WORD_SAMPLES, (end - start) // (len(stamps) // 2))
    spans: list[tuple[int, int]] = []
    floor = start
    for begin, stop in zip(stamps[::2], stamps[1::2], strict=True):
        begin = max(begin, floor)
        floor = max(stop, begin + least)
        spans.append((begin, floor))
    ceiling = end
    for number in reversed(range(len(spans))):
        begin, stop = spans[number]
        stop = min(stop, ceiling)
        ceiling = min(begin, stop - least)
        spans[number] = (ceiling, stop)
    return spans
