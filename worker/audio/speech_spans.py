"""Speech probabilities, step by step -> spans of speech and the pauses between. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from worker.audio import SAMPLE_RATE
from worker.segments import SpeechSpan

SPEECH_BEGINS: Final = 0.5
"""Probability from which somebody speaks: the network's own balance of misses and false alarms."""

SPEECH_ENDS: Final = 0.35
"""Probability below which nobody does: 0.15 lower, so that a soft syllable does not end a span."""

MIN_PAUSE_SAMPLES: Final = SAMPLE_RATE // 10
"""A shorter gap is part of speech: closures of plosives last up to 0.1 s."""

MIN_SPEECH_SAMPLES: Final = 3 * SAMPLE_RATE // 20
"""What is shorter is a click or a key: keys of a telephone reach 0.13 s, and of 330 digits said
alone the network hears none for less than 0.16 s, if at all."""

PADDING_SAMPLES: Final = SAMPLE_RATE // 10
"""Added on both sides of a span: soft onsets and endings are below the thresholds above."""


@dataclass(slots=True)
class _Run:
    """Steps of speech; positions in samples."""

    start: int
    end: int
    """Of the last step that was not below SPEECH_ENDS."""
    probability_sum: float
    steps: int
    is_open: bool = True

    @property
    def is_speech(self) -> bool:
        return self.end - self.start >= MIN_SPEECH_SAMPLES


class SpanFinder:
    """Follows one stream of probabilities. Remembers what was not forgotten, so bounded by that."""

    def __init__(self, step_samples: int) -> None:
        self._step_samples = step_samples
        self._position = 0
        self._runs: list[_Run] = []

    def push(self, probabilities: Iterable[float]) -> None:
        """Those of the following steps."""
        for probability in probabilities:
            self._follow(float(probability))
            self._position += self._step_samples

    def spans(self) -> list[SpeechSpan]:
        """Speech found so far and not forgotten, without padding; the last may still grow."""
        return [
            SpeechSpan(run.start, run.end, run.probability_sum / run.steps)
            for run in self._runs
            if run.is_speech
        ]

    def forget(self, before: int) -> None:
        """Spans that end by this sample are not asked for again."""
        self._runs = [run for run in self._runs if run.end > before or run.is_open]

    def __repr__(self) -> str:
        return f"<SpanFinder {len(self._runs)} runs, at {self._position / SAMPLE_RATE:.1f} s>"

    def _follow(self, probability: float) -> None:
        run = self._runs[-1] if self._runs and self._runs[-1].is_open else None
        if run is None:
            if probability >= SPEECH_BEGINS:
                end = self._position + self._step_samples
                self._runs.append(_Run(self._position, end, probability, 1))
            return
        if probability >= SPEECH_ENDS:
            run.end = self._position + self._step_samples
            run.probability_sum += probability
            run.steps += 1
        elif self._position + self._step_samples - run.end >= MIN_PAUSE_SAMPLES:
            run.is_open = False
            if not run.is_speech:
                self._runs.pop()


def spans_within(spans: Sequence[SpeechSpan], start: int, end: int) -> tuple[SpeechSpan, ...]:
    """The spans' parts in [start, end), padded, but not beyond it nor into a neighbour's half of
    the pause between."""
    inside = [
        SpeechSpan(max(span.start, start), min(span.end, end), span.probability)
        for span in spans
        if span.start < end and span.end > start
    ]
    middles = [(left.end + right.start) // 2 for left, right in pairwise(inside)]
    floors, ceilings = [start, *middles], [*middles, end]
    return tuple(
        SpeechSpan(
            max(span.start - PADDING_SAMPLES, floor),
            min(span.end + PADDING_SAMPLES, ceiling),
            span.probability,
        )
        for span, floor, ceiling in zip(inside, floors, ceilings, strict=False)
    )


def merged(spans: Iterable[SpeechSpan]) -> list[SpeechSpan]:
    """Spans of several channels -> where anybody speaks, in order and apart."""
    joined: list[SpeechSpan] = []
    for span in sorted(spans, key=lambda each: each.start):
        if joined and span.start <= joined[-1].end:
            last = joined.pop()
            best = max(last.probability, span.probability)
            joined.append(SpeechSpan(last.start, max(last.end, span.end), best))
        else:
            joined.append(span)
    return joined
