"""Whole-batch engines behind the interface of the engine loop."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from worker.engine.batches import BatchEngine
from worker.engine.interface import (
    Cancelled,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    LoadProgress,
    ReportProgress,
)
from worker.sequence import Priority


class Inner:
    """Answers with each chunk's context after one on_step for each chunk."""

    name = "inner"
    max_chunk_seconds = 12.0

    def __init__(self, max_batch: int = 4) -> None:
        self.max_batch = max_batch
        self.batches: list[list[str]] = []
        self.abandoned = 0

    def load(self, report: ReportProgress) -> None:
        report(LoadProgress("weights"))

    def warm_up(self) -> None:
        self.batches.append(["silence"])

    def memory(self) -> dict[str, int]:
        return {"free_bytes": 7}

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        self.batches.append([chunk.context for chunk in chunks])
        try:
            for _ in chunks:
                on_step()
        except Cancelled:
            self.abandoned += 1
            raise
        return [
            ChunkFailure("inference_failed", "It could not be transcribed.")
            if chunk.context == "broken"
            else ChunkText("English", chunk.context, 9, 7, 2)
            for chunk in chunks
        ]


def chunk(context: str, priority: Priority = Priority.INTERACTIVE) -> ChunkRequest:
    return ChunkRequest(np.zeros(16_000, np.float32), context=context, priority=priority)


def submit(engine: BatchEngine, **requests: int) -> None:
    for request_id, chunks in requests.items():
        for index in range(chunks):
            engine.submit((request_id, index), chunk(f"{request_id}{index}"))


def texts(engine: BatchEngine, on_step: Callable[[], None] = lambda: None) -> dict[str, str]:
    """One step's answers by request id and index."""
    return {
        f"{request_id}{index}": answer.text
        for (request_id, index), answer in engine.step(on_step)
        if isinstance(answer, ChunkText)
    }


def test_a_step_answers_a_batch_of_the_requests_in_turn() -> None:
    inner = Inner(max_batch=3)
    engine = BatchEngine(inner)
    submit(engine, film=3, memo=1)

    assert texts(engine) == {name: name for name in ("film0", "memo0", "film1")}
    assert engine.has_work
    assert texts(engine) == {"film2": "film2"}
    assert not engine.has_work
    assert inner.batches == [["film0", "memo0", "film1"], ["film2"]]


def test_without_work_a_step_asks_the_engine_nothing() -> None:
    inner = Inner()

    assert BatchEngine(inner).step(lambda: None) == []
    assert inner.batches == []


def test_urgent_chunks_run_first() -> None:
    inner = Inner(max_batch=1)
    engine = BatchEngine(inner)
    for priority in reversed(Priority):
        engine.submit((priority.name, 0), chunk(priority.name, priority))
    while engine.has_work:
        engine.step(lambda: None)

    assert inner.batches == [[priority.name] for priority in Priority]


def test_the_failure_of_one_chunk_is_its_answer() -> None:
    engine = BatchEngine(Inner())
    engine.submit(("good", 0), chunk("good"))
    engine.submit(("bad", 0), chunk("broken"))
    answers = dict(engine.step(lambda: None))

    assert isinstance(answers["good", 0], ChunkText)
    assert isinstance(answers["bad", 0], ChunkFailure)


def test_a_chunk_cancelled_while_it_waits_is_never_inferred() -> None:
    inner = Inner()
    engine = BatchEngine(inner)
    submit(engine, a=2)
    engine.cancel(("a", 0))
    engine.cancel(("unknown", 0))

    assert texts(engine) == {"a1": "a1"}
    assert inner.batches == [["a1"]]


def test_a_chunk_cancelled_while_it_runs_gets_no_answer() -> None:
    engine = BatchEngine(Inner())
    submit(engine, a=1, b=1)

    assert texts(engine, lambda: engine.cancel(("a", 0))) == {"b0": "b0"}


def test_a_batch_that_nobody_waits_for_is_abandoned_at_its_next_step() -> None:
    inner = Inner()
    engine = BatchEngine(inner)
    submit(engine, a=2)
    steps: list[int] = []

    def cancel_one_by_one() -> None:
        engine.cancel(("a", len(steps)))
        steps.append(inner.abandoned)

    assert engine.step(cancel_one_by_one) == []
    assert steps == [0, 0]
    assert inner.abandoned == 1


def test_a_key_cancelled_and_submitted_again_during_its_batch_is_answered_by_the_next() -> None:
    engine = BatchEngine(Inner())
    submit(engine, a=1, b=1)
    replaced = False

    def replace_once() -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            engine.cancel(("a", 0))
            engine.submit(("a", 0), chunk("anew"))

    assert texts(engine, replace_once) == {"b0": "b0"}
    assert texts(engine) == {"a0": "anew"}


def test_a_chunk_submitted_during_a_batch_is_in_the_next() -> None:
    engine = BatchEngine(Inner())
    submit(engine, a=1)

    assert texts(engine, lambda: submit(engine, late=1)) == {"a0": "a0"}
    assert texts(engine) == {"late0": "late0"}


@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_key_in_use_is_refused(steps_before: int) -> None:
    engine = BatchEngine(Inner())
    submit(engine, a=1)

    with pytest.raises(ValueError, match="submitted before"):
        if steps_before:
            engine.step(lambda: submit(engine, a=1))
        submit(engine, a=1)


def test_an_answered_key_is_free_again() -> None:
    engine = BatchEngine(Inner())
    for _ in range(2):
        submit(engine, a=1)
        assert texts(engine) == {"a0": "a0"}


def test_what_runs_alone_is_inferred_by_itself_until_told_otherwise() -> None:
    inner = Inner()
    engine = BatchEngine(inner)
    submit(engine, film=2, suspect=2)
    engine.run_alone("suspect")
    assert texts(engine) == {"suspect0": "suspect0"}
    assert texts(engine) == {"suspect1": "suspect1"}
    assert not engine.has_work
    engine.run_alone(None)

    assert engine.has_work
    assert texts(engine) == {"film0": "film0", "film1": "film1"}


@pytest.mark.parametrize(("max_batch", "ahead"), [(1, 8), (8, 16), (64, 32)])
def test_a_batch_and_the_next_one_are_worth_having_ready(max_batch: int, ahead: int) -> None:
    assert BatchEngine(Inner(max_batch)).chunks_ahead == ahead


def test_after_a_fault_of_the_engine_nothing_is_taken_for_running() -> None:
    engine = BatchEngine(Inner())
    submit(engine, a=1)

    def lose_the_device() -> None:
        raise EngineFailure("device_lost", "The device is lost.")

    with pytest.raises(EngineFailure):
        engine.step(lose_the_device)
    submit(engine, a=1)
    assert texts(engine) == {"a0": "a0"}


def test_everything_else_is_the_inner_engines() -> None:
    inner = Inner()
    engine = BatchEngine(inner)
    progress: list[LoadProgress] = []
    engine.load(progress.append)
    engine.warm_up()

    assert (engine.name, engine.max_chunk_seconds) == ("inner", 12.0)
    assert engine.memory() == {"free_bytes": 7}
    assert progress == [LoadProgress("weights")]
    assert inner.batches == [["silence"]]
