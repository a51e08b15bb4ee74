"""Judged steps of one live stream -> where utterances start and end. Pure: no clock, no samples.

All positions are 16 kHz samples since the stream began. Two things pass: sound, in steps, and time
in which none comes (``idle``); the second ends utterances, but no position moves by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from worker.audio import SAMPLE_RATE
from worker.audio.endpoints import (
    EndpointEvent,
    EndpointRules,
    Paused,
    Resumed,
    SpeechEnded,
    SpeechStarted,
)
from worker.audio.quiet_cuts import quietest_border
from worker.audio.speech_spans import MIN_PAUSE_SAMPLES
from worker.audio.vad import STEP_SAMPLES

HYSTERESIS: Final = 0.15
"""Speech that has begun goes on down to this much below the threshold, as in Silero's own loop."""

MIN_PADDING_SAMPLES: Final = SAMPLE_RATE // 10
"""An utterance starts at least so much before its first step of speech, where no other one is:
soft onsets are below the threshold, and the model needs them."""

TRAILING_SAMPLES: Final = 7 * STEP_SAMPLES
"""Of the silence behind it, an utterance keeps 224 ms at most: the model hears that it ended, and
what is left of the silence is time to compute in."""

WARM_UP_SAMPLES: Final = 32 * STEP_SAMPLES
"""A detector that starts amid speech is on the other side of 0.5 than one that heard all of it in
6.1 % of the steps at first, in 0.8 % after half a second, and from one second on in 0.4 %."""

CUT_SEARCH_SAMPLES: Final = 5 * SAMPLE_RATE
"""An utterance that gets too long is cut in its last five seconds, or in its second half."""

_SAMPLES_PER_MS: Final = SAMPLE_RATE // 1000


@dataclass(slots=True)
class _Onset:
    """Speech that may still turn out to be a click."""

    start: int
    end: int
    expected_samples: float = 0.0
    """Of speech: its steps, each by its probability."""


@dataclass(slots=True)
class _Utterance:
    """Announced by SpeechStarted."""

    start: int
    silent_from: int | None = None
    pause_end: int | None = None
    """Of the Paused that was sent and not taken back."""
    is_idle_pause: bool = False
    """Paused as no packets came, not as they were silent."""


