"""Where cues and their lines end. Pure; times are milliseconds, widths are columns.

Both are searches for the cheapest set of breaks. Costs have no unit: what matters is that a cue
that cannot be read in time costs more than an ugly break, and that more than one cue too many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise

from gateway.formats.cue_rules import CueRules
from gateway.formats.cue_syntax import SENTENCE
from gateway.formats.cue_words import Unit, joined

_EACH_CUE = 1.0
_CUE_BREAK = 1.6  # times what gateway.formats.cue_syntax says
_LINE_BREAK = 0.3  # times the same, between a cue's two lines
_SENTENCE_INSIDE = 0.5
_PAUSE_INSIDE = 1.5  # a second
_PAUSE_AFTER = 2.0  # a second, off the cost of a break there
AUDIBLE_PAUSE_MS = 150
"""Shorter ones lie inside words too."""

_TOO_SHORT = 3.0
_TOO_FAST = 1.5


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules in whole milliseconds, as the search needs them."""

    line_columns: int
    lines: int
    min_ms: int
    max_ms: int
    columns_per_ms: float
    gap_ms: int
    pause_ms: int
    linger_ms: int


def limits_of(rules: CueRules) -> Limits:
    return Limits(
        line_columns=rules.max_line_chars,
        lines=rules.max_lines,
        min_ms=round(rules.min_duration * 1000),
        max_ms=round(rules.max_duration * 1000),
        columns_per_ms=rules.reading_speed / 1000,
        gap_ms=round(rules.gap * 1000),
        pause_ms=round(rules.pause * 1000),
        linger_ms=round(rules.linger * 1000),
    )


def cue_ends(
    units: Sequence[Unit], costs: Sequence[float], limits: Limits, following: int | None
) -> list[int]:
    """Behind which unit each cue ends, for the cheapest way to part the units into cues.

    costs are those of a break behind each unit; following is when the next unit after all of these
    is said. A cue never exceeds its lines; it exceeds its time only where one unit does.
    """
    layout = _Layout.of(units)
    lines = _Lines.of(layout, limits)
    next_starts = [unit.start for unit in units[1:]]
    next_starts.append(units[-1].end + limits.pause_ms if following is None else following)
    pauses = [max(0, after - unit.end) for unit, after in zip(units, next_starts, strict=True)]
    outer = [
        max(0.0, _CUE_BREAK * cost - _PAUSE_AFTER * pause / 1000)
        for cost, pause in zip(costs, pauses, strict=True)
    ]
    inner = [0.0, *accumulate(map(_cost_inside, costs, pauses))]
    best = [0.0] + [float("inf")] * len(units)
    origin = [0] * (len(units) + 1)
    for i in range(len(units)):
        for j, cost in _costs_from(i, units, layout, lines.reach[i], next_starts, limits):
            if j > lines.last[i]:
                cost += _LINE_BREAK * lines.cost_of_second(i, j, costs)
            total = best[i] + cost + outer[j] + inner[j] - inner[i]
            if total < best[j + 1]:
                best[j + 1] = total
                origin[j + 1] = i
    return _path(origin)


