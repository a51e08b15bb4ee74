"""How far recordings may be cut ahead of inference."""

import threading

from worker.chunks_ahead import LEAST, ChunksAhead

DEADLINE = 20.0


def granted(ahead: ChunksAhead, holder: str) -> int:
    """How many more chunks a holder gets now."""
    count = 0
    while ahead._has_room(holder):
        assert ahead.take(holder, lambda: False)
        count += 1
    return count


def test_a_recording_alone_gets_what_the_engine_can_use() -> None:
    assert granted(ChunksAhead(of_one=20), "film") == 20


def test_all_together_get_no_more_than_memory_is_meant_for() -> None:
    ahead = ChunksAhead(of_one=20, of_all=50)

    assert [granted(ahead, name) for name in "abc"] == [20, 20, 10]


def test_a_newcomer_gets_its_first_chunks_whatever_others_hold() -> None:
    ahead = ChunksAhead(of_one=20, of_all=20)
    granted(ahead, "film")

    assert granted(ahead, "memo") == LEAST


def test_an_engine_that_takes_one_chunk_at_a_time_finds_the_next_ready() -> None:
    assert granted(ChunksAhead(of_one=1), "film") == LEAST


def test_a_finished_chunk_makes_room_for_one() -> None:
    ahead = ChunksAhead(of_one=8)
    granted(ahead, "film")
    ahead.give_back("film")

    assert granted(ahead, "film") == 1


def test_what_a_recording_held_is_free_when_it_ends() -> None:
    ahead = ChunksAhead(of_one=20, of_all=20)
    granted(ahead, "film")
    ahead.forget("film")
    ahead.forget("unknown")

    assert granted(ahead, "other") == 20


def test_who_waits_for_room_goes_on_when_another_recording_gives_back() -> None:
    ahead = ChunksAhead(of_one=20, of_all=2 * LEAST)
    granted(ahead, "other")
    granted(ahead, "film")
    took: list[bool] = []
    waiting = threading.Thread(target=lambda: took.append(ahead.take("film", lambda: False)))
    waiting.start()
    ahead.forget("other")
    waiting.join(DEADLINE)

    assert took == [True]


def test_who_is_stopped_while_it_waits_holds_nothing() -> None:
    ahead = ChunksAhead(of_one=LEAST)
    granted(ahead, "film")
    stopped = threading.Event()
    took: list[bool] = []
    waiting = threading.Thread(target=lambda: took.append(ahead.take("film", stopped.is_set)))
    waiting.start()
    stopped.set()
    ahead.forget("film")
    waiting.join(DEADLINE)

    assert took == [False]
    assert granted(ahead, "film") == LEAST
