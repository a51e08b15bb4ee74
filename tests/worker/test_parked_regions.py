"""Regions between two steps of their utterances."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.kv_arena import GRAIN, KvArena, Region
from worker.parked_regions import ParkedRegions

BLOCKS = 16
NAMES = [f"talk {number}" for number in range(6)]


def with_parked(*blocks: int, arena_blocks: int = BLOCKS) -> tuple[KvArena, ParkedRegions]:
    """An arena that begins with parked regions of these sizes, the first parked the longest."""
    arena = KvArena(arena_blocks * GRAIN)
    parked = ParkedRegions(arena)
    for name, size in zip(NAMES, blocks, strict=False):
        region = arena.allocate(size * GRAIN)
        assert region is not None
        parked.park(name, region, rows=size * GRAIN - 1)
    return arena, parked


def names(parked: ParkedRegions) -> list[str]:
    return [name for name in NAMES if parked.region_of(name) is not None]


def test_a_parked_region_comes_back_with_the_rows_that_hold_good() -> None:
    _, parked = with_parked(2)
    parked.limit("talk 0", 500)
    parked.limit("talk 0", 70)
    parked.limit("talk 0", 100)
    parked.limit("unknown", 1)

    assert parked.take("talk 0") == (Region(0, 128), 70)
    assert names(parked) == []


def test_parking_anew_frees_the_former_region() -> None:
    arena, parked = with_parked(2)
    other = arena.allocate(GRAIN)
    assert other is not None

    parked.park("talk 0", other, rows=3)

    assert parked.take("talk 0") == (other, 3)
    assert arena.allocate(2 * GRAIN) == Region(0, 128)


def test_what_is_forgotten_is_free() -> None:
    arena, parked = with_parked(2, 3)
    parked.forget("talk 0")
    parked.forget("unknown")

    assert names(parked) == ["talk 1"]
    assert arena.free_tokens == (BLOCKS - 3) * GRAIN


def test_room_is_made_by_the_one_that_was_used_the_longest_ago() -> None:
    _, parked = with_parked(4, 4, 4, 4)
    parked.park("talk 0", *parked.take("talk 0"))

    parked.make_room(4 * GRAIN)

    assert names(parked) == ["talk 0", "talk 2", "talk 3"]


def test_nobody_leaves_where_there_is_room() -> None:
    _, parked = with_parked(4, 4)
    parked.make_room(8 * GRAIN)

    assert names(parked) == ["talk 0", "talk 1"]


def test_a_region_that_lies_where_it_does_not_help_stays() -> None:
    arena, parked = with_parked(2, 2, 4, 4)
    wall = parked.take("talk 1")
    assert arena.free_tokens == 4 * GRAIN

    parked.make_room(8 * GRAIN)

    assert names(parked) == ["talk 0", "talk 2"]
    assert wall[0] == Region(2 * GRAIN, 2 * GRAIN)


def test_where_no_region_is_large_enough_neighbours_leave_together() -> None:
    _, parked = with_parked(4, 4, 4, 4)
    parked.park("talk 1", *parked.take("talk 1"))

    parked.make_room(5 * GRAIN)

    assert names(parked) == ["talk 0", "talk 1"]


def test_room_is_found_among_many_without_asking_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = KvArena(2_000 * GRAIN)
    parked = ParkedRegions(arena)
    for number in range(1_000):
        region = arena.allocate(2 * GRAIN)
        assert region is not None
        parked.park(str(number * 7 % 1_000), region, rows=1)
    asked = 0

    def counted(tokens: int, without: Iterable[Region] = ()) -> int | None:
        nonlocal asked
        asked += 1
        return KvArena.place_for(arena, tokens, without)

    monkeypatch.setattr(arena, "place_for", counted)
    parked.make_room(3 * GRAIN)

    assert len(parked.regions()) == 998
    assert asked < 20


def test_it_says_how_many_there_are() -> None:
    assert repr(with_parked(1, 1)[1]) == "<ParkedRegions of 2 utterances>"


class AmongOwners(RuleBasedStateMachine):
    """Regions move between owners and parking; none is lost, none has two masters."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = KvArena(BLOCKS * GRAIN)
        self.parked = ParkedRegions(self.arena)
        self.owned: list[Region] = []
        self.rows: dict[str, int] = {}

    def drawn(self, data: st.DataObject) -> Region:
        return self.owned.pop(data.draw(st.integers(0, len(self.owned) - 1)))

    @rule(tokens=st.integers(1, BLOCKS * GRAIN))
    def allocate(self, tokens: int) -> None:
        if self.arena.could_allocate(tokens, self.parked.regions()):
            before = self.parked.regions()
            had_room = self.arena.could_allocate(tokens)
            self.parked.make_room(tokens)
            assert had_room == (before == self.parked.regions())
            region = self.arena.allocate(tokens)
            assert region is not None
            self.owned.append(region)
        else:
            assert self.arena.allocate(tokens) is None

    @precondition(lambda self: bool(self.owned))
    @rule(data=st.data(), name=st.sampled_from(NAMES), rows=st.integers(0, GRAIN))
    def park(self, data: st.DataObject, name: str, rows: int) -> None:
        self.parked.park(name, self.drawn(data), rows)
        self.rows[name] = rows

    @rule(name=st.sampled_from(NAMES), rows=st.integers(0, GRAIN))
    def limit(self, name: str, rows: int) -> None:
        self.parked.limit(name, rows)
        self.rows[name] = min(rows, self.rows.get(name, 0))

    @rule(name=st.sampled_from(NAMES))
    def take(self, name: str) -> None:
        if self.parked.region_of(name) is not None:
            region, rows = self.parked.take(name)
            assert rows == self.rows[name]
            self.owned.append(region)

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        self.parked.forget(name)
        assert self.parked.region_of(name) is None

    @precondition(lambda self: bool(self.owned))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.arena.free(self.drawn(data))

    @invariant()
    def every_token_has_one_master(self) -> None:
        regions = sorted(self.owned + self.parked.regions())
        assert all(one.end <= next_.start for one, next_ in pairwise(regions))
        taken = sum(region.tokens for region in regions)
        assert self.arena.free_tokens == self.arena.tokens - taken


TestAmongOwners = AmongOwners.TestCase
