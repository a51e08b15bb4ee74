from collections.abc import Sequence

import pytest

from worker.engine.interface import Cancelled, ChunkFailure
from worker.engine.recovery import answer_each

FAILURE = ChunkFailure("inference_failed", "no")


class Device:
    """Answers with each item's double; fails on batches over its size and on poisoned items."""

    def __init__(self, largest: int = 100, poisoned: Sequence[int] = ()) -> None:
        self.largest = largest
        self.poisoned = set(poisoned)
        self.batches: list[list[int]] = []
        self.releases = 0

    def answer(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if len(items) > self.largest:
            raise MemoryError("too many")
        if self.poisoned & set(items):
            raise ValueError("cannot")
        return [2 * item for item in items]

    def release(self) -> None:
        self.releases += 1


def failure_of(_error: Exception) -> ChunkFailure:
    return FAILURE


def test_a_batch_that_fits_is_answered_at_once() -> None:
    device = Device()

    answers = answer_each([1, 2, 3], device.answer, failure_of=failure_of, release=device.release)

    assert answers == [2, 4, 6]
    assert device.batches == [[1, 2, 3]]
    assert device.releases == 0


def test_a_batch_too_large_is_halved_until_it_fits() -> None:
    device = Device(largest=2)

    answers = answer_each(
        [1, 2, 3, 4, 5], device.answer, failure_of=failure_of, release=device.release
    )

    assert answers == [2, 4, 6, 8, 10]
    assert max(len(batch) for batch in device.batches[-2:]) <= 2


def test_memory_is_given_back_before_each_smaller_try() -> None:
    device = Device(largest=1)

    answer_each([1, 2], device.answer, failure_of=failure_of, release=device.release)

    assert device.releases == 1


def test_one_bad_item_fails_alone() -> None:
    device = Device(poisoned=[3])

    answers = answer_each(
        list(range(8)), device.answer, failure_of=failure_of, release=device.release
    )

    assert answers == [0, 2, 4, FAILURE, 8, 10, 12, 14]


def test_an_item_that_never_fits_is_the_only_one_that_fails() -> None:
    device = Device(largest=0)

    answers = answer_each([1, 2], device.answer, failure_of=failure_of, release=device.release)

    assert answers == [FAILURE, FAILURE]


def test_an_error_no_item_is_to_blame_for_goes_through() -> None:
    calls: list[int] = []

    def cancelled(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        raise Cancelled

    def raise_it(error: Exception) -> ChunkFailure:
        raise error

    with pytest.raises(Cancelled):
        answer_each([1, 2, 3], cancelled, failure_of=raise_it, release=lambda: None)
    assert calls == [3]


def test_no_items_ask_nothing() -> None:
    device = Device()

    assert answer_each([], device.answer, failure_of=failure_of, release=device.release) == []
    assert device.batches == []
