"""The forced aligner on a CUDA device. Needs the extra "official" too."""

from pathlib import Path

import numpy as np
import pytest

from tests.worker.engine.tiny_aligner import write_aligner
from worker.engine.interface import EngineSettings
from worker.engine.official_aligner import OfficialAligner

pytest.importorskip("qwen_asr")

TEXT = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_aligner(tmp_path_factory.mktemp("aligner"))


def loaded(folder: Path, device: str, dtype: str) -> OfficialAligner:
    aligner = OfficialAligner(
        EngineSettings(
            "embedded", Path("unused"), device=device, dtype=dtype, forced_aligner_id=str(folder)
        )
    )
    aligner.load(lambda _progress: None)
    return aligner


def sound(seconds: float) -> np.ndarray:
    samples = np.random.default_rng(5).normal(scale=0.1, size=int(seconds * 16_000))
    return samples.astype(np.float32)


@pytest.mark.parametrize("seconds", [0.3, 7.5, 20.0])
def test_times_on_the_device_are_those_of_the_cpu(folder: Path, seconds: float) -> None:
    found, expected = (
        loaded(folder, device, "float32").align(sound(seconds), TEXT, "English", lambda: None)
        for device in ("cuda", "cpu")
    )

    assert found == expected
    assert len(found) == len(TEXT.split())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_aligns_and_says_what_it_needs_to_work(folder: Path, dtype: str) -> None:
    aligner = loaded(folder, "cuda", dtype)

    assert aligner.working_bytes > 0
    assert len(aligner.align(sound(5), TEXT, "English", lambda: None)) == len(TEXT.split())
