"""Telephone calls for tests: two people who never meet, put together of recorded strings."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tests.speech import DIGIT_WORDS, SAMPLE_RATE, Samples, held_out

Stereo = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says before the other does; samples [start, end) of the call."""

    channel: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call and what was said in it."""

    samples: Stereo
    """(samples, 2)"""
    turns: tuple[Turn, ...]

    @property
    def text(self) -> str:
        """The words in the order of the turns."""
        return " ".join(turn.text for turn in self.turns)


def call(
    turns: int,
    seed: int,
    *,
    speakers: tuple[str, str] = ("george", "jackson"),
    digits: tuple[int, int] = (1, 4),
    gaps: tuple[float, float] = (0.1, 0.7),
    hiss: float = 1e-4,
) -> Call:
    """Sides take turns of a few digits; `gaps`: seconds between turns, below 0 they overlap, but
    each side is silent for 0.3 s between its own."""
    rng = np.random.default_rng(seed)
    voices = [held_out(speaker) for speaker in speakers]
    said: list[tuple[Turn, Samples]] = []
    start = SAMPLE_RATE // 4
    for number in range(turns):
        channel = number % 2
        spoken = rng.integers(0, 10, rng.integers(digits[0], digits[1], endpoint=True))
        pieces = []
        for digit in spoken:
            takes = voices[channel][digit]
            pieces.append(takes[rng.integers(len(takes))])
            pieces.append(np.zeros(int(rng.uniform(0.05, 0.25) * SAMPLE_RATE), np.float32))
        samples = np.concatenate(pieces[:-1])
        text = " ".join(DIGIT_WORDS[digit] for digit in spoken)
        if number > 1:
            start = max(start, said[-2][0].end + int(0.3 * SAMPLE_RATE))
        said.append((Turn(channel, start, start + len(samples), text), samples))
        start += len(samples) + int(rng.uniform(*gaps) * SAMPLE_RATE)
    both = hiss * rng.standard_normal((said[-1][0].end + SAMPLE_RATE // 4, 2))
    for turn, samples in said:
        both[turn.start : turn.end, turn.channel] += samples
    return Call(both.astype(np.float32), tuple(turn for turn, _ in said))


def leaking(samples: Stereo, gain: float, delay: float, seed: int | None = None) -> Stereo:
    """Each side hears the other so much softer and so many seconds later; with a seed through a
    room."""
    lag = round(delay * SAMPLE_RATE)
    path = np.zeros(lag + SAMPLE_RATE // 8)
    path[lag] = 1.0
    if seed is not None:
        decay = np.exp(-np.arange(SAMPLE_RATE // 8) / (0.015 * SAMPLE_RATE))
        path[lag:] += 0.3 * decay * np.random.default_rng(seed).standard_normal(SAMPLE_RATE // 8)
    path *= gain / np.sqrt(np.square(path).sum())
    size = len(samples) + len(path)
    spectrum = np.fft.rfft(samples, size, axis=0) * np.fft.rfft(path, size)[:, None]
    leaks = np.fft.irfft(spectrum, size, axis=0)[: len(samples), ::-1]
    return (samples + leaks).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Heard:
    """A segment of an answer, in seconds."""

    channel: int
    start: float
    end: float
    text: str


def right_turns(call: Call, segments: Iterable[Heard]) -> int:
    """Turns that hold exactly their words; each segment counts for its side's nearest turn."""
    heard: dict[Turn, list[str]] = {turn: [] for turn in call.turns}
    for segment in sorted(segments, key=lambda each: each.start):
        side = [turn for turn in call.turns if turn.channel == segment.channel]
        middle = (segment.start + segment.end) / 2 * SAMPLE_RATE
        nearest = min(side, key=lambda turn: max(turn.start - middle, middle - turn.end))
        heard[nearest].append(segment.text)
    return sum(" ".join(texts) == turn.text for turn, texts in heard.items())


def shortest_gap(call: Call) -> int:
    """Samples between the two turns that follow each other most closely."""
    return min(following.start - turn.end for turn, following in pairwise(call.turns))
