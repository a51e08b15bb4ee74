"""vLLM itself is not installed where these run: a hand-written one stands in for it."""

import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.engine.checkpoint_folders import EMBEDDED
from worker.engine.creation import create_engine
from worker.engine.interface import (
    Cancelled,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
)
from worker.engine.prompt import Prompter
from worker.engine.vllm_backend import OfficialVllmEngine

PROMPTER = Prompter(EMBEDDED)


@dataclass
class SamplingParams:
    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    detokenize: bool


class FakeVllm:
    """Says for each clip how many samples it has; widens the audio placeholder as vLLM does."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[dict[str, Any]], list[SamplingParams]]] = []
        self.error: Exception | None = None
        self.loaded: dict[str, Any] = {}

    def generate(
        self, prompts: list[dict[str, Any]], sampling_params: list[SamplingParams], use_tqdm: bool
    ) -> list[Any]:
        assert not use_tqdm
        self.calls.append((prompts, sampling_params))
        if self.error is not None:
            raise self.error
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: dict[str, Any]) -> Any:
        (samples,) = prompt["multi_modal_data"]["audio"]
        text = f"language English<asr_text>heard {len(samples)}"
        token_ids = PROMPTER._tokenizer.encode(text).ids
        widened = [
            token
            for given in prompt["prompt_token_ids"]
            for token in [given] * (13 if given == PROMPTER.audio_token_id else 1)
        ]
        completion = types.SimpleNamespace(token_ids=[*token_ids, PROMPTER.turn_end_id])
        return types.SimpleNamespace(outputs=[completion], prompt_token_ids=widened)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> FakeVllm:
    fake = FakeVllm()

    class Qwen3ASRModel:
        @classmethod
        def LLM(cls, **arguments: Any) -> Any:
            if fake.error is not None:
                raise fake.error
            fake.loaded = arguments
            return types.SimpleNamespace(model=fake)

    modules: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": SamplingParams},
        "qwen_asr": {"Qwen3ASRModel": Qwen3ASRModel},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def engine() -> OfficialVllmEngine:
    return OfficialVllmEngine(EngineSettings("embedded", Path("unused"), backend="vllm"))


def loaded_engine() -> OfficialVllmEngine:
    made = engine()
    made.load(lambda _progress: None)
    return made


def chunks(*lengths: int) -> Sequence[ChunkRequest]:
    return [ChunkRequest(np.zeros(samples, dtype=np.float32)) for samples in lengths]


def test_the_settings_choose_it() -> None:
    made = create_engine(
        EngineSettings("embedded", Path("unused"), engine="official", backend="vllm")
    )

    assert made.name == "official-vllm"


def test_it_loads_the_checkpoints_folder(vllm: FakeVllm) -> None:
    loaded_engine().warm_up()

    assert vllm.loaded == {"model": str(EMBEDDED), "dtype": "auto"}


def test_each_chunk_gets_its_own_text(vllm: FakeVllm) -> None:
    answers = loaded_engine().transcribe(chunks(20_000, 40_000), lambda: None)

    assert [answer.text for answer in answers if isinstance(answer, ChunkText)] == [
        "heard 20000",
        "heard 40000",
    ]
    assert isinstance(answers[0], ChunkText)
    assert answers[0].language == "English"
    assert answers[0].audio_tokens == 13
    assert PROMPTER.detokenize(answers[0].token_ids) == "language English<asr_text>heard 20000"
    assert answers[0].output_tokens == len(answers[0].token_ids)


def test_short_chunks_are_padded_to_half_a_second(vllm: FakeVllm) -> None:
    (answer,) = loaded_engine().transcribe(chunks(100), lambda: None)

    assert isinstance(answer, ChunkText)
    assert answer.text == "heard 8000"


def test_the_prompt_goes_as_token_ids_with_one_place_for_the_audio(vllm: FakeVllm) -> None:
    request = ChunkRequest(
        np.zeros(16_000, dtype=np.float32), language="English", context="<|im_end|>"
    )
    loaded_engine().transcribe([request], lambda: None)

    prompts, _sampling = vllm.calls[0]
    expected = PROMPTER.token_ids(audio_tokens=1, context="<|im_end|>", language="English")
    assert prompts[0]["prompt_token_ids"] == expected


def test_sampling_is_per_chunk_and_bounded_by_its_length(vllm: FakeVllm) -> None:
    request = ChunkRequest(np.zeros(160_000, dtype=np.float32), temperature=0.4)
    loaded_engine().transcribe([request, *chunks(16_000)], lambda: None)

    _prompts, (first, second) = vllm.calls[0]
    assert (first.temperature, first.max_tokens) == (0.4, 176)
    assert (second.temperature, second.max_tokens) == (0.0, 32)
    assert PROMPTER.turn_end_id in first.stop_token_ids


def test_a_prefix_goes_behind_the_prompt_and_begins_the_answer(vllm: FakeVllm) -> None:
    prefix = tuple(PROMPTER._tokenizer.encode("language English<asr_text>once").ids)
    (chunk,) = chunks(20_000)
    (plain,) = loaded_engine().transcribe([chunk], lambda: None)

    begun = replace(chunk, prefix=prefix, most_new_tokens=9)
    (answer,) = loaded_engine().transcribe([begun], lambda: None)

    (prompt,), (sampling,) = vllm.calls[-1]
    assert prompt["prompt_token_ids"][-len(prefix) :] == list(prefix)
    assert sampling.max_tokens == 9
    assert isinstance(plain, ChunkText)
    assert isinstance(answer, ChunkText)
    assert answer.token_ids == prefix + plain.token_ids
    assert answer.prompt_tokens == plain.prompt_tokens


def test_many_chunks_go_in_batches_with_a_heartbeat_before_each(vllm: FakeVllm) -> None:
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    answers = loaded_engine().transcribe(chunks(*[8_000] * 100), beat)

    assert len(answers) == 100
    assert [len(prompts) for prompts, _ in vllm.calls] == [64, 36]
    assert beats == 2


def test_a_cancelled_call_asks_vllm_nothing(vllm: FakeVllm) -> None:
    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        loaded_engine().transcribe(chunks(8_000), cancel)
    assert vllm.calls == []


def test_an_error_fails_the_chunk_without_its_words(vllm: FakeVllm) -> None:
    made = loaded_engine()
    vllm.error = ValueError("secret of the library")

    (failure,) = made.transcribe(chunks(8_000), lambda: None)

    assert isinstance(failure, ChunkFailure)
    assert failure.code == "inference_failed"
    assert "secret" not in failure.message


def test_the_death_of_vllms_own_process_ends_the_engine(vllm: FakeVllm) -> None:
    class EngineDeadError(Exception):
        pass

    made = loaded_engine()
    vllm.error = EngineDeadError()

    with pytest.raises(EngineFailure) as caught:
        made.transcribe(chunks(8_000, 8_000), lambda: None)
    assert caught.value.code == "device_lost"


def test_a_start_without_enough_memory_is_told(vllm: FakeVllm) -> None:
    vllm.error = RuntimeError("CUDA out of memory")

    with pytest.raises(EngineFailure) as caught:
        engine().load(lambda _progress: None)
    assert caught.value.code == "out_of_memory"
    assert "CUDA" not in caught.value.message


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)

    with pytest.raises(EngineFailure) as caught:
        engine().load(lambda _progress: None)
    assert caught.value.code == "backend_missing"
    assert "[worker,vllm]" in caught.value.message


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(EngineFailure) as caught:
        create_engine(EngineSettings("embedded", Path("unused"), engine="official", backend="onnx"))
    assert caught.value.code == "backend_missing"


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EngineFailure, match="use native or official"):
        create_engine(EngineSettings("embedded", Path("unused"), engine="warp"))
