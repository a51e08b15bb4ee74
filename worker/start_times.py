"""How long an engine process took to become ready, by stage, for its log and bench/cold_start."""

import os
import time
from collections.abc import Callable

from worker.clock import Clock

STAGES = ("spawn", "download", "imports", "weights", "warm_up")


def seconds_since_process_start() -> float:
    """Age of this process, from the kernel's account (proc(5), field 22 of /proc/self/stat)."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class StartTimes:
    """Seconds spent in each stage; entering one ends the one before."""

    def __init__(
        self, clock: Clock, age: Callable[[], float] = seconds_since_process_start
    ) -> None:
        self._clock = clock
        self._seconds = {"spawn": age()}
        self._stage = "spawn"
        self._since = clock()

    def enter(self, stage: str) -> None:
        """A stage begins, or goes on."""
        now = self._clock()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def __str__(self) -> str:
        """Fields for a log line, in order of the stages."""
        return " ".join(
            f"{stage}_seconds={self._seconds[stage]:.2f}"
            for stage in STAGES
            if stage in self._seconds
        )
