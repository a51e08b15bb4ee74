"""Where in the KV cache a sequence lives. Pure: counts tokens, holds no memory.

A sequence gets one contiguous region for its whole life, so attention needs no page table and a
region's end is known before its first token.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

GRAIN = 64
"""Tokens: regions start and end at multiples of it."""


@dataclass(frozen=True, order=True)
class Region:
    """Rows `start` to `start + tokens` of the KV cache, in tokens."""

    start: int
    tokens: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.start + self.tokens


class KvArena:
    """Hands out regions, the lowest that fits first; free neighbours merge."""

    def __init__(self, tokens: int) -> None:
        """The KV cache has that many rows; what exceeds a multiple of the grain is not used."""
        self.tokens = tokens // GRAIN * GRAIN
        if self.tokens <= 0:
            raise ValueError(f"a KV arena of {tokens} tokens holds nothing")
        self._free = [Region(0, self.tokens)]
        """Ordered by start; no two touch."""
        self._taken: dict[int, Region] = {}

    def __repr__(self) -> str:
        return (
            f"<KvArena {self.tokens - self.free_tokens}/{self.tokens} tokens "
            f"in {len(self._taken)} regions>"
        )

    @property
    def free_tokens(self) -> int:
        """Tokens in no region."""
        return sum(region.tokens for region in self._free)

    @property
    def largest_free(self) -> int:
        """Tokens of the largest region that could be had now."""
        return max((region.tokens for region in self._free), default=0)

    def allocate(self, tokens: int) -> Region | None:
        """A region of at least so many tokens; None if there is no such stretch now."""
        if tokens < 1:
            raise ValueError(f"a region of {tokens} tokens")
        needed = rounded_up(tokens)
        for position, gap in enumerate(self._free):
            if gap.tokens >= needed:
                region = Region(gap.start, needed)
                rest = Region(region.end, gap.tokens - needed)
                self._free[position : position + 1] = [rest] if rest.tokens else []
                self._taken[region.start] = region
                return region
        return None

    def could_allocate(self, tokens: int, without: Iterable[Region] = ()) -> bool:
        """Whether `allocate` would succeed once the regions of `without` were free."""
        return self.largest_free >= tokens or self.place_for(tokens, without) is not None

    def place_for(self, tokens: int, without: Iterable[Region] = ()) -> int | None:
        """Where `allocate` would put a region then."""
        going = {region.start for region in without}
        end = 0
        for start, region in sorted(self._taken.items()):
            if start not in going:
                if start - end >= tokens:
                    return end
                end = region.end
        return end if self.tokens - end >= tokens else None

    def free(self, region: Region) -> None:
        """Give a region back. ValueError if it is not one that is out: a fault of the caller."""
        if self._taken.get(region.start) != region:
            raise ValueError(f"{region} is not in use")
        del self._taken[region.start]
        position = bisect_left(self._free, region)
        if position < len(self._free) and self._free[position].start == region.end:
            region = Region(region.start, region.tokens + self._free.pop(position).tokens)
        if position and self._free[position - 1].end == region.start:
            before = self._free.pop(position - 1)
            region = Region(before.start, before.tokens + region.tokens)
        insort(self._free, region)


def rounded_up(tokens: int) -> int:
    """The next multiple of the grain."""
    return -(-tokens // GRAIN) * GRAIN
