"""The native engine as the engine loop uses it, on the embedded checkpoint and on one that talks
without end."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from tests.worker.engine.checkpoint_folders import copied, edit_json, scrambled
from worker.engine import native_model, placement
from worker.engine.interface import (
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
)
from worker.engine.memory_plan import BatchLimits
from worker.engine.native import NativeEngine
from worker.engine.rows import TokenRun
from worker.sequence import Priority

SPEECH = Path(__file__).parents[3] / "examples" / "speech"
BRITISH = "zero one two three four five"
AMERICAN = "six seven eight nine zero one"
FLITE = "three one four one five nine two six"
TEXTS = {"british": BRITISH, "american": AMERICAN, "flite": FLITE}

Answers = dict[ChunkKey, ChunkText | ChunkFailure]


def speech(name: str) -> npt.NDArray[np.float32]:
    samples, rate = soundfile.read(SPEECH / f"digits_{name}.flac", dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, dtype=np.float32)


def chunk(name: str, **fields: Any) -> ChunkRequest:
    return ChunkRequest(speech(name), **fields)


def loaded(model_id: str | Path = "embedded", **fields: Any) -> NativeEngine:
    engine = NativeEngine(
        EngineSettings(
            str(model_id),
            cache_dir=Path("unused"),
            device="cpu",
            dtype="float32",
            threads=1,
            **fields,
        )
    )
    engine.load(lambda _progress: None)
    return engine


@pytest.fixture
def engine() -> NativeEngine:
    return loaded()


@pytest.fixture(scope="module")
def talker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scrambled(tmp_path_factory.mktemp("talker"))


def nothing() -> None:
    """Between steps."""


def finished(engine: NativeEngine, answers: Answers | None = None) -> Answers:
    """All answers, once the engine has nothing left to do."""
    answers = {} if answers is None else answers
    while engine.has_work:
        for key, answer in engine.step(nothing):
            assert key not in answers
            answers[key] = answer
    return answers


def stepped_until(engine: NativeEngine, is_reached: Callable[[], bool]) -> Answers:
    answers: Answers = {}
    for _ in range(2000):
        if is_reached():
            return answers
        answers |= engine.step(nothing)
    raise AssertionError("what is waited for does not come")


def texts(answers: Answers) -> dict[str, str]:
    return {
        request_id: answer.text
        for (request_id, _), answer in answers.items()
        if isinstance(answer, ChunkText)
    }


def submitted(engine: NativeEngine, names: Iterable[str] = TEXTS, **fields: Any) -> None:
    for name in names:
        engine.submit((name, 0), chunk(name, **fields))


def free_tokens(engine: NativeEngine) -> int:
    return engine._model.arena.free_tokens


def test_chunks_given_together_are_heard_each_by_itself(engine: NativeEngine) -> None:
    submitted(engine)

    assert texts(finished(engine)) == TEXTS


def test_counts_of_tokens_are_told(engine: NativeEngine) -> None:
    engine.submit(("british", 0), chunk("british", context="digits"))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert answer.language == "English"
    assert answer.audio_tokens == 55  # 4.2 s
    assert answer.prompt_tokens > 55 + len("digits") / 4
    assert answer.output_tokens == len(answer.token_ids) > 6
    assert answer.logprobs is None
    assert not answer.is_cut_off


def test_the_forced_language_is_the_answers_language(engine: NativeEngine) -> None:
    engine.submit(("british", 0), chunk("british", language="English"))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert (answer.language, answer.text) == ("English", BRITISH)


def test_silence_has_no_words(engine: NativeEngine) -> None:
    engine.submit(("silence", 0), ChunkRequest(np.zeros(16_000, dtype=np.float32)))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert (answer.language, answer.text) == (None, "")


@pytest.mark.parametrize("samples", [0, 1, 7_999])
def test_the_shortest_chunks_are_answered(engine: NativeEngine, samples: int) -> None:
    engine.submit(("short", 0), ChunkRequest(np.zeros(samples, dtype=np.float32)))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert answer.text == ""


@pytest.mark.parametrize("behind", [1, 3])
def test_reading_behind_what_is_launched_changes_no_answer(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    submitted(engine)
    at_once = finished(engine)
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", behind)

    submitted(engine)

    assert finished(engine) == at_once
    assert free_tokens(engine) == free_tokens(loaded())


def test_chunks_that_join_later_are_heard_as_well(engine: NativeEngine) -> None:
    answers: Answers = {}
    submitted(engine, ["british"])
    for _ in range(4):
        answers |= engine.step(nothing)
    submitted(engine, ["american", "flite"])

    assert texts(finished(engine, answers)) == TEXTS


def test_a_cancelled_chunk_gets_no_answer_and_gives_its_memory_back(engine: NativeEngine) -> None:
    before = free_tokens(engine)
    submitted(engine)
    stepped_until(engine, lambda: free_tokens(engine) < before)

    engine.cancel(("british", 0))
    engine.cancel(("never", 0))
    answers = finished(engine)

    assert texts(answers) == {"american": AMERICAN, "flite": FLITE}
    assert free_tokens(engine) == before


def test_a_chunk_cancelled_in_flight_is_not_answered_either(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", 2)
    submitted(engine)
    for _ in range(4):
        engine.step(nothing)

    engine.cancel(("flite", 0))

    assert texts(finished(engine)) == {"british": BRITISH, "american": AMERICAN}


def test_a_key_is_free_again_while_its_cancelled_chunk_is_in_flight(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", 3)
    submitted(engine, ["flite", "british"])
    for _ in range(5):
        engine.step(nothing)

    engine.cancel(("flite", 0))
    engine.submit(("flite", 0), chunk("american"))

    assert texts(finished(engine)) == {"british": BRITISH, "flite": AMERICAN}


def test_nothing_of_a_cancelled_chunk_reaches_the_next_one_with_its_key(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", 3)
    for steps in range(2, 26):
        submitted(engine, ["flite", "british"])
        answers: Answers = {}
        for _ in range(steps):
            answers |= engine.step(nothing)
        if ("flite", 0) in answers:
            break
        engine.cancel(("flite", 0))
        engine.submit(("flite", 0), chunk("american"))

        assert texts(finished(engine, answers)) == {"british": BRITISH, "flite": AMERICAN}
    assert steps > 12  # its end token was in flight as well


def test_what_a_chunk_was_made_of_is_gone_once_it_is_prefilled(engine: NativeEngine) -> None:
    submitted(engine, ["british"])
    progress = engine._running["british", 0]
    stepped_until(engine, lambda: len(progress.token_ids) > 0)

    assert (progress.hidden, progress.audio, progress.windows) == (None, {}, ())


def test_a_chunk_may_be_cancelled_between_steps_from_within(engine: NativeEngine) -> None:
    submitted(engine)

    answers: Answers = dict(engine.step(lambda: engine.cancel(("american", 0))))

    assert texts(finished(engine, answers)) == {"british": BRITISH, "flite": FLITE}


def test_a_request_that_runs_alone_holds_up_the_others_until_told(engine: NativeEngine) -> None:
    submitted(engine)
    engine.run_alone("american")

    alone: Answers = {}
    while engine.has_work:
        alone |= engine.step(nothing)
    engine.run_alone(None)

    assert texts(alone) == {"american": AMERICAN}
    assert texts(finished(engine)) == {"british": BRITISH, "flite": FLITE}


def test_logprobs_come_on_request_one_a_token(engine: NativeEngine) -> None:
    engine.submit(("british", 0), chunk("british", wants_logprobs=True))
    submitted(engine, ["american"])

    answers = finished(engine)

    wanted, other = answers["british", 0], answers["american", 0]
    assert isinstance(wanted, ChunkText)
    assert isinstance(other, ChunkText)
    assert wanted.logprobs is not None
    assert len(wanted.logprobs) == len(wanted.token_ids)
    assert all(-3 < logprob <= 0 for logprob in wanted.logprobs)
    assert other.logprobs is None


def test_tokens_with_logprobs_are_the_text(engine: NativeEngine) -> None:
    engine.submit(("british", 0), chunk("british", wants_logprobs=True))
    submitted(engine, ["american"])

    answers = finished(engine)

    wanted, other = answers["british", 0], answers["american", 0]
    assert isinstance(wanted, ChunkText)
    assert isinstance(other, ChunkText)
    assert b"".join(token.content for token in wanted.tokens) == BRITISH.encode()
    assert wanted.logprobs is not None
    assert [token.logprob for token in wanted.tokens] == list(
        wanted.logprobs[len(wanted.logprobs) - len(wanted.tokens) :]
    )
    assert other.tokens == ()


def test_what_a_running_chunk_has_written_so_far_is_told(engine: NativeEngine) -> None:
    submitted(engine)
    told: dict[str, list[str]] = {name: [] for name in TEXTS}
    answers: Answers = {}
    while engine.has_work:
        answers |= engine.step(nothing)
        for name, texts_so_far in told.items():
            text = engine.text_so_far((name, 0))
            if text is not None:
                texts_so_far.append(text)

    for name, texts_so_far in told.items():
        outputs = ["", *texts_so_far, f"language English<asr_text>{TEXTS[name]}"]
        assert len(set(outputs)) > 8
        assert all(b.startswith(a) for a, b in itertools.pairwise(outputs))
        assert engine.text_so_far((name, 0)) is None


def test_nothing_is_told_of_unknown_and_waiting_chunks(engine: NativeEngine) -> None:
    submitted(engine, ["british"])

    assert engine.text_so_far(("british", 0)) is None
    assert engine.text_so_far(("unknown", 0)) is None


def test_a_temperature_leaves_neighbours_alone(engine: NativeEngine) -> None:
    engine.submit(("warm", 0), chunk("british", temperature=5.0))
    submitted(engine, ["british", "flite"])

    answers = finished(engine)

    assert answers["british", 0] != answers["warm", 0]
    assert {name: text for name, text in texts(answers).items() if name != "warm"} == {
        "british": BRITISH,
        "flite": FLITE,
    }


def test_a_model_that_never_ends_is_cut_off_at_the_limit(talker_folder: Path) -> None:
    engine = loaded(talker_folder)
    engine.submit(("talk", 0), ChunkRequest(np.zeros(16_000, dtype=np.float32)))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert answer.is_cut_off
    assert answer.output_tokens == 32  # for a second of audio


def size(batch: list[Any]) -> int:
    """Windows, tokens or rows of a batch."""
    return sum(len(part.hidden) if isinstance(part, TokenRun) else 1 for part in batch)


Fails = Callable[[str, list[Any]], Exception | None]
"""Of the kind of a batch and what it holds."""


class FailingRunner:
    """The real runner, failing batches as told; notes what was tried."""

    def __init__(self, engine: NativeEngine, fails: Fails) -> None:
        self._runner = engine._model.runner
        self._fails = fails
        self.tried: list[tuple[str, int]] = []
        self.succeeded: list[tuple[str, int]] = []
        engine._model.runner = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        run = getattr(self._runner, name)
        return run if name == "embed" else lambda batch: self._run(name, batch, run)

    def _run(self, kind: str, batch: list[Any], run: Callable[[list[Any]], Any]) -> Any:
        self.tried.append((kind, size(batch)))
        error = self._fails(kind, batch)
        if error is not None:
            raise error
        self.succeeded.append((kind, size(batch)))
        return run(batch)


def is_about(engine: NativeEngine, name: str, part: Any) -> bool:
    """Whether this part of a batch belongs to a request."""
    progress = engine._running.get((name, 0))
    if progress is None:
        return False
    if isinstance(part, torch.Tensor):
        return any(part is window for window in progress.windows)
    return bool(part.slot == progress.sequence.slot)


@pytest.mark.parametrize(("kind", "most"), [("encode", 1), ("extend", 70), ("decode", 1)])
def test_a_batch_too_large_for_the_memory_runs_in_halves(
    engine: NativeEngine, kind: str, most: int
) -> None:
    def fails(name: str, batch: list[Any]) -> Exception | None:
        return torch.OutOfMemoryError() if name == kind and size(batch) > most else None

    runner = FailingRunner(engine, fails)
    submitted(engine)

    assert texts(finished(engine)) == TEXTS
    assert max(count for name, count in runner.tried if name == kind) > most
    assert max(count for name, count in runner.succeeded if name == kind) <= most


def test_after_a_failure_batches_are_small_at_once(engine: NativeEngine) -> None:
    def fails(kind: str, batch: list[Any]) -> Exception | None:
        return torch.OutOfMemoryError() if kind == "extend" and size(batch) > 70 else None

    runner = FailingRunner(engine, fails)
    submitted(engine)
    finished(engine)
    runner.tried.clear()
    submitted(engine)

    assert texts(finished(engine)) == TEXTS
    assert max(count for kind, count in runner.tried if kind == "extend") <= 70


@pytest.mark.parametrize("kind", ["encode", "extend", "decode"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError(), "out_of_memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "out_of_memory"),
        (RuntimeError("something odd"), "inference_failed"),
        (ValueError("something of ours"), "inference_failed"),
    ],
)
def test_a_chunk_that_fails_fails_alone(
    engine: NativeEngine, kind: str, error: Exception, code: str
) -> None:
    before = free_tokens(engine)

    def fails(name: str, batch: list[Any]) -> Exception | None:
        guilty = any(is_about(engine, "british", part) for part in batch)
        return error if name == kind and guilty else None

    FailingRunner(engine, fails)
    submitted(engine)
    answers = finished(engine)

    failure = answers["british", 0]
    assert isinstance(failure, ChunkFailure)
    assert failure.code == code
    assert str(error) not in failure.message or not str(error)
    assert texts(answers) == {"american": AMERICAN, "flite": FLITE}
    assert free_tokens(engine) == before


@pytest.mark.parametrize("kind", ["encode", "extend", "decode"])
def test_memory_that_is_wanting_for_a_moment_loses_no_chunk(
    engine: NativeEngine, kind: str
) -> None:
    failures = iter([torch.OutOfMemoryError()])
    runner = FailingRunner(
        engine, lambda name, _batch: next(failures, None) if name == kind else None
    )
    engine.submit(("short", 0), ChunkRequest(np.zeros(16_000, dtype=np.float32)))

    (answer,) = finished(engine).values()

    assert isinstance(answer, ChunkText)
    assert len(runner.tried) > len(runner.succeeded)


def test_batches_grow_again_once_memory_has_sufficed_for_long(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.native.LAUNCHES_TO_RECOVER", 8)
    shortage = [True]

    def fails(kind: str, batch: list[Any]) -> Exception | None:
        is_short = shortage[0] and kind == "extend" and size(batch) > 70
        return torch.OutOfMemoryError() if is_short else None

    runner = FailingRunner(engine, fails)
    submitted(engine)
    finished(engine)
    shortage[0] = False
    for _ in range(3):
        runner.tried.clear()
        submitted(engine)
        assert texts(finished(engine)) == TEXTS

    assert max(count for kind, count in runner.tried if kind == "extend") > 140


def test_scores_that_are_not_finite_fail_their_chunk_alone(engine: NativeEngine) -> None:
    submitted(engine)
    noise = speech("flite").copy()
    noise[100] = np.nan
    engine.submit(("broken", 0), ChunkRequest(noise))

    answers = finished(engine)

    failure = answers["broken", 0]
    assert isinstance(failure, ChunkFailure)
    assert failure.code == "inference_failed"
    assert texts(answers) == TEXTS


def test_a_lost_device_ends_the_engine(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "is_lost", lambda _device: True)
    FailingRunner(engine, lambda _kind, _batch: RuntimeError("CUDA error: unspecified"))
    submitted(engine)

    with pytest.raises(EngineFailure) as failure:
        finished(engine)
    assert failure.value.code == "device_lost"
    assert "unspecified" not in failure.value.message


def test_what_the_device_finds_wrong_later_fails_who_was_in_that_batch(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = free_tokens(engine)
    submitted(engine)
    stepped_until(engine, lambda: free_tokens(engine) < before)

    def read(_launched: object) -> None:
        raise RuntimeError("found while it was read")

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.runner.Launched.read", read)
        answers: Answers = dict(engine.step(nothing))
    finished(engine, answers)

    assert {type(answer) for answer in answers.values()} <= {ChunkFailure, ChunkText}
    assert any(isinstance(answer, ChunkFailure) for answer in answers.values())
    assert set(answers) == {(name, 0) for name in TEXTS}
    assert free_tokens(engine) == before


# --- memory ---------------------------------------------------------------------------------


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> NativeEngine:
    """Room for one chunk at a time."""
    monkeypatch.setattr(native_model, "CPU_LIMITS", BatchLimits(4, 4096, rows=1))
    return loaded(max_chunk_seconds=6.0)


def test_a_chunk_that_does_not_fit_waits(one_row: NativeEngine) -> None:
    submitted(one_row)

    assert texts(finished(one_row)) == TEXTS


def test_a_chunk_that_can_never_fit_is_refused_alone(one_row: NativeEngine) -> None:
    one_row.submit(("long", 0), ChunkRequest(np.zeros(60 * 16_000, dtype=np.float32)))
    submitted(one_row, ["british"])

    answers = finished(one_row)

    failure = answers["long", 0]
    assert isinstance(failure, ChunkFailure)
    assert failure.code == "out_of_memory"
    assert texts(answers) == {"british": BRITISH}


def test_a_chunk_with_more_tokens_than_the_model_has_positions_is_refused(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "max_positions", 120)
    engine.submit(("long", 0), chunk("british"))

    failure = finished(engine)["long", 0]

    assert isinstance(failure, ChunkFailure)
    assert failure.code == "out_of_memory"


def test_chunk_lengths_beyond_the_models_positions_end_the_start(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")

    def shorten(config: dict[str, Any]) -> None:
        config["thinker_config"]["text_config"]["max_position_embeddings"] = 512

    edit_json(folder / "config.json", shorten)
    with pytest.raises(EngineFailure, match="MAX_CHUNK_SECONDS") as refusal:
        loaded(folder)
    assert refusal.value.code == "unsupported_model"


def test_live_work_displaces_a_file_which_then_starts_over(one_row: NativeEngine) -> None:
    one_row.submit(("file", 0), chunk("british", priority=Priority.BULK))
    for _ in range(5):
        one_row.step(nothing)
    one_row.submit(("live", 0), chunk("american", priority=Priority.LIVE_FINAL))

    order = [key[0] for key in finished_in_order(one_row)]

    assert order == ["live", "file"]


def test_a_displaced_chunk_writes_the_same_again_at_any_temperature(one_row: NativeEngine) -> None:
    def written(name: str) -> list[int]:
        progress = one_row._running.get((name, 0))
        return progress.token_ids if progress else []

    for _ in range(50):  # what is drawn may end at once
        one_row.submit(("file", 0), chunk("british", priority=Priority.BULK, temperature=3.0))
        stepped_until(one_row, lambda: len(written("file")) >= 6 or not one_row.has_work)
        if one_row.has_work:
            break
    before = list(written("file"))
    one_row.submit(("live", 0), chunk("american", priority=Priority.LIVE_FINAL))
    stepped_until(one_row, lambda: bool(written("live")))
    assert written("file") == []
    stepped_until(one_row, lambda: len(written("file")) >= 6)

    assert written("file")[:6] == before[:6]


def finished_in_order(engine: NativeEngine) -> list[ChunkKey]:
    keys: list[ChunkKey] = []
    while engine.has_work:
        for key, answer in engine.step(nothing):
            assert isinstance(answer, ChunkText)
            assert answer.text == {"file": BRITISH, "live": AMERICAN}[key[0]]
            keys.append(key)
    return keys


@pytest.mark.parametrize("behind", [0, 2])
def test_what_was_in_flight_of_a_displaced_chunk_is_not_part_of_its_answer(
    one_row: NativeEngine, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", behind)
    for steps in range(2, 8):
        one_row.submit(("file", 0), chunk("british", priority=Priority.BULK))
        for _ in range(steps):
            one_row.step(nothing)
        one_row.submit(("live", 0), chunk("american", priority=Priority.LIVE_FINAL))

        assert set(finished_in_order(one_row)) == {("file", 0), ("live", 0)}


def test_features_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    edit_json(folder / "preprocessor_config.json", lambda fields: fields.update(feature_size=80))

    with pytest.raises(EngineFailure) as refusal:
        loaded(folder)
    assert refusal.value.code == "model_corrupt"
    assert str(tmp_path) not in refusal.value.message


def test_a_device_without_room_is_refused_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "free_memory", lambda _device: 12_000_000)

    with pytest.raises(EngineFailure) as refusal:
        loaded()
    assert refusal.value.code == "out_of_memory"
    assert "12 MB are free" in refusal.value.message


def test_a_warm_up_that_fails_ends_the_start(engine: NativeEngine) -> None:
    FailingRunner(engine, lambda _kind, _batch: RuntimeError("something odd"))

    with pytest.raises(EngineFailure) as failure:
        engine.warm_up()
    assert failure.value.code == "model_corrupt"


def test_a_warm_up_leaves_nothing_behind(engine: NativeEngine) -> None:
    before = free_tokens(engine)
    engine.warm_up()

    assert not engine.has_work
    assert free_tokens(engine) == before
