"""How often a request survives the death of the engine that held it. Pure.

A death may have another cause than the request, so it takes two deaths to become suspect, and two
deaths alone to be convicted. A finished chunk clears it: the stretch under suspicion is behind it.
Engines that only fell silent blame nobody, but their number is bounded too.
"""

from dataclasses import dataclass

DEATHS_TO_SUSPECT = 2
DEATHS_ALONE_TO_CONVICT = 2
MOST_STARTS = 10
"""Engines a request may lose without a finished chunk, for whatever reason."""


@dataclass(slots=True)
class Attempts:
    """The record of one request."""

    count: int = 0
    """Engines that got the request so far."""
    deaths: int = 0
    """Engines that died under it since its last finished chunk."""
    deaths_alone: int = 0
    starts: int = 0
    """Engines that got it since its last finished chunk."""
    runs_alone: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether the next engine gets it alone."""
        return self.deaths >= DEATHS_TO_SUSPECT

    @property
    def is_poison(self) -> bool:
        """Whether no engine gets it any more."""
        return self.deaths_alone >= DEATHS_ALONE_TO_CONVICT

    @property
    def is_hopeless(self) -> bool:
        """Whether it has lost so many engines that its caller is told to come back later."""
        return self.starts >= MOST_STARTS

    def begin(self) -> int:
        """Hand it to an engine; returns the number of this attempt."""
        self.count += 1
        self.starts += 1
        self.runs_alone = self.is_suspect
        return self.count

    def engine_died(self) -> None:
        """The engine that held it is gone without a word."""
        self.deaths += 1
        self.deaths_alone += self.runs_alone

    def chunk_finished(self) -> None:
        """It moved on: whatever killed engines is not in what lies ahead."""
        self.deaths = self.deaths_alone = self.starts = 0
        self.runs_alone = False
