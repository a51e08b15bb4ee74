"""The promise of 30, 60 and 40 MB, kept by the real gateway in a process of its own."""

from pathlib import Path

import pytest

from bench.gateway_memory import (
    AFTERWARDS_BUDGET,
    IDLE_BUDGET,
    UPLOADS_BUDGET,
    Measurement,
    measure,
)


def assert_budgets_are_kept(measured: Measurement, uploads: int) -> None:
    assert measured.statuses == {503: uploads}, "every upload is received whole, then refused"
    assert measured.idle.resident <= IDLE_BUDGET
    assert measured.during.peak <= UPLOADS_BUDGET
    assert measured.afterwards.resident <= AFTERWARDS_BUDGET


def test_memory_stays_within_budget_idle_and_under_uploads(short_folder: Path) -> None:
    assert_budgets_are_kept(measure(short_folder, uploads=40, megabytes=3), 40)


@pytest.mark.long
def test_memory_stays_within_budget_under_200_uploads_of_25_mb(short_folder: Path) -> None:
    assert_budgets_are_kept(measure(short_folder, uploads=200, megabytes=25), 200)
