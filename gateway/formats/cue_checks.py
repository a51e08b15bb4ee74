"""Finds what in finished cues breaks their rules. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from gateway.formats.cue_rules import CueRules
from gateway.formats.cues import Cue
from gateway.formats.display_width import columns

_ROUNDING = 0.001
"""Seconds: cues stand at whole milliseconds."""


class Rule(StrEnum):
    """What a cue can break."""

    TIME = "ends before it starts"
    ORDER = "starts before the one before it ends"
    TOO_LONG = "longer than max_duration"
    EMPTY = "without text"
    TOO_MANY_LINES = "more than max_lines"
    LINE_TOO_WIDE = "a line is wider than max_line_chars"
    TOO_SHORT = "shorter than min_duration"
    TOO_FAST = "faster than reading_speed"
    NO_GAP = "closer than gap to the one before it"


SOFT = frozenset({Rule.TOO_SHORT, Rule.TOO_FAST, Rule.NO_GAP})
"""Those that fast speech may leave no time for; all others always hold."""


@dataclass(frozen=True, slots=True)
class Violation:
    index: int
    """Of the cue, counted from 0."""
    rule: Rule


def violations(cues: Sequence[Cue], rules: CueRules) -> list[Violation]:
    """All broken rules, in order of the cues."""
    found = [
        Violation(index, rule) for index, cue in enumerate(cues) for rule in _of_one(cue, rules)
    ]
    for index, (before, cue) in enumerate(pairwise(cues), start=1):
        if cue.start < before.end:
            found.append(Violation(index, Rule.ORDER))
        elif cue.start - before.end < rules.gap - _ROUNDING:
            found.append(Violation(index, Rule.NO_GAP))
    return sorted(found, key=lambda violation: violation.index)


def _of_one(cue: Cue, rules: CueRules) -> Iterator[Rule]:
    duration = cue.end - cue.start
    if duration <= 0:
        yield Rule.TIME
    elif columns(cue.text) / duration > rules.reading_speed * (1 + _ROUNDING):
        yield Rule.TOO_FAST
    if duration < rules.min_duration - _ROUNDING:
        yield Rule.TOO_SHORT
    if duration > rules.max_duration + _ROUNDING:
        yield Rule.TOO_LONG
    if not cue.lines or not all(cue.lines):
        yield Rule.EMPTY
    if len(cue.lines) > rules.max_lines:
        yield Rule.TOO_MANY_LINES
    if any(columns(line) > rules.max_line_chars for line in cue.lines):
        yield Rule.LINE_TOO_WIDE
