"""Turns a transcript's segments into subtitle cues. Pure; nothing of the audio is needed.

Each channel is parted by itself: for certain at pauses and where another channel's speaker falls
in, else where gateway.formats.cue_breaking finds it cheapest. Then the cues of all channels stand
in one row in time. What always holds: cues are in order and never overlap, each lasts some time and
at most max_duration, has at most max_lines lines, none wider than max_line_chars, and all text is
there once. Reading speed, shortest time and gap hold where speech leaves the time.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from math import ceil
from typing import NamedTuple

from gateway.formats.cue_breaking import (
    AUDIBLE_PAUSE_MS,
    Limits,
    cue_ends,
    limits_of,
    line_ends,
    lines_of,
)
from gateway.formats.cue_rules import CueRules, rules_for
from gateway.formats.cue_syntax import Syntax
from gateway.formats.cue_words import SAMPLES_PER_MS, Unit, spaced_after, units_of
from gateway.formats.display_width import columns
from gateway.formats.transcripts import needs_space
from protocol.transcription import Segment

__all__ = ["Cue", "CueRules", "CueWord", "cues_of", "iter_cues", "rules_for", "with_text"]

_LEAST_MS = 40
"""A frame at 25 a second: what the densest speech leaves a cue."""
_SEARCHED_UNITS = 512
"""How much is parted in one search where no pause ends it earlier."""


@dataclass(frozen=True, slots=True)
class CueWord:
    """A word with its punctuation, or a character of a script without spaces. Times are seconds."""

    start: float
    end: float
    text: str
    follows_space: bool
    """Whether a space stands before it where it does not begin a line."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle on screen. Times are seconds, whole milliseconds."""

    start: float
    end: float
    lines: tuple[str, ...]
    words: tuple[CueWord, ...]
    """What the lines consist of; none where the text is not what was said, as in a translation."""
    speaker: str | None
    """None where channels were not told apart."""

    @property
    def text(self) -> str:
        """All lines as one."""
        if self.words:
            spaced = (" " + word.text if word.follows_space else word.text for word in self.words)
            return "".join(spaced).strip()
        text = ""
        for line in self.lines:
            text += " " if text and line and needs_space(text[-1], line[0]) else ""
            text += line
        return text


def cues_of(
    segments: Sequence[Segment], rules: CueRules, *, until: float | None = None
) -> list[Cue]:
    """The cues of a transcript; until is the recording's length in seconds, where known."""
    return list(iter_cues(segments, rules, until=until))


def iter_cues(
    segments: Sequence[Segment], rules: CueRules, *, until: float | None = None
) -> Iterator[Cue]:
    """As cues_of, one by one; holds a few hundred words at a time besides the segments.

    Segments of one channel are in order; those of several may stand in any.
    """
    limits = limits_of(rules)
    syntax = Syntax(rules.language)
    rows = [
        _drafts(
            _units(segments, channel, limits),
            speaker_name(channel),
            _starts_of_others(segments, channel),
            syntax,
            limits,
        )
        for channel in dict.fromkeys(segment.channel for segment in segments)
    ]
    end = None if until is None else int(until * 1000)
    return _timed(merge(*rows, key=lambda draft: draft.start), limits, end)


def speaker_name(channel: int | None) -> str | None:
    """What a channel's speaker is called in subtitles."""
    return None if channel is None else f"Speaker {channel + 1}"


def with_text(cue: Cue, text: str, rules: CueRules) -> Cue:
    """The same cue in other words, such as a translation. Lines are overlong where it is too."""
    segment = Segment(
        start=0,
        end=0,
        text=text,
        words=(),
        channel=None,
        token_ids=(),
        avg_logprob=None,
        no_speech=0.0,
    )
    limits = limits_of(rules)
    units = units_of(segment, limits.line_columns)
    if not units:
        return replace(cue, lines=(), words=())
    costs = Syntax(rules.language).break_costs(units)
    return replace(cue, lines=lines_of(units, line_ends(units, costs, limits)), words=())


class _Draft(NamedTuple):
    """A cue before its time on screen is settled: start and end are those of its speech, in ms."""

    start: int
    end: int
    units: Sequence[Unit]
    lines: tuple[str, ...]
    speaker: str | None


