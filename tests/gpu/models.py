"""Models for tests on a device: the published layer shapes with few layers, random weights."""

import torch

from tests.worker.engine.tiny_runner import tiny_runner
from worker.engine.cuda_graphs import GraphCache
from worker.engine.runner import Runner
from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig

SHALLOW = ModelConfig(
    AudioEncoderConfig(
        mel_bins=128,
        width=896,
        layers=3,
        heads=14,
        ffn_width=3584,
        conv_channels=480,
        output_width=1024,
    ),
    TextDecoderConfig(
        width=1024,
        layers=4,
        heads=16,
        kv_heads=8,
        head_width=128,
        ffn_width=3072,
        vocabulary=20_000,
        is_tied=False,
        max_positions=4096,
    ),
)
"""Layers as wide as those of the 0.6B model."""


def reference() -> Runner:
    """In float32 on the CPU."""
    return tiny_runner(config=SHALLOW)


def on_device(*, dtype: torch.dtype = torch.bfloat16, with_graphs: bool = False) -> Runner:
    """The same weights on the CUDA device, through Triton's kernels."""
    from worker.engine.kernels import TritonOperations

    return tiny_runner(
        config=SHALLOW,
        device="cuda",
        dtype=dtype,
        operations=TritonOperations(),
        graphs=GraphCache() if with_graphs else None,
    )
