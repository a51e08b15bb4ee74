"""Whose chunk runs next."""

from worker.scheduler import Scheduler


def scheduler_with(**recordings: int) -> Scheduler:
    scheduler = Scheduler()
    for request_id, chunks in recordings.items():
        for index in range(chunks):
            scheduler.add(request_id, index)
    return scheduler


def test_recordings_take_turns() -> None:
    scheduler = scheduler_with(film=3, memo=1)

    assert [scheduler.next_batch(1) for _ in range(4)] == [
        [("film", 0)],
        [("memo", 0)],
        [("film", 1)],
        [("film", 2)],
    ]


def test_a_newcomer_waits_for_one_chunk_of_each_recording_and_not_for_a_film() -> None:
    scheduler = scheduler_with(film=100, other=100)
    scheduler.next_batch(1)
    scheduler.add("memo", 0)

    assert [scheduler.next_batch(1) for _ in range(3)] == [
        [("other", 0)],
        [("film", 1)],
        [("memo", 0)],
    ]


def test_a_batch_mixes_recordings_before_it_takes_a_second_chunk_of_one() -> None:
    scheduler = scheduler_with(a=2, b=1)

    assert scheduler.next_batch(3) == [("a", 0), ("b", 0), ("a", 1)]
    assert not scheduler.has_work


def test_a_dropped_recording_has_no_more_turns() -> None:
    scheduler = scheduler_with(a=2, b=1)
    scheduler.drop("a")
    scheduler.drop("unknown")

    assert scheduler.next_batch(5) == [("b", 0)]


def test_without_chunks_a_batch_is_empty() -> None:
    assert Scheduler().next_batch(4) == []


def test_a_recording_that_runs_alone_shares_no_batch_and_waits_for_nobody() -> None:
    scheduler = scheduler_with(film=3, suspect=2)
    scheduler.run_alone("suspect")

    assert scheduler.next_batch(8) == [("suspect", 0)]
    assert scheduler.next_batch(8) == [("suspect", 1)]
    assert not scheduler.has_work
    assert scheduler.next_batch(8) == []


def test_others_go_on_once_the_suspect_is_cleared_or_gone() -> None:
    cleared, dropped = scheduler_with(film=1, suspect=1), scheduler_with(film=1, suspect=1)
    for scheduler in (cleared, dropped):
        scheduler.run_alone("suspect")
    cleared.run_alone(None)
    dropped.drop("suspect")

    assert cleared.next_batch(8) == [("film", 0), ("suspect", 0)]
    assert dropped.next_batch(8) == [("film", 0)]


def test_it_names_the_recordings_that_wait_for_their_turn() -> None:
    scheduler = scheduler_with(a=2, b=1)
    scheduler.next_batch(2)

    assert scheduler.waiting == ("a",)
