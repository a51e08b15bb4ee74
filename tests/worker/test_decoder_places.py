"""Who may have a decoder open, with threads that wait as feeders do."""

import threading
from collections.abc import Callable

import pytest

from worker.decoder_places import DecoderPlaces

DEADLINE = 20.0


def entered(places: DecoderPlaces, holder: str, *, may_be_brief: bool = True) -> bool:
    """Whether the holder gets a place at once."""
    waited = threading.Event()

    def give_up() -> None:
        waited.set()

    return places.enter(
        holder,
        may_be_brief=lambda: may_be_brief,
        is_stopped=waited.is_set,
        still_waits=give_up,
    )


class Waiting:
    """A thread that waits for a place."""

    def __init__(self, wait: Callable[[Callable[[], bool], Callable[[], None]], bool]) -> None:
        self._stopped = threading.Event()
        self.was_told = threading.Event()
        self.got: list[bool] = []
        arguments = (wait,)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def _run(self, wait: Callable[[Callable[[], bool], Callable[[], None]], bool]) -> None:
        self.got.append(wait(self._stopped.is_set, self.was_told.set))

    def is_waiting(self) -> bool:
        """Seen to wait, after something else may have let it go."""
        self.was_told.clear()
        return self.was_told.wait(DEADLINE) and not self.got

    def stop(self, places: DecoderPlaces) -> None:
        self._stopped.set()
        places.wake()

    def result(self) -> bool:
        self._thread.join(DEADLINE)
        (got,) = self.got
        return got


def returning(places: DecoderPlaces, holder: str) -> Waiting:
    waiting = Waiting(
        lambda is_stopped, told: places.return_later(
            holder, is_stopped=is_stopped, still_waits=told
        )
    )
    assert waiting.is_waiting()
    return waiting


@pytest.fixture
def places() -> DecoderPlaces:
    """Two lasting places and one brief one; those that wait say so at once."""
    return DecoderPlaces(lasting=2, brief=1, told_every=0.01)


def test_what_comes_first_keeps_its_decoder(places: DecoderPlaces) -> None:
    assert entered(places, "film 1")
    assert entered(places, "film 2")
    assert places.stays("film 1")
    assert places.stays("film 2")


def test_a_memo_beside_films_gets_a_brief_place_at_once_and_the_next_one_after_it(
    places: DecoderPlaces,
) -> None:
    for film in ("film 1", "film 2"):
        assert entered(places, film)

    for memo in ("memo 1", "memo 2", "memo 3"):
        assert entered(places, memo)
        assert not entered(places, "another")
        places.leave(memo)


def test_a_film_too_many_makes_room_for_memos_and_returns_when_another_is_done(
    places: DecoderPlaces,
) -> None:
    for film in ("film 1", "film 2", "film 3"):
        assert entered(places, film)
    assert not places.stays("film 3")

    third = returning(places, "film 3")
    assert entered(places, "memo")
    places.leave("memo")
    assert third.is_waiting()
    places.leave("film 1")

    assert third.result()
    assert places.stays("film 3")


def test_those_that_return_go_first_and_in_order(places: DecoderPlaces) -> None:
    waiting = []
    for film in ("film 1", "film 2", "film 3", "film 4"):
        assert entered(places, film)
        if not places.stays(film):
            waiting.append(returning(places, film))
    third, fourth = waiting

    places.leave("film 1")
    assert third.result()
    assert fourth.is_waiting()
    assert not entered(places, "film 5", may_be_brief=False)
    places.leave("film 2")

    assert fourth.result()


def test_a_brief_place_becomes_lasting_where_one_is_free(places: DecoderPlaces) -> None:
    for film in ("film 1", "film 2", "film 3"):
        assert entered(places, film)
    places.leave("film 1")

    assert places.stays("film 3")
    assert entered(places, "memo")


def test_what_is_slow_to_come_waits_for_a_lasting_place_until_it_is_there(
    places: DecoderPlaces,
) -> None:
    for film in ("film 1", "film 2"):
        assert entered(places, film)
    is_whole = threading.Event()

    slow = Waiting(
        lambda is_stopped, told: places.enter(
            "slow", may_be_brief=is_whole.is_set, is_stopped=is_stopped, still_waits=told
        )
    )
    assert slow.is_waiting()
    assert entered(places, "memo")
    places.leave("memo")
    is_whole.set()

    assert slow.result()


def test_what_is_slow_to_come_leaves_lasting_places_to_others(places: DecoderPlaces) -> None:
    assert entered(places, "slow 1", may_be_brief=False)
    assert not entered(places, "slow 2", may_be_brief=False)

    assert entered(places, "film")
    assert places.stays("film")
    places.leave("slow 1")
    assert entered(places, "slow 2", may_be_brief=False)


def test_who_is_stopped_waits_no_longer_and_is_in_nobodys_way(places: DecoderPlaces) -> None:
    for film in ("film 1", "film 2", "film 3"):
        assert entered(places, film)
    third = returning(places, "film 3")

    third.stop(places)
    assert not third.result()
    places.leave("film 3")
    places.leave("film 1")

    assert entered(places, "film 4")
    assert places.stays("film 4")
