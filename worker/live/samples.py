"""Samples that are appended at one end, and perhaps forgotten at the other."""

from typing import Final

import numpy as np

from protocol.limits import SAMPLE_RATE
from worker.live.news import Samples

_LEAST: Final = 8 * SAMPLE_RATE


class GrowingSamples:
    """Only grows; what was given out stays as it is, whatever is appended."""

    def __init__(self) -> None:
        self._buffer: Samples = np.empty(_LEAST, np.float32)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<GrowingSamples {self._length}>"

    def append(self, samples: Samples) -> None:
        """At the end."""
        length = self._length + len(samples)
        if length > len(self._buffer):
            larger = np.empty(max(length, 2 * len(self._buffer)), np.float32)
            larger[: self._length] = self._buffer[: self._length]
            self._buffer = larger
        self._buffer[self._length : length] = samples
        self._length = length

    def first(self, count: int) -> Samples:
        """The first `count` of them, not copied."""
        return self._buffer[: min(count, self._length)]


class RecentSamples:
    """The latest samples of a stream, by their position in it."""

    def __init__(self, start: int) -> None:
        self._buffer: Samples = np.empty(_LEAST, np.float32)
        self._first = 0
        """Where in the buffer the earliest that is kept lies."""
        self._length = 0
        self._start = start

    def __repr__(self) -> str:
        return f"<RecentSamples {self._start} to {self.end}>"

    @property
    def start(self) -> int:
        """Position of the earliest that is kept."""
        return self._start

    @property
    def end(self) -> int:
        """Position of the next to come."""
        return self._start + self._length

    def append(self, samples: Samples) -> None:
        """At the end. Moves what is kept only when the buffer is used up."""
        needed = self._length + len(samples)
        if self._first + needed > len(self._buffer):
            size = max(_LEAST, 2 * needed)
            buffer = np.empty(size, np.float32)
            buffer[: self._length] = self._kept()
            self._buffer, self._first = buffer, 0
        end = self._first + self._length
        self._buffer[end : end + len(samples)] = samples
        self._length = needed

    def between(self, start: int, end: int) -> Samples:
        """A copy of [start, end), of which nothing may be forgotten."""
        return self._kept()[start - self._start : end - self._start].copy()

    def forget(self, before: int) -> None:
        """Those before `before` are not asked for again."""
        passed = max(0, min(before, self.end) - self._start)
        self._first += passed
        self._start += passed
        self._length -= passed

    def _kept(self) -> Samples:
        return self._buffer[self._first : self._first + self._length]
