"""A small untrained checkpoint and clips of tones that stand for spoken digits."""

from pathlib import Path

import numpy as np
import pytest

from tools.tiny_model.build import Shape, build_checkpoint
from tools.tiny_model.corpus import SAMPLE_RATE, Clip

SMALL = Shape(
    width=32,
    encoder_layers=2,
    conv_channels=4,
    decoder_layers=1,
    decoder_heads=2,
    decoder_kv_heads=1,
    decoder_head_size=16,
)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small_checkpoint")
    build_checkpoint(folder, SMALL, seed=1)
    return folder


@pytest.fixture(scope="session")
def tone_clips() -> list[Clip]:
    """Two voices, ten digits: a tone of its own pitch each, 0.3 s."""
    moments = np.arange(int(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    return [
        Clip(
            np.round(20_000 * np.sin(2 * np.pi * pitch * (digit + 2) * moments)).astype(np.int16),
            (digit,),
            voice,
        )
        for voice, pitch in (("low", 100), ("high", 170))
        for digit in range(10)
    ]
