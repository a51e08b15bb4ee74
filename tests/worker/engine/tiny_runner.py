"""A runner over a tiny random model on the CPU, with memory full of poison."""

from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from worker.engine.cuda_graphs import Body, GraphCache
from worker.engine.runner import TOKEN_BUCKETS, Runner
from worker.engine.weights import random_parameters
from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig
from worker.model.operations import Operations, TorchOperations
from worker.model.parameters import (
    Affine,
    DecoderLayer,
    DecoderParameters,
    EncoderLayer,
    EncoderParameters,
    ModelParameters,
)

TINY = ModelConfig(
    AudioEncoderConfig(
        mel_bins=128, width=32, layers=2, heads=2, ffn_width=48, conv_channels=8, output_width=48
    ),
    TextDecoderConfig(
        width=48,
        layers=3,
        heads=4,
        kv_heads=2,
        head_width=16,
        ffn_width=80,
        vocabulary=211,
        is_tied=False,
        max_positions=2048,
    ),
)
SLOTS = 8
REGION = 256
"""KV rows of each test sequence."""


def first_row(slot: int) -> int:
    """Where the test sequence in this slot has its region: behind the padding's rows, with gaps."""
    return TOKEN_BUCKETS[-1] + slot * (REGION + 64)


def tiny_runner(
    *,
    graphs: GraphCache | None = None,
    config: ModelConfig = TINY,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    operations: Operations | None = None,
    threads: int | None = None,
) -> Runner:
    """Random weights, alike for every device and type; every KV row holds NaN until written."""
    parameters = random_parameters(config, device=torch.device("cpu"), dtype=torch.float32)
    runner = Runner(
        moved(parameters, device, dtype),
        operations or TorchOperations(),
        kv_rows=first_row(SLOTS),
        slots=SLOTS,
        spare_row=0,
        graphs=graphs,
        threads=threads,
    )
    for keys, values in runner.cache.layers:
        keys.fill_(torch.nan)
        values.fill_(torch.nan)
    return runner


def moved(parameters: ModelParameters, device: str, dtype: torch.dtype) -> ModelParameters:
    """The same tensors elsewhere: random ones differ from device to device."""

    def copied(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to(device, dtype)
        if isinstance(part, Affine):
            return Affine(*map(copied, part))
        if isinstance(part, tuple):
            return tuple(map(copied, part))
        if isinstance(part, EncoderParameters | DecoderParameters | EncoderLayer | DecoderLayer):
            fields = {field.name: copied(getattr(part, field.name)) for field in fields_of(part)}
            return replace(part, **fields)
        return part

    return replace(
        parameters, encoder=copied(parameters.encoder), decoder=copied(parameters.decoder)
    )


class PlayedCapture:
    """Records like a CUDA graph and plays on the CPU: fixed inputs and outputs in one shared pool,
    which each replay of any recording overwrites."""

    def __init__(self) -> None:
        self.recorded = 0
        self._pool: list[Tensor] = []

    def __call__(
        self, body: Body, inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.recorded += 1
        body(*inputs)  # the run that warms up
        outputs = tuple(torch.empty_like(output) for output in body(*inputs))
        self._pool += outputs

        def replay() -> None:
            for tensor in self._pool:
                tensor.fill_(torch.nan if tensor.is_floating_point() else 7)
            for output, value in zip(outputs, body(*inputs), strict=True):
                output.copy_(value)

        return replay, outputs
