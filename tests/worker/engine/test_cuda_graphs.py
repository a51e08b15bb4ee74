"""Graphs by bucket, played on the CPU; tests/gpu records real ones."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tests.worker.engine.tiny_runner import PlayedCapture
from worker.engine.cuda_graphs import MOST_ATTEMPTS, Body, GraphCache, bucket_of


def doubled(tensor: Tensor) -> tuple[Tensor, ...]:
    return (tensor * 2,)


def test_a_bucket_is_the_smallest_that_holds_the_count() -> None:
    assert [bucket_of(count, (1, 2, 4)) for count in (1, 2, 3, 4)] == [1, 2, 4, 4]


def test_above_the_largest_bucket_there_is_none() -> None:
    assert bucket_of(5, (1, 2, 4)) is None


def test_a_replay_computes_with_the_new_inputs() -> None:
    graphs = GraphCache(PlayedCapture())

    found = [graphs.run("key", doubled, torch.full((3,), value))[0].clone() for value in (1.0, 5.0)]

    assert [row.tolist() for row in found] == [[2.0] * 3, [10.0] * 3]


def test_inputs_stay_the_callers_own() -> None:
    graphs = GraphCache(PlayedCapture())
    first = torch.ones(3)

    graphs.run("key", doubled, first)
    graphs.run("key", doubled, torch.full((3,), 7.0))

    assert first.tolist() == [1.0] * 3


def test_each_key_is_recorded_once() -> None:
    capture = PlayedCapture()
    graphs = GraphCache(capture)

    for size in (2, 4, 2, 4):
        graphs.run(size, doubled, torch.ones(size))

    assert capture.recorded == 2
    assert repr(graphs) == "<GraphCache 2 graphs>"


class NoCapture:
    """A device that cannot record."""

    def __init__(self, error: Exception) -> None:
        self.attempts = 0
        self._error = error

    def __call__(
        self, body: Body, inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.attempts += 1
        raise self._error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(RuntimeError("not while capturing"), 1), (torch.OutOfMemoryError(), MOST_ATTEMPTS)],
)
def test_where_recording_fails_the_work_is_done_without(error: Exception, attempts: int) -> None:
    capture = NoCapture(error)
    graphs = GraphCache(capture)

    for value in (1.0, 5.0, 7.0, 9.0, 11.0):
        (found,) = graphs.run("key", doubled, torch.full((3,), value))
        assert found.tolist() == [2 * value] * 3

    assert capture.attempts == attempts


def test_a_failure_that_is_not_for_want_of_memory_ends_all_recording() -> None:
    capture = NoCapture(RuntimeError("not while capturing"))
    graphs = GraphCache(capture)

    for key in "abc":
        graphs.run(key, doubled, torch.ones(3))

    assert capture.attempts == 1


def test_what_the_work_itself_raises_is_raised() -> None:
    def failing(_tensor: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        GraphCache(NoCapture(RuntimeError())).run("key", failing, torch.ones(1))
