"""Sound whose loudness is the probability of speech, and a detector that takes it for that: what
an ear is to hear can be written down."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from protocol.live import LiveOptions, TurnDetection
from tests.worker.live.road import Samples, options
from worker.audio.live_vad import JudgedSteps, LiveVoiceActivity
from worker.audio.vad import STEP_SAMPLES as STEP
from worker.live.ear import Ear, rules_of
from worker.live.news import (
    News,
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtteranceGrew,
)

SPEAKING, SILENT = 0.9, 0.1
ONSET_STEPS = 4
"""Of surest speech that are needed to begin an utterance."""
SILENCE_STEPS = 16
"""After so many an utterance ends."""
TRAILING_STEPS = 7
"""So many of them belong to it."""
PADDING = rules_of(options(), 30.0).prefix_padding_ms * 16
"""Samples before its first speech that an utterance has."""
KEY = ("call", 1)


def sounding(*stretches: tuple[float, int]) -> Samples:
    """Probabilities, each for so many steps."""
    return np.concatenate([np.full(steps * STEP, level, np.float32) for level, steps in stretches])


class LoudnessDetector:
    """Loud is speech."""

    def __init__(self) -> None:
        self._rest: WeakKeyDictionary[LiveVoiceActivity, Samples] = WeakKeyDictionary()
        self.calls: list[int] = []
        """How many streams each call judged."""

    def judge(self, heard: Sequence[tuple[LiveVoiceActivity, Samples]]) -> list[JudgedSteps]:
        self.calls.append(len(heard))
        return [self._judged(activity, samples) for activity, samples in heard]

    def _judged(self, activity: LiveVoiceActivity, samples: Samples) -> JudgedSteps:
        samples = np.concatenate([self._rest.get(activity, np.empty(0, np.float32)), samples])
        whole = len(samples) // STEP * STEP
        self._rest[activity] = samples[whole:]
        loudness = np.abs(samples[:whole]).reshape(-1, STEP).max(axis=1)
        return JudgedSteps(loudness, 20 * np.log10(loudness + np.float32(1e-5)))


class Hearing:
    """One ear and what it told."""

    def __init__(
        self, *, start: int = 0, taken_until: int = 0, max_seconds: float = 30.0, **fields: Any
    ) -> None:
        self.ear = Ear(
            KEY,
            0,
            options(**fields),
            count(),
            start=start,
            taken_until=taken_until,
            max_seconds=max_seconds,
        )
        self.start = start
        self._stream: list[Samples] = []
        self._length = 0
        self.news: list[News] = []
        self._detector = LoudnessDetector()

    def hear(self, samples: Samples, packet: int | None = None) -> list[News]:
        """In packets of so many samples, or in one; what is told of them."""
        told: list[News] = []
        size = packet or max(len(samples), 1)
        for first in range(0, len(samples), size):
            part = samples[first : first + size]
            self._stream.append(part)
            self._length += len(part)
            self.ear.take(part, arrived=float(self._length))
            (steps,) = self._detector.judge([(self.ear.activity, part)])
            told += self.ear.judged(steps)
        self.news += told
        return told

    def note(self, news: Iterable[News]) -> list[News]:
        """What the ear told by itself."""
        told = list(news)
        self.news += told
        return told

    @property
    def events(self) -> list[News]:
        """All but the samples."""
        return [news for news in self.news if not isinstance(news, UtteranceGrew)]

    @property
    def complete(self) -> list[UtteranceComplete]:
        return [news for news in self.news if isinstance(news, UtteranceComplete)]

    def told(self, number: int) -> Samples:
        """All samples of an utterance."""
        parts = [
            news.samples
            for news in self.news
            if isinstance(news, UtteranceGrew) and news.number == number
        ]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def check(self) -> None:
        """What was told follows the rules: each utterance begins once and ends at most once, has
        the stream's own samples, in order and without holes, and begins behind the one before."""
        starts: dict[int, int] = {}
        ended: set[int] = set()
        last_end = self.start
        stream = np.concatenate([np.empty(0, np.float32), *self._stream])
        for news in self.news:
            if isinstance(news, UtteranceBegan):
                assert news.number == len(starts)
                assert news.start >= last_end
                starts[news.number] = news.start
                continue
            number = getattr(news, "number", None)
            assert number in starts
            assert number not in ended
            if isinstance(news, UtteranceComplete):
                samples = self.told(number)
                assert starts[number] <= news.end <= news.decided
                assert len(samples) >= news.end - starts[number]
                last_end = news.end
            if isinstance(news, UtteranceComplete | UtteranceDropped):
                ended.add(number)
        for number, start in starts.items():
            samples = self.told(number)
            first = start - self.start
            assert np.array_equal(samples, stream[first : first + len(samples)])


def detecting(**fields: Any) -> LiveOptions:
    """Options with a turn detection that differs from the usual one so."""
    usual = options()
    assert isinstance(usual.turn_detection, TurnDetection)
    return replace(usual, turn_detection=replace(usual.turn_detection, **fields))
