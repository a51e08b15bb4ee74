"""Whose chunk runs next."""

from worker.turns import Turns


def turns_with(**recordings: int) -> Turns:
    turns = Turns()
    for request_id, chunks in recordings.items():
        for index in range(chunks):
            turns.add(request_id, index)
    return turns


def test_recordings_take_turns() -> None:
    turns = turns_with(film=3, memo=1)

    assert [turns.next_batch(1) for _ in range(4)] == [
        [("film", 0)],
        [("memo", 0)],
        [("film", 1)],
        [("film", 2)],
    ]


def test_a_newcomer_waits_for_one_chunk_of_each_recording_and_not_for_a_film() -> None:
    turns = turns_with(film=100, other=100)
    turns.next_batch(1)
    turns.add("memo", 0)

    assert [turns.next_batch(1) for _ in range(3)] == [
        [("other", 0)],
        [("film", 1)],
        [("memo", 0)],
    ]


def test_a_batch_mixes_recordings_before_it_takes_a_second_chunk_of_one() -> None:
    turns = turns_with(a=2, b=1)

    assert turns.next_batch(3) == [("a", 0), ("b", 0), ("a", 1)]
    assert not turns.has_work


def test_a_dropped_recording_has_no_more_turns() -> None:
    turns = turns_with(a=2, b=1)
    turns.drop("a")
    turns.drop("unknown")

    assert turns.next_batch(5) == [("b", 0)]


def test_without_chunks_a_batch_is_empty() -> None:
    assert Turns().next_batch(4) == []


def test_a_recording_that_runs_alone_shares_no_batch_and_waits_for_nobody() -> None:
    turns = turns_with(film=3, suspect=2)
    turns.run_alone("suspect")

    assert turns.next_batch(8) == [("suspect", 0)]
    assert turns.next_batch(8) == [("suspect", 1)]
    assert not turns.has_work
    assert turns.next_batch(8) == []


def test_others_go_on_once_the_suspect_is_cleared_or_gone() -> None:
    cleared, dropped = turns_with(film=1, suspect=1), turns_with(film=1, suspect=1)
    for turns in (cleared, dropped):
        turns.run_alone("suspect")
    cleared.run_alone(None)
    dropped.drop("suspect")

    assert cleared.next_batch(8) == [("film", 0), ("suspect", 0)]
    assert dropped.next_batch(8) == [("film", 0)]


def test_it_names_the_recordings_that_wait_for_their_turn() -> None:
    turns = turns_with(a=2, b=1)
    turns.next_batch(2)

    assert turns.waiting == ("a",)
