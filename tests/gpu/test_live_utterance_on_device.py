"""Steps of growing utterances on a CUDA device, by graphs and kernels, against their audio afresh.

Passes of other shapes round otherwise: where two scores tie, texts may part, so speech that the
model is sure of is compared whole, and senseless text as far as ties are unlikely.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.gpu.test_engine_on_device import loaded, sound
from tests.worker.engine.checkpoint_folders import EMBEDDED, scrambled
from tests.worker.engine.live_steps import (
    RATE,
    WINDOW,
    CountingRunner,
    Samples,
    Speaker,
    finished,
    fresh,
)
from worker.engine.native import NativeEngine
from worker.sequence import Priority

SPEECH = Path(__file__).parents[2] / "examples" / "speech" / "digits_long.flac"
SURE_TOKENS = 20
LENGTHS = [
    4_000,
    3 * RATE,
    3 * RATE + 100,
    WINDOW - 160,
    WINDOW,
    WINDOW + 40,
    WINDOW + 160,
    11 * RATE,
    2 * WINDOW,
    2 * WINDOW + 41,
    19 * RATE,
]


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    assert rate == RATE
    return np.asarray(samples, dtype=np.float32)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return loaded(EMBEDDED, "cuda")


@pytest.fixture
def counted(engine: NativeEngine) -> Iterator[CountingRunner]:
    runner = CountingRunner(engine)
    yield runner
    engine._model.runner = runner._runner


def says_the_same(speaker: Speaker, lengths: list[int]) -> None:
    for samples in lengths:
        answer = speaker.step(samples, priority=Priority.LIVE_PARTIAL)
        expected = fresh(speaker.engine, speaker.audio[:samples])
        assert answer.token_ids == expected.token_ids, f"{samples} samples"
    speaker.engine.end_utterance(speaker.name)


def test_each_step_says_what_its_audio_says_afresh(engine: NativeEngine, speech: Samples) -> None:
    says_the_same(Speaker(engine, speech), LENGTHS)


def test_it_does_so_where_the_floor_rises(engine: NativeEngine, speech: Samples) -> None:
    audio = speech.copy()
    audio[: 9 * RATE] *= np.float32(0.05)

    says_the_same(Speaker(engine, audio), LENGTHS)


def test_senseless_text_is_the_same_as_well(tmp_path: Path) -> None:
    engine = loaded(scrambled(tmp_path), "cuda")
    speaker = Speaker(engine, sound(12, 5))
    for samples in (2 * RATE, WINDOW + 40, 10 * RATE, 10 * RATE, 12 * RATE):
        answer = speaker.step(samples)
        expected = fresh(engine, speaker.audio[:samples])
        assert answer.token_ids[:SURE_TOKENS] == expected.token_ids[:SURE_TOKENS]
        assert answer.output_tokens == expected.output_tokens


def test_parked_regions_that_others_took_are_filled_anew(speech: Samples) -> None:
    plan = loaded(EMBEDDED, "cuda")._model.plan
    token_bytes = plan.kv_bytes // plan.kv_tokens
    budget = plan.parameter_bytes + (plan.least_tokens + 1_000) * token_bytes
    engine = loaded(EMBEDDED, "cuda", vram_budget=budget)
    speakers = [Speaker(engine, speech[number * RATE :], f"talk {number}") for number in range(12)]

    for samples in (5 * RATE, WINDOW + 40, 12 * RATE, 12 * RATE + 500):
        for speaker in speakers:
            answer = speaker.step(samples)
            assert answer.token_ids == fresh(engine, speaker.audio[:samples]).token_ids

    assert len(engine._scheduler._parked.regions()) < len(speakers)


def test_many_utterances_and_a_file_together_say_what_each_says_alone(
    engine: NativeEngine, speech: Samples
) -> None:
    speakers = [Speaker(engine, speech[number * 3_000 :], f"talk {number}") for number in range(40)]
    for samples in (5 * RATE, WINDOW + 40, 12 * RATE):
        keys = [speaker.submit(samples, priority=Priority.LIVE_PARTIAL) for speaker in speakers]
        answers = finished(engine)
        for speaker, key in zip(speakers, keys, strict=True):
            expected = fresh(engine, speaker.audio[:samples])
            speaker.said = answers[key].token_ids
            assert answers[key].token_ids == expected.token_ids
    for speaker in speakers:
        engine.end_utterance(speaker.name)


def test_a_stable_text_takes_one_pass_and_its_new_tokens(
    engine: NativeEngine, counted: CountingRunner, speech: Samples
) -> None:
    speaker = Speaker(engine, speech)
    speaker.step(16 * RATE)
    before = speaker.step(16 * RATE + 50)
    counted.taken()

    answer = speaker.step(18 * RATE)

    work = counted.taken()
    assert answer.token_ids[: len(before.token_ids)] == before.token_ids
    assert (work.windows <= 2, work.passes) == (True, 1)
    # One more may be under way when the end is read.
    assert work.decoded <= len(answer.token_ids) - len(before.token_ids) + 1
    engine.end_utterance(speaker.name)


def test_half_precision_answers_every_step(speech: Samples) -> None:
    engine = loaded(EMBEDDED, "cuda", "bfloat16")
    speaker = Speaker(engine, speech)
    for samples in LENGTHS:
        answer = speaker.step(samples)
        assert answer.prompt_tokens > 0
    assert speaker.said
    torch.cuda.synchronize()
