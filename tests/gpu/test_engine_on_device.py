"""The whole native engine on a CUDA device, with a checkpoint that talks without end."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.worker.engine.checkpoint_folders import scrambled
from worker.engine.interface import (
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
)
from worker.engine.native import NativeEngine


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scrambled(tmp_path_factory.mktemp("talker"))


def sound(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """Tones that come and go over noise, unlike for every seed."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 200 + 150 * np.sin(2 * np.pi * times * generator.uniform(0.3, 3))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) * (np.sin(times * 7) > 0)
    return (0.3 * tone + generator.normal(size=len(times)) * 0.05).astype(np.float32)


CHUNKS = {
    (f"request-{seed}", 0): ChunkRequest(sound(seconds, seed))
    for seed, seconds in enumerate((1.0, 8.0, 8.01, 3.3, 20.0, 0.4, 14.5))
}


def loaded(
    folder: Path, device: str, dtype: str = "float32", **fields: int | float
) -> NativeEngine:
    settings = EngineSettings(
        str(folder), cache_dir=Path("unused"), device=device, dtype=dtype, **fields
    )
    engine = NativeEngine(settings)
    engine.load(lambda _progress: None)
    engine.warm_up()
    return engine


def answers(
    engine: NativeEngine, chunks: dict[ChunkKey, ChunkRequest] = CHUNKS
) -> dict[ChunkKey, ChunkText | ChunkFailure]:
    for key, chunk in chunks.items():
        engine.submit(key, chunk)
    found: dict[ChunkKey, ChunkText | ChunkFailure] = {}
    while engine.has_work:
        found |= engine.step(lambda: None)
    return found


def test_float32_says_on_the_device_what_it_says_on_the_cpu(talker: Path) -> None:
    expected = answers(loaded(talker, "cpu"))
    found = answers(loaded(talker, "cuda"))

    assert expected.keys() == found.keys()
    for key, answer in expected.items():
        other = found[key]
        assert isinstance(answer, ChunkText)
        assert isinstance(other, ChunkText)
        # A tie may fall either way, and all that follows with it.
        shared = min(len(answer.token_ids), 40)
        assert other.token_ids[:shared] == answer.token_ids[:shared]


def test_chunks_together_say_what_each_says_alone(talker: Path) -> None:
    engine = loaded(talker, "cuda")
    together = answers(engine)

    for key, chunk in CHUNKS.items():
        assert answers(engine, {key: chunk})[key] == together[key]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_answers_every_chunk(talker: Path, dtype: str) -> None:
    found = answers(loaded(talker, "cuda", dtype))

    assert all(isinstance(answer, ChunkText) and answer.token_ids for answer in found.values())


def test_memory_stays_within_the_budget(talker: Path) -> None:
    before = torch.cuda.memory_allocated()
    engine = loaded(talker, "cuda", vram_budget=200_000_000)

    plan = engine._model.plan
    assert plan.parameter_bytes + plan.kv_bytes <= 200_000_000
    assert torch.cuda.memory_allocated() - before < 200_000_000 + plan.working_bytes


def test_a_budget_that_is_too_small_is_refused(talker: Path) -> None:
    with pytest.raises(EngineFailure) as refusal:
        loaded(talker, "cuda", vram_budget=10_000_000)
    assert refusal.value.code == "out_of_memory"


def test_a_card_that_fills_up_meanwhile_fails_no_chunk(talker: Path) -> None:
    """Somebody else takes what is free: batches run in halves, graphs are done without."""
    engine = loaded(talker, "cuda")
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free - 300_000_000), dtype=torch.uint8, device="cuda")
    try:
        found = answers(engine)
    finally:
        del taken

    assert all(isinstance(answer, ChunkText) for answer in found.values())
