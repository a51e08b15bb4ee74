"""Cases of a table take turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

PASSES = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One row: measures itself a few times and returns the seconds of each."""

    name: str
    run: Callable[[], Sequence[float]]


@dataclass(slots=True)
class Timing:
    """Seconds of one case, by pass."""

    passes: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PASSES)])

    @property
    def median(self) -> float:
        return statistics.median(second for one in self.passes for second in one)

    @property
    def noise(self) -> float:
        """How far the passes lie apart, as a share of the median."""
        medians = [statistics.median(one) for one in self.passes]
        return (max(medians) - min(medians)) / self.median


def interleaved(cases: Sequence[Case], rounds: int) -> dict[str, Timing]:
    """Each case once unmeasured, then A, B, A, B, ... for so many rounds in each of two passes."""
    for case in cases:
        reset_threads()
        case.run()
    timings = {case.name: Timing() for case in cases}
    for number in range(PASSES):
        for _ in range(rounds):
            for case in cases:
                reset_threads()
                timings[case.name].passes[number] += case.run()
    return timings


def repeated(
    action: Callable[[], object], device: torch.device, times: int
) -> Callable[[], list[float]]:
    """A case's run: the action so many times, each waited for."""

    def run() -> list[float]:
        seconds = []
        for _ in range(times):
            synchronise(device)
            begun = time.perf_counter()
            action()
            synchronise(device)
            seconds.append(time.perf_counter() - begun)
        return seconds

    return run


_threads: list[int] = []


def use_threads(count: int) -> None:
    """So many threads of the CPU, for every case anew."""
    _threads[:] = [count]
    reset_threads()


def reset_threads() -> None:
    """The native engine gives a small decoder one thread: the next case begins with all again."""
    if _threads:
        torch.set_num_threads(_threads[0])


def synchronise(device: torch.device) -> None:
    """Wait for what is launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]