def _starts_of_others(segments: Iterable[Segment], channel: int | None) -> list[int]:
    return sorted(s.start // SAMPLES_PER_MS for s in segments if s.channel != channel)


def _units(segments: Iterable[Segment], channel: int | None, limits: Limits) -> Iterator[Unit]:
    """All units of a channel, their starts in order."""
    previous: Unit | None = None
    for segment in segments:
        if segment.channel != channel:
            continue
        for i, unit in enumerate(units_of(segment, limits.line_columns)):
            current = unit
            if previous is not None:
                if i == 0:
                    current = spaced_after(previous, unit)
                if current.start < previous.start:
                    current = current._replace(start=previous.start)
            yield current
            previous = current


def _drafts(
    units: Iterable[Unit],
    speaker: str | None,
    starts_of_others: Sequence[int],
    syntax: Syntax,
    limits: Limits,
) -> Iterator[_Draft]:
    waiting: list[Unit] = []
    most = max(_SEARCHED_UNITS, 4 * limits.lines * limits.line_columns)
    for unit in units:
        if waiting and _are_parted(waiting[-1], unit, starts_of_others, limits):
            yield from _parted(waiting, speaker, syntax, limits, following=unit.start)
            waiting = []
        waiting.append(unit)
        if len(waiting) == most:
            # Breaks far enough from the end are the same whatever follows.
            settled = 0
            for draft in _parted(waiting, speaker, syntax, limits, following=None):
                if settled + len(draft.units) > most // 2 and settled:
                    break
                settled += len(draft.units)
                yield draft
            waiting = waiting[settled:]
    if waiting:
        yield from _parted(waiting, speaker, syntax, limits, following=None)


def _are_parted(before: Unit, unit: Unit, starts_of_others: Sequence[int], limits: Limits) -> bool:
    """Whether a long pause lies between, or any in which another speaker has begun."""
    pause = unit.start - before.end
    if pause >= limits.pause_ms:
        return True
    return pause >= AUDIBLE_PAUSE_MS and (
        bisect_left(starts_of_others, before.start) < bisect_left(starts_of_others, unit.start)
    )


def _parted(
    units: Sequence[Unit],
    speaker: str | None,
    syntax: Syntax,
    limits: Limits,
    *,
    following: int | None,
) -> Iterator[_Draft]:
    costs = syntax.break_costs(units)
    first = 0
    for last in cue_ends(units, costs, limits, following):
        part = units[first : last + 1]
        ends = line_ends(part, costs[first : last + 1], limits)
        spoken_until = max(unit.end for unit in part)
        yield _Draft(part[0].start, spoken_until, part, lines_of(part, ends), speaker)
        first = last + 1


def _timed(drafts: Iterable[_Draft], limits: Limits, until: int | None) -> Iterator[Cue]:
    """Settles when each cue comes and goes; drafts are in order of their starts."""
    shown: _Draft | None = None
    for draft in drafts:
        if shown is not None:
            start = _start_behind(shown, draft, limits)
            yield _cue(shown, _end(shown, start, limits, until))
            draft = draft._replace(start=start)
        shown = draft
    if shown is not None:
        yield _cue(shown, _end(shown, None, limits, until))


def _start_behind(shown: _Draft, draft: _Draft, limits: Limits) -> int:
    """When a cue comes: with its speech, or later where another channel's is still to be read."""
    start = draft.start
    if start < shown.end and shown.speaker != draft.speaker:
        readable = shown.start + _reading_ms(shown, limits) + limits.gap_ms
        # Never so late that this one could not be read, unless both share too little time.
        latest = max(draft.end - limits.min_ms, (shown.start + draft.end) // 2)
        start = max(start, min(readable, latest))
    return max(start, shown.start + _LEAST_MS)


def _reading_ms(draft: _Draft, limits: Limits) -> int:
    width = sum(map(columns, draft.lines)) + len(draft.lines) - 1
    return max(limits.min_ms, ceil(width / limits.columns_per_ms))


def _end(draft: _Draft, following: int | None, limits: Limits, until: int | None) -> int:
    """When a cue goes: after its speech, and later for the reader's sake."""
    start = draft.start
    spoken_until = max(draft.end, start + _LEAST_MS)
    readable = min(start + _reading_ms(draft, limits), spoken_until + limits.linger_ms)
    end = max(spoken_until, readable, start + limits.min_ms)
    if following is not None:
        # In the densest speech the gap takes no more than half of the time there is.
        latest = max(following - limits.gap_ms, start + (following - start + 1) // 2)
        end = latest if end + limits.linger_ms > latest else end
    if until is not None:
        end = min(end, max(until, start + _LEAST_MS))
    return min(end, start + limits.max_ms)


def _cue(draft: _Draft, end: int) -> Cue:
    return Cue(
        start=draft.start / 1000,
        end=end / 1000,
        lines=draft.lines,
        words=tuple(
            CueWord(
                min(max(unit.start, draft.start), end) / 1000,
                min(max(unit.end, draft.start), end) / 1000,
                unit.text,
                unit.follows_space,
            )
            for unit in draft.units
        ),
        speaker=draft.speaker,
    )
