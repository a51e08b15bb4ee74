import argparse

import pytest

from bench.live_engine import Case, Found, cases_of, most_within


def options(**wanted: object) -> argparse.Namespace:
    usual = {"seconds": "10,30", "cadence": "1,2", "edits": "0,5", "grid": False}
    return argparse.Namespace(**usual | wanted)


def test_each_option_is_varied_against_the_usual_others() -> None:
    cases = cases_of(options())

    assert len(cases) == len(set(cases)) == 3 * 2 + 1 + 1
    assert Case("full", 10, 1.0, 0.0) in cases
    assert Case("verify", 30, 2.0, 5.0) in cases
    assert Case("verify", 30, 1.0, 0.0) in cases


def test_a_grid_varies_edits_only_where_there_are_drafts() -> None:
    assert len(cases_of(options(grid=True))) == 2 * 2 * (2 + 1 + 1)


def test_an_utterance_reaches_its_length_with_its_last_step() -> None:
    assert Case("verify", 30, 2.0, 0.0).lengths() == [22, 24, 26, 28, 30]
    assert Case("verify", 5, 2.0, 0.0).lengths() == [1, 3, 5]


@pytest.mark.parametrize("capacity", [0, 1, 5, 12, 100, 101])
def test_the_search_ends_within_an_eighth_of_what_is_possible(capacity: int) -> None:
    tried: list[int] = []

    def attempt(count: int) -> Found | None:
        tried.append(count)
        return Found(count, [0.1]) if count <= capacity else None

    found = most_within(attempt, most=64)

    reached = found.streams if found else 0
    assert reached <= min(capacity, 64)
    assert min(capacity, 64) - reached <= reached // 8
    assert len(tried) == len(set(tried))
    assert max(tried) <= 64