class Endpointer:
    """One stream's utterances, in order and apart. Remembers the steps of one utterance."""

    def __init__(
        self,
        rules: EndpointRules,
        *,
        position: int = 0,
        taken_until: int = 0,
        open_from: int | None = None,
    ) -> None:
        """To go on with a stream whose endpointer is lost: the position of the first step to come,
        the end of the last utterance, and the start of the one that is open."""
        if open_from is not None and open_from < position:
            raise ValueError("an open utterance goes on where its sound is given again")
        self._rules = rules
        self._position = position
        self._taken_until = max(taken_until, open_from or 0)
        self._needed_from = position
        self._onset: _Onset | None = None
        self._utterance = None if open_from is None else _Utterance(open_from)
        self._levels: list[float] = []
        self._speech: list[bool] = []
        """Of the steps from ``_kept_from`` to ``_position``."""
        self._kept_from = position

    @property
    def position(self) -> int:
        """The end of the last step."""
        return self._position

    @property
    def needed_from(self) -> int:
        """No utterance will start before; never goes back. Includes what a detector needs to warm
        up, so a stream may be replayed from here."""
        return self._needed_from

    @property
    def open_from(self) -> int | None:
        """The start of the utterance that was announced and has not ended."""
        return self._utterance.start if self._utterance else None

    @property
    def next_idle(self) -> float | None:
        """Seconds without a packet after which ``idle`` has something to say; None: never."""
        utterance = self._utterance
        if utterance is None or self._rules.is_manual:
            return None
        due = self._trailing if utterance.pause_end is None else self._silence
        return max(due - self._silence_of(utterance), STEP_SAMPLES) / SAMPLE_RATE

    def push(self, probabilities: Iterable[float], levels: Iterable[float]) -> list[EndpointEvent]:
        """Of the next steps: that somebody speaks, and the power in dB."""
        events: list[EndpointEvent] = []
        for probability, level in zip(probabilities, levels, strict=True):
            self._position += STEP_SAMPLES
            self._levels.append(float(level))
            self._speech.append(bool(probability >= self._rules.threshold))
            events += self._follow(float(probability))
            events += self._cut_what_is_too_long()
            self._forget()
        return events

    def idle(self, seconds: float) -> list[EndpointEvent]:
        """No packet has come for so long: as if that had been silence. May be asked again with
        more, and packets may come again; they are heard as the next of the stream."""
        silence = round(seconds * SAMPLE_RATE)
        if silence >= MIN_PAUSE_SAMPLES:
            self._onset = None
        utterance = self._utterance
        if utterance is None or self._rules.is_manual:
            return []
        silence += self._silence_of(utterance)
        if silence >= self._silence:
            ended = self._end(utterance)
            self._forget()
            return [ended]
        if silence < self._trailing or utterance.pause_end is not None:
            return []
        utterance.is_idle_pause = True
        utterance.pause_end = self._end_of(utterance)
        return [Paused(utterance.pause_end)]

    def commit(self, position: int) -> SpeechEnded | None:
        """The client ends the utterance at this sample, up to which the stream was received (the
        last may be of no whole step yet). What is not taken by an earlier one belongs to it, as
        far back as it was kept; None where that is nothing."""
        start = self._start_now()
        if position <= start:
            return None
        ended = self._ended(start, position)
        self._take(position)
        self._forget()
        return ended

    def clear(self, position: int) -> None:
        """What was received up to this sample is in no utterance; an open one ends unsaid."""
        self._take(position)
        self._forget()

    def reconfigure(self, rules: EndpointRules) -> None:
        """For the steps to come; an open utterance stays open."""
        if rules.is_manual and not self._rules.is_manual:
            self._taken_until = self._start_now()
        self._rules = rules

    def __repr__(self) -> str:
        state = "silence" if self._utterance is None else f"speech from {self._utterance.start}"
        return f"<Endpointer at {self._position}, {state}, taken until {self._taken_until}>"

    @property
    def _quiet_below(self) -> float:
        return max(self._rules.threshold - HYSTERESIS, 0.01)

    @property
    def _silence(self) -> int:
        return max(self._rules.silence_duration_ms * _SAMPLES_PER_MS, STEP_SAMPLES)

    @property
    def _trailing(self) -> int:
        return min(TRAILING_SAMPLES, self._silence)

    @property
    def _padding(self) -> int:
        return max(self._rules.prefix_padding_ms * _SAMPLES_PER_MS, MIN_PADDING_SAMPLES)

    @property
    def _max(self) -> int:
        return round(self._rules.max_utterance_seconds * SAMPLE_RATE)

    def _follow(self, probability: float) -> list[EndpointEvent]:
        if self._position <= self._taken_until:
            return []  # a replay's warm-up
        if self._utterance is None:
            return self._listen(probability)
        return self._go_on(self._utterance, probability)

    def _listen(self, probability: float) -> list[EndpointEvent]:
        onset = self._onset
        if onset is None:
            if probability < self._rules.threshold:
                return []
            onset = self._onset = _Onset(self._position - STEP_SAMPLES, self._position)
        if probability >= self._quiet_below:
            onset.end = self._position
            onset.expected_samples += probability * STEP_SAMPLES
        elif self._position - onset.end >= MIN_PAUSE_SAMPLES:
            self._onset = None
            return []
        if onset.expected_samples < self._rules.min_speech_ms * _SAMPLES_PER_MS:
            return []
        self._utterance = _Utterance(self._start_now())
        self._onset = None
        return [SpeechStarted(self._utterance.start)]

    def _go_on(self, utterance: _Utterance, probability: float) -> list[EndpointEvent]:
        events: list[EndpointEvent] = []
        if utterance.is_idle_pause:  # what came is not what the pause was announced for
            utterance.is_idle_pause, utterance.pause_end = False, None
            events.append(Resumed())
        if utterance.silent_from is None:
            if probability >= self._quiet_below:
                return events
            utterance.silent_from = self._position - STEP_SAMPLES
        elif probability >= self._rules.threshold:
            if utterance.pause_end is not None:
                events.append(Resumed())
            utterance.silent_from = utterance.pause_end = None
            return events
        return events if self._rules.is_manual else [*events, *self._be_silent(probability)]

    def _be_silent(self, probability: float) -> list[EndpointEvent]:
        utterance = self._utterance
        assert utterance is not None
        silence = self._silence_of(utterance)
        if silence >= self._silence and probability < self._quiet_below:
            return [self._end(utterance)]
        if silence < self._trailing or utterance.pause_end is not None:
            return []
        utterance.pause_end = self._end_of(utterance)
        return [Paused(utterance.pause_end)]

    def _silence_of(self, utterance: _Utterance) -> int:
        return 0 if utterance.silent_from is None else self._position - utterance.silent_from

    def _end_of(self, utterance: _Utterance) -> int:
        if utterance.pause_end is not None:
            return utterance.pause_end
        return self._position - max(self._silence_of(utterance) - self._trailing, 0)

    def _end(self, utterance: _Utterance) -> SpeechEnded:
        ended = self._ended(utterance.start, self._end_of(utterance), heard_until=self._position)
        self._take(ended.end)
        return ended

    def _cut_what_is_too_long(self) -> list[EndpointEvent]:
        events: list[EndpointEvent] = []
        while self._utterance or self._rules.is_manual:
            start = self._start_now()
            if self._position + STEP_SAMPLES - start <= self._max:
                break
            events += self._cut(start, min(self._position, start + self._max))
        return events

    def _cut(self, start: int, latest: int) -> list[EndpointEvent]:
        utterance = self._utterance
        if utterance and utterance.pause_end is not None and utterance.pause_end <= latest:
            end = utterance.pause_end
        else:
            earliest = max(latest - CUT_SEARCH_SAMPLES, (start + latest) // 2)
            end = quietest_border(self._levels, STEP_SAMPLES, self._kept_from, earliest, latest)
        ended = self._ended(start, end, is_forced=True)
        self._take(end)
        silent_from = utterance.silent_from if utterance else end
        if silent_from is not None and silent_from <= end:
            return [ended]
        self._utterance = _Utterance(end, silent_from)
        return [ended, SpeechStarted(end)]

    def _ended(
        self, start: int, end: int, *, heard_until: int | None = None, is_forced: bool = False
    ) -> SpeechEnded:
        first = max(start - self._kept_from, 0) // STEP_SAMPLES
        last = -(-(end - self._kept_from) // STEP_SAMPLES)
        return SpeechEnded(
            start,
            end,
            heard_until=end if heard_until is None else heard_until,
            is_forced=is_forced,
            has_speech=any(self._speech[first:last]),
        )

    def _take(self, until: int) -> None:
        self._taken_until = until
        self._utterance = self._onset = None

    def _start_now(self) -> int:
        """Where an utterance starts that is open, or else would be if it were opened now."""
        if self._utterance:
            return self._utterance.start
        if self._rules.is_manual:
            return self._taken_until
        spoken_from = self._onset.start if self._onset else self._position
        return max(spoken_from - self._padding, self._taken_until, self._kept_from)

    def _forget(self) -> None:
        start = self._start_now()
        passed = max(min(start, self._position) - self._kept_from, 0) // STEP_SAMPLES
        del self._levels[:passed], self._speech[:passed]
        self._kept_from += passed * STEP_SAMPLES
        is_fixed = self._utterance is not None or self._rules.is_manual
        needed = start if is_fixed else self._kept_from - WARM_UP_SAMPLES
        self._needed_from = max(self._needed_from, needed)
