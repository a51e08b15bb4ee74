"""Whose chunk runs next."""

import pytest

from worker.sequence import Priority
from worker.turns import Turns


def turns_with(**requests: int) -> Turns:
    turns = Turns()
    for request_id, chunks in requests.items():
        for index in range(chunks):
            turns.add((request_id, index), Priority.INTERACTIVE)
    return turns


def test_requests_take_turns() -> None:
    turns = turns_with(film=3, memo=1)

    assert [turns.next_batch(1) for _ in range(4)] == [
        [("film", 0)],
        [("memo", 0)],
        [("film", 1)],
        [("film", 2)],
    ]


def test_a_newcomer_waits_for_one_chunk_of_each_request_and_not_for_a_film() -> None:
    turns = turns_with(film=100, other=100)
    turns.next_batch(1)
    turns.add(("memo", 0), Priority.INTERACTIVE)

    assert [turns.next_batch(1) for _ in range(3)] == [
        [("other", 0)],
        [("film", 1)],
        [("memo", 0)],
    ]


def test_a_batch_mixes_requests_before_it_takes_a_second_chunk_of_one() -> None:
    turns = turns_with(a=2, b=1)

    assert turns.next_batch(3) == [("a", 0), ("b", 0), ("a", 1)]
    assert not turns.has_work


def test_chunks_of_a_request_run_in_order_whatever_the_order_they_came_in() -> None:
    turns = Turns()
    for index in (2, 0, 1):
        turns.add(("a", index), Priority.INTERACTIVE)

    assert turns.next_batch(8) == [("a", 0), ("a", 1), ("a", 2)]


def test_what_somebody_waits_for_sooner_runs_first() -> None:
    turns = Turns()
    for priority in reversed(Priority):
        turns.add((priority.name, 0), priority)
        turns.add((priority.name, 1), priority)

    assert turns.next_batch(3) == [("LIVE_FINAL", 0), ("LIVE_FINAL", 1), ("LIVE_PARTIAL", 0)]
    assert turns.next_batch(9) == [
        ("LIVE_PARTIAL", 1),
        ("INTERACTIVE", 0),
        ("INTERACTIVE", 1),
        ("BULK", 0),
        ("BULK", 1),
    ]


def test_a_removed_chunk_has_no_turn() -> None:
    turns = turns_with(a=2, b=1)
    turns.remove(("a", 0))
    turns.remove(("a", 7))
    turns.remove(("unknown", 0))

    assert turns.next_batch(5) == [("a", 1), ("b", 0)]


def test_a_request_without_chunks_left_has_no_turn() -> None:
    turns = turns_with(a=1)
    turns.remove(("a", 0))

    assert not turns.has_work
    assert turns.next_batch(5) == []


def test_without_chunks_a_batch_is_empty() -> None:
    assert Turns().next_batch(4) == []


def test_a_request_that_runs_alone_shares_no_batch_and_waits_for_nobody() -> None:
    turns = turns_with(film=3, suspect=2)
    turns.run_alone("suspect")

    assert turns.next_batch(8) == [("suspect", 0)]
    assert turns.next_batch(8) == [("suspect", 1)]
    assert not turns.has_work
    assert turns.next_batch(8) == []


def test_alone_goes_before_any_priority() -> None:
    turns = turns_with(suspect=1)
    turns.add(("live", 0), Priority.LIVE_FINAL)
    turns.run_alone("suspect")

    assert turns.next_batch(8) == [("suspect", 0)]


@pytest.mark.parametrize("chunks_of_the_suspect", [0, 1])
def test_others_keep_their_place_while_one_runs_alone(chunks_of_the_suspect: int) -> None:
    turns = turns_with(film=1, memo=1, suspect=chunks_of_the_suspect)
    turns.run_alone("suspect")
    turns.next_batch(8)
    turns.run_alone(None)

    assert turns.next_batch(8) == [("film", 0), ("memo", 0)]
