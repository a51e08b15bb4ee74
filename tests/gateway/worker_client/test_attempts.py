"""How often a request is tried."""

from gateway.worker_client.attempts import MOST_STARTS, Attempts


def died(attempts: Attempts, times: int) -> None:
    for _ in range(times):
        attempts.begin()
        attempts.engine_died()


def test_attempts_are_counted_from_one() -> None:
    attempts = Attempts()

    assert [attempts.begin(), attempts.begin()] == [1, 2]


def test_one_death_makes_nobody_suspect() -> None:
    attempts = Attempts()
    died(attempts, 1)

    assert not attempts.is_suspect


def test_two_deaths_make_a_request_suspect_but_not_poison() -> None:
    attempts = Attempts()
    died(attempts, 2)

    assert attempts.is_suspect
    assert not attempts.is_poison


def test_only_two_deaths_alone_convict() -> None:
    attempts = Attempts()
    died(attempts, 3)
    assert not attempts.is_poison

    died(attempts, 1)
    assert attempts.is_poison


def test_a_finished_chunk_clears_a_suspect() -> None:
    attempts = Attempts()
    died(attempts, 3)
    attempts.begin()
    attempts.chunk_finished()

    assert not attempts.is_suspect
    attempts.engine_died()
    assert not attempts.is_poison
    assert not attempts.is_suspect


def test_engines_lost_without_blame_are_bounded_too() -> None:
    attempts = Attempts()
    for _ in range(MOST_STARTS - 1):
        attempts.begin()
    assert not attempts.is_hopeless
    attempts.begin()
    assert attempts.is_hopeless

    attempts.chunk_finished()
    assert not attempts.is_hopeless
