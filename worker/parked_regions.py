"""Regions of utterances between two steps: a cache in the KV arena. Pure.

Whoever needs memory gets theirs, the least recently used first; what is lost is prefilled anew.
"""

from bisect import bisect_left
from collections.abc import Iterable

from worker.kv_arena import KvArena, Region


class ParkedRegions:
    """By utterance; bounded by the arena."""

    def __init__(self, arena: KvArena) -> None:
        self._arena = arena
        self._parked: dict[str, tuple[Region, int]] = {}
        """Region, and rows that hold good; the least recently used first."""

    def __repr__(self) -> str:
        return f"<ParkedRegions of {len(self._parked)} utterances>"

    def regions(self) -> list[Region]:
        """All of them; none is in anyone's way."""
        return [region for region, _ in self._parked.values()]

    def region_of(self, utterance: str | None) -> Region | None:
        """The one of this utterance, if it is still there."""
        parked = self._parked.get(utterance) if utterance is not None else None
        return parked[0] if parked else None

    def park(self, utterance: str, region: Region, rows: int) -> None:
        """Its first `rows` rows hold good for the next step. A former region is free."""
        self.forget(utterance)
        self._parked[utterance] = region, rows

    def limit(self, utterance: str, rows: int) -> None:
        """The next step differs behind so many rows."""
        if utterance in self._parked:
            region, good = self._parked[utterance]
            self._parked[utterance] = region, min(good, rows)

    def take(self, utterance: str) -> tuple[Region, int]:
        """Region and rows that hold good; the caller owns it now."""
        return self._parked.pop(utterance)

    def forget(self, utterance: str) -> None:
        """Its region is free, if there is one."""
        if utterance in self._parked:
            self._arena.free(self._parked.pop(utterance)[0])

    def make_room(self, tokens: int) -> None:
        """Free regions until so many tokens fit; they must fit once all are free."""
        if self._arena.could_allocate(tokens):
            return
        oldest = list(self._parked)
        count = bisect_left(
            range(len(oldest)), True, key=lambda last: self._fits(tokens, oldest[: last + 1])
        )
        place = self._arena.place_for(tokens, self._regions_of(oldest[: count + 1]))
        assert place is not None
        # Regions that lie elsewhere do not help: they stay.
        leaving = [
            utterance
            for utterance in oldest[: count + 1]
            if place < self._parked[utterance][0].end
            and self._parked[utterance][0].start < place + tokens
        ]
        for utterance in reversed(leaving.copy()):
            others = [other for other in leaving if other != utterance]
            if self._fits(tokens, others):
                leaving = others
        for utterance in leaving:
            self.forget(utterance)

    def _fits(self, tokens: int, leaving: Iterable[str]) -> bool:
        return self._arena.could_allocate(tokens, self._regions_of(leaving))

    def _regions_of(self, utterances: Iterable[str]) -> list[Region]:
        return [self._parked[utterance][0] for utterance in utterances]