def line_ends(units: Sequence[Unit], costs: Sequence[float], limits: Limits) -> list[int]:
    """Behind which unit each line of a cue ends: as few lines as fit, cut where it hurts least.

    Text for which the lines do not suffice gets all of them, as even as can be.
    """
    layout = _Layout.of(units)
    last = len(units) - 1
    for lines in range(1, limits.lines + 1):
        options = [
            (_line_cost(ends, layout, costs, limits), ends)
            for ends in _ways_to_cut(last, lines)
            if lines == limits.lines or _fits(ends, layout, limits)
        ]
        if options:
            return list(min(options)[1])
    return [last]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where each unit begins and ends, if all stand in one line."""

    starts: list[int]
    ends: list[int]

    @staticmethod
    def of(units: Sequence[Unit]) -> "_Layout":
        starts, ends = [], []
        position = 0
        for unit in units:
            position += unit.follows_space
            starts.append(position)
            position += unit.columns
            ends.append(position)
        return _Layout(starts, ends)

    def width(self, first: int, last: int) -> int:
        return self.ends[last] - self.starts[first]


@dataclass(frozen=True, slots=True)
class _Lines:
    """How far lines reach: each list has an entry for each unit."""

    last: list[int]
    """The last unit that fits into a line that begins with this one."""
    first: list[int]
    """The first unit of the longest line that ends with this one."""
    reach: list[int]
    """The last unit that fits into a cue that begins with this one."""

    @staticmethod
    def of(layout: _Layout, limits: Limits) -> "_Lines":
        units = len(layout.starts)
        last, first = [0] * units, list(range(units))
        end = 0
        for begin in range(units):
            end = max(end, begin)
            while end + 1 < units and layout.width(begin, end + 1) <= limits.line_columns:
                end += 1
                first[end] = begin
            last[begin] = end
        reach = last
        for _ in range(limits.lines - 1):
            reach = [last[min(end + 1, units - 1)] for end in reach]
        return _Lines(last, first, reach)

    def cost_of_second(self, i: int, j: int, costs: Sequence[float]) -> float:
        """The cost of the best break between the two lines of units i to j; 0 if they need more."""
        ends = costs[max(i, self.first[j] - 1) : self.last[i] + 1]
        return min(ends) if ends else 0.0


def _cost_inside(cost: float, pause: int) -> float:
    """What it costs not to break here."""
    inside = _SENTENCE_INSIDE if cost == SENTENCE else 0.0
    return inside + (_PAUSE_INSIDE * pause / 1000 if pause >= AUDIBLE_PAUSE_MS else 0.0)


def _costs_from(
    i: int,
    units: Sequence[Unit],
    layout: _Layout,
    reach: int,
    next_starts: Sequence[int],
    limits: Limits,
) -> Iterator[tuple[int, float]]:
    """The last units and costs of all cues that unit i may begin, breaks aside."""
    start = units[i].start
    begin = layout.starts[i]
    capacity = limits.line_columns * limits.lines
    for j in range(i, reach + 1):
        spoken = units[j].end - start
        if spoken > limits.max_ms and j > i:
            return
        shown = max(1, min(next_starts[j] - limits.gap_ms - start, limits.max_ms))
        width = layout.ends[j] - begin
        slack = 1 - width / capacity
        cost = _EACH_CUE + slack * slack
        if shown < limits.min_ms:
            cost += _TOO_SHORT * (2 - shown / limits.min_ms)
        excess = width / (limits.columns_per_ms * min(shown, spoken + limits.linger_ms)) - 1
        if excess > 0:
            cost += _TOO_FAST + min(2.0, 2 * excess)
        yield j, cost


def _path(origin: Sequence[int]) -> list[int]:
    ends = []
    position = len(origin) - 1
    while position > 0:
        ends.append(position - 1)
        position = origin[position]
    return ends[::-1]


def _ways_to_cut(last: int, lines: int) -> Iterator[tuple[int, ...]]:
    for inner in combinations(range(last), lines - 1):
        yield (*inner, last)


def _widths(ends: Sequence[int], layout: _Layout) -> list[int]:
    firsts = [0, *(end + 1 for end in ends[:-1])]
    return [layout.width(first, last) for first, last in zip(firsts, ends, strict=True)]


def _fits(ends: Sequence[int], layout: _Layout, limits: Limits) -> bool:
    firsts = [0, *(end + 1 for end in ends[:-1])]
    return all(
        first == last or layout.width(first, last) <= limits.line_columns
        for first, last in zip(firsts, ends, strict=True)
    )


def _line_cost(
    ends: Sequence[int], layout: _Layout, costs: Sequence[float], limits: Limits
) -> float:
    """Even lines are good, a shorter one on top is next, an ugly break is worst of all."""
    widths = _widths(ends, layout)
    overlong = sum(max(0, width - limits.line_columns) for width in widths)
    uneven = (max(widths) - min(widths)) / limits.line_columns
    top_heavy = sum(max(0, upper - lower) for upper, lower in pairwise(widths))
    breaks = sum(costs[end] for end in ends[:-1])
    return 100 * overlong + breaks + 1.5 * uneven + 0.5 * top_heavy / limits.line_columns


def lines_of(units: Sequence[Unit], ends: Sequence[int]) -> tuple[str, ...]:
    firsts = [0, *(end + 1 for end in ends[:-1])]
    return tuple(joined(units[first : last + 1]) for first, last in zip(firsts, ends, strict=True))
