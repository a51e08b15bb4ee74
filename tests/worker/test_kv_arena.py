"""Where sequences live in the KV cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.kv_arena import GRAIN, KvArena, Region

BLOCKS = 24


def allocated(arena: KvArena, tokens: int) -> Region:
    region = arena.allocate(tokens)
    assert region is not None
    return region


def test_regions_start_and_end_at_the_grain() -> None:
    arena = KvArena(1000)

    assert arena.tokens == 960
    assert allocated(arena, 1) == Region(0, 64)
    assert allocated(arena, 65) == Region(64, 128)
    assert allocated(arena, 128) == Region(192, 128)


def test_the_lowest_gap_that_fits_is_used() -> None:
    arena = KvArena(640)
    first, _, third, _ = (allocated(arena, tokens) for tokens in (64, 64, 128, 64))
    arena.free(first)
    arena.free(third)

    assert allocated(arena, 128) == third
    assert allocated(arena, 64) == first


def test_free_neighbours_merge_whichever_leaves_first() -> None:
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)):
        arena = KvArena(192)
        regions = [allocated(arena, 64) for _ in range(3)]
        for index in order:
            arena.free(regions[index])

        assert allocated(arena, 192) == Region(0, 192)


def test_a_request_that_does_not_fit_changes_nothing() -> None:
    arena = KvArena(256)
    keep = allocated(arena, 64)
    middle = allocated(arena, 64)
    allocated(arena, 64)
    arena.free(middle)

    assert arena.allocate(128) is None
    assert (arena.free_tokens, arena.largest_free) == (128, 64)
    arena.free(keep)
    assert arena.allocate(128) == Region(0, 128)


def test_a_region_is_given_back_once_and_only_by_its_own_name() -> None:
    arena = KvArena(256)
    region = allocated(arena, 64)

    with pytest.raises(ValueError, match="not in use"):
        arena.free(Region(0, 128))
    with pytest.raises(ValueError, match="not in use"):
        arena.free(Region(64, 64))
    arena.free(region)
    with pytest.raises(ValueError, match="not in use"):
        arena.free(region)
    assert arena.free_tokens == 256


def test_it_tells_whether_a_region_would_fit_without_others() -> None:
    arena = KvArena(256)
    first, second, third = (allocated(arena, 64) for _ in range(3))

    assert arena.could_allocate(64)
    assert not arena.could_allocate(65)
    assert not arena.could_allocate(128, without=[first])
    assert arena.could_allocate(128, without=[first, second])
    assert arena.could_allocate(128, without=[third])
    assert not arena.could_allocate(257, without=[first, second, third])
    assert arena.could_allocate(256, without=[first, second, third])


@pytest.mark.parametrize("tokens", [0, 63, -64])
def test_an_arena_without_room_is_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        KvArena(tokens)


def test_a_region_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="0 tokens"):
        KvArena(64).allocate(0)


@given(sizes=st.lists(st.integers(1, 300), max_size=30), data=st.data())
def test_all_memory_comes_back_in_any_order(sizes: list[int], data: st.DataObject) -> None:
    arena = KvArena(2048)
    regions = [region for size in sizes if (region := arena.allocate(size)) is not None]
    for region in data.draw(st.permutations(regions)):
        arena.free(region)

    assert arena.free_tokens == arena.largest_free == 2048
    assert arena.allocate(2048) == Region(0, 2048)


class AgainstABitmap(RuleBasedStateMachine):
    """The arena against one flag a block, searched from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = KvArena(BLOCKS * GRAIN)
        self.taken = [False] * BLOCKS
        self.regions: list[Region] = []

    def lowest_gap(self, blocks: int, taken: list[bool]) -> int | None:
        for start in range(BLOCKS - blocks + 1):
            if not any(taken[start : start + blocks]):
                return start
        return None

    def mark(self, region: Region, value: bool) -> None:
        blocks = range(region.start // GRAIN, region.end // GRAIN)
        assert all(self.taken[block] is not value for block in blocks)
        for block in blocks:
            self.taken[block] = value

    @rule(tokens=st.integers(1, BLOCKS * GRAIN + 1))
    def allocate(self, tokens: int) -> None:
        start = self.lowest_gap(-(-tokens // GRAIN), self.taken)
        region = self.arena.allocate(tokens)
        if start is None:
            assert region is None
            return
        assert region is not None
        assert region.start == start * GRAIN
        assert tokens <= region.tokens < tokens + GRAIN
        self.mark(region, True)
        self.regions.append(region)

    @precondition(lambda self: bool(self.regions))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        region = self.regions.pop(data.draw(st.integers(0, len(self.regions) - 1)))
        self.arena.free(region)
        self.mark(region, False)

    @rule(tokens=st.integers(1, BLOCKS * GRAIN + 1), data=st.data())
    def imagine(self, tokens: int, data: st.DataObject) -> None:
        without = [region for region in self.regions if data.draw(st.booleans())]
        taken = list(self.taken)
        for region in without:
            for block in range(region.start // GRAIN, region.end // GRAIN):
                taken[block] = False
        fits = self.lowest_gap(-(-tokens // GRAIN), taken) is not None
        assert self.arena.could_allocate(tokens, without) is fits

    @invariant()
    def sums_agree(self) -> None:
        runs = "".join("x" if taken else "." for taken in self.taken).split("x")
        assert self.arena.free_tokens == self.taken.count(False) * GRAIN
        assert self.arena.largest_free == max(map(len, runs)) * GRAIN


TestAgainstABitmap = AgainstABitmap.TestCase
