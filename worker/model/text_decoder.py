"""The Qwen3 text decoder over a KV cache in which every sequence owns a contiguous range of rows.

One pass serves a decode step (one token a sequence) and prefill or verification (runs of tokens):
the tokens of all sequences lie packed, and only the attention knows sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.model.config import TextDecoderConfig
from worker.model.operations import Extents, Operations, rotation_table
from worker.model.parameters import DecoderParameters


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """What a pass is told about its tokens; all tensors on the device."""

    positions: Tensor
    """(tokens,) int64: place of each token in its sequence."""
    rows: Tensor
    """(tokens,) int64: KV row of each token."""
    extents: Extents


class KvCache:
    """Keys and values of all layers: (layers, 2, rows, kv_heads, head_width), never cleared."""

    def __init__(
        self, config: TextDecoderConfig, rows: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.layers, 2, rows, config.kv_heads, config.head_width)
        self.rows = rows
        self._both = torch.empty(shape, device=device, dtype=dtype)
        self.layers: list[tuple[Tensor, Tensor]] = [
            (layer[0], layer[1]) for layer in self._both.unbind(0)
        ]

    def __repr__(self) -> str:
        return f"<KvCache {self.rows} rows, {self._both.nbytes / 1e6:.0f} MB>"


class TextDecoder:
    """Hidden states in, hidden states out; scores only where they are asked for."""

    def __init__(
        self, parameters: DecoderParameters, config: TextDecoderConfig, operations: Operations
    ) -> None:
        self._parameters = parameters
        self._config = config
        self._operations = operations
        device = parameters.embedding.device
        self._rotations = rotation_table(
            config.max_positions, config.head_width, config.rope_theta, device
        )

    def embed(self, token_ids: Tensor) -> Tensor:
        """(tokens,) -> (tokens, width)."""
        return functional.embedding(token_ids, self._parameters.embedding)

    def scores(self, hidden: Tensor) -> Tensor:
        """Hidden states of forward() (rows, width) -> (rows, vocabulary)."""
        return functional.linear(hidden, self._parameters.head)

    def forward(self, hidden: Tensor, tokens: PackedTokens, cache: KvCache) -> Tensor:
        """(tokens, width) -> the same, normalised for the head; writes the tokens' KV rows."""
        operations, epsilon = self._operations, self._config.norm_epsilon
        rotation = self._rotations[tokens.positions]
        attend = operations.attend if tokens.extents.most_queries > 1 else operations.attend_one
        residual: Tensor | None = None
        for layer, (keys, values) in zip(self._parameters.layers, cache.layers, strict=True):
            normed, residual = operations.add_rms_norm(
                hidden, residual, layer.attention_norm, epsilon
            )
            query = operations.rotate_and_store(
                functional.linear(normed, layer.qkv),
                layer.query_norm,
                layer.key_norm,
                epsilon,
                rotation,
                tokens.rows,
                keys,
                values,
            )
            mixed = attend(query, keys, values, tokens.extents).flatten(1)
            hidden = functional.linear(mixed, layer.attention_out)
            normed, residual = operations.add_rms_norm(hidden, residual, layer.ffn_norm, epsilon)
            widened = operations.silu_mul(functional.linear(normed, layer.gate_up))
            hidden = functional.linear(widened, layer.down)
        return operations.add_rms_norm(hidden, residual, self._parameters.final_norm, epsilon)[0]
