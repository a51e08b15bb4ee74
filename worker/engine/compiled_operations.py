"""The decoder's elementwise operations fused by torch.compile, for TORCH_COMPILE=true.

Attention stays with the operations given: Inductor has no kernel for contiguous KV regions.
docs/benchmarks.md has what this gives; importing Inductor costs every engine start some seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worker.model.operations import Extents, Operations, TorchOperations


class CompiledOperations:
    """See Operations. Compiled code is kept in TORCHINDUCTOR_CACHE_DIR."""

    def __init__(self, attention: Operations) -> None:
        plain = TorchOperations()
        self._attention = attention
        self._add_rms_norm = torch.compile(plain.add_rms_norm, dynamic=True, fullgraph=True)
        self._rotate_and_store = torch.compile(plain.rotate_and_store, dynamic=True, fullgraph=True)
        self._silu_mul = torch.compile(plain.silu_mul, dynamic=True, fullgraph=True)

    def add_rms_norm(
        self, hidden: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        normed, total = self._add_rms_norm(hidden, residual, weight, epsilon)
        return normed, total

    def rotate_and_store(
        self,
        qkv: Tensor,
        query_norm: Tensor,
        key_norm: Tensor,
        epsilon: float,
        rotation: Tensor,
        rows: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        query: Tensor = self._rotate_and_store(
            qkv, query_norm, key_norm, epsilon, rotation, rows, keys, values
        )
        return query

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        widened: Tensor = self._silu_mul(gate_up)
        return widened

    def attend_one(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        return self._attention.attend_one(query, keys, values, extents)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        return self._attention.attend(query, keys, values, extents)
