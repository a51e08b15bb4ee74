"""Texts get their measured times between the steps of the engine inside."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from worker.engine.aligning import AligningEngine
from worker.engine.batches import BatchEngine
from worker.engine.interface import (
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    LoadProgress,
    ReportProgress,
)
from worker.text.alignment import Alignment, TimedUnit

SETTINGS = EngineSettings("embedded", Path("unused"), kept_free_bytes=10)


class FakeEngine:
    """A WholeBatches that says each chunk's context, one chunk a batch."""

    name = "fake"
    max_chunk_seconds = 12.0
    max_batch = 1

    def __init__(self) -> None:
        self.batches = 0

    def load(self, report: ReportProgress) -> None:
        report(LoadProgress("weights"))

    def warm_up(self) -> None:
        self.batches = 0

    def memory(self) -> dict[str, int]:
        return {"free_bytes": 5}

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        self.batches += 1
        on_step()
        return [self._answer(chunk) for chunk in chunks]

    def _answer(self, chunk: ChunkRequest) -> ChunkText | ChunkFailure:
        if chunk.context == "fail":
            return ChunkFailure("inference_failed", "This part could not be transcribed.")
        return ChunkText(chunk.language, chunk.context, 9, 7, 2)


class FakeAligner:
    """Gives each word 100 samples; knows English."""

    working_bytes = 32

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.fails = False
        self.failure: EngineFailure | None = None

    def load(self, report: ReportProgress) -> None:
        if self.failure:
            raise self.failure
        report(LoadProgress("imports"))

    def knows(self, language: str | None) -> bool:
        return language == "English"

    def align(
        self, samples: np.ndarray, text: str, language: str, on_step: Callable[[], None]
    ) -> tuple[TimedUnit, ...]:
        assert language == "English"
        self.texts.append(text)
        on_step()
        if self.fails:
            return ()
        return tuple(
            TimedUnit(unit, 100 * place, 100 * place + 100)
            for place, unit in enumerate(text.split())
        )


class Bench:
    """An aligning engine between fakes, loaded."""

    def __init__(self) -> None:
        self.inner = FakeEngine()
        self.aligner = FakeAligner()
        self.created: list[EngineSettings] = []
        self.engine = AligningEngine(self.aligner, SETTINGS, self._create)
        self.engine.load(lambda _progress: None)

    def _create(self, settings: EngineSettings) -> BatchEngine:
        self.created.append(settings)
        return BatchEngine(self.inner)

    def submit(self, request_id: str, text: str, *, wants_words: bool = True) -> None:
        language = "Thai" if text == "สวัสดี" else "English" if text else None
        chunk = ChunkRequest(np.zeros(1000, np.float32), language, text, wants_words=wants_words)
        self.engine.submit((request_id, 0), chunk)

    def step(self, on_step: Callable[[], None] = lambda: None) -> dict[str, ChunkText]:
        answers = {}
        for (request_id, _), answer in self.engine.step(on_step):
            assert isinstance(answer, ChunkText)
            answers[request_id] = answer
        return answers


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_text_is_answered_with_its_times_in_a_step_of_their_own(bench: Bench) -> None:
    bench.submit("a", "one two")

    assert bench.step() == {}
    assert bench.engine.has_work
    answer = bench.step()["a"]

    assert answer.alignment == Alignment(
        "one two", (TimedUnit("one", 0, 100), TimedUnit("two", 100, 200))
    )
    assert not bench.engine.has_work


@pytest.mark.parametrize(("text", "wants_words"), [("one", False), ("สวัสดี", True), ("", True)])
def test_what_needs_no_times_or_can_have_none_is_answered_at_once(
    bench: Bench, text: str, wants_words: bool
) -> None:
    bench.submit("a", text, wants_words=wants_words)

    assert bench.step()["a"].alignment is None
    assert bench.aligner.texts == []


def test_an_alignment_that_fails_leaves_the_text(bench: Bench) -> None:
    bench.aligner.fails = True
    bench.submit("a", "one")
    bench.step()

    answer = bench.step()["a"]

    assert (answer.text, answer.alignment) == ("one", None)


def test_a_failed_chunk_is_not_aligned(bench: Bench) -> None:
    bench.submit("a", "fail")

    [(_, answer)] = bench.engine.step(lambda: None)

    assert isinstance(answer, ChunkFailure)
    assert not bench.engine.has_work


def test_a_text_that_ran_in_circles_is_aligned_as_repaired(bench: Bench) -> None:
    bench.submit("a", "one two " + "blah " * 60)
    bench.step()

    answer = bench.step()["a"]

    assert answer.alignment is not None
    assert answer.alignment.text == bench.aligner.texts[0] == "one two blah"


def test_steps_of_inference_and_alignments_take_turns(bench: Bench) -> None:
    for name in "abcd":
        bench.submit(name, name)

    inferred = [(bench.step(), bench.inner.batches)[1] for _ in range(7)]

    assert inferred == [1, 1, 2, 2, 3, 3, 4]
    assert list(bench.step()) == ["d"]


def test_a_chunk_cancelled_before_its_alignment_is_not_aligned(bench: Bench) -> None:
    bench.submit("a", "one")
    bench.step()

    bench.engine.cancel(("a", 0))

    assert not bench.engine.has_work
    assert bench.step() == {}
    assert bench.aligner.texts == []


def test_a_chunk_cancelled_amid_its_alignment_has_no_answer(bench: Bench) -> None:
    bench.submit("a", "one")
    bench.step()

    assert bench.step(lambda: bench.engine.cancel(("a", 0))) == {}
    assert not bench.engine.has_work


def test_a_key_is_free_again_once_its_chunk_was_cancelled(bench: Bench) -> None:
    bench.submit("a", "one")
    bench.step()
    with pytest.raises(ValueError, match="not answered yet"):
        bench.submit("a", "two")

    bench.engine.cancel(("a", 0))
    bench.submit("a", "two")
    bench.step()

    assert bench.step()["a"].text == "two"


def test_beside_a_request_that_runs_alone_nothing_else_is_aligned(bench: Bench) -> None:
    bench.inner.max_batch = 2
    for name in "ab":
        bench.submit(name, name)
    bench.step()

    bench.engine.run_alone("c")
    assert not bench.engine.has_work

    bench.engine.run_alone("b")
    assert list(bench.step()) == ["b"]
    assert not bench.engine.has_work

    bench.engine.run_alone(None)
    assert list(bench.step()) == ["a"]


def test_the_engine_inside_is_created_with_less_memory_by_what_the_aligner_needs(
    bench: Bench,
) -> None:
    (settings,) = bench.created

    assert settings.kept_free_bytes == 10 + FakeAligner.working_bytes
    assert (bench.engine.name, bench.engine.max_chunk_seconds) == ("fake", 12.0)
    assert bench.engine.memory() == {"free_bytes": 5}


def test_an_aligner_that_cannot_be_loaded_ends_the_start_before_the_model() -> None:
    aligner = FakeAligner()
    aligner.failure = EngineFailure("model_not_found", "Set FORCED_ALIGNER_ID.")
    created: list[EngineSettings] = []

    def create(settings: EngineSettings) -> BatchEngine:
        created.append(settings)
        return BatchEngine(FakeEngine())

    with pytest.raises(EngineFailure, match="Set FORCED_ALIGNER_ID"):
        AligningEngine(aligner, SETTINGS, create).load(lambda _progress: None)

    assert created == []
