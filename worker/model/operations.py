"""The decoder's fused operations in plain torch: what runs on a CPU, and what kernels must equal.

The KV cache of a layer is two tensors (rows, kv_heads, head_width); a sequence owns a contiguous
range of rows. Tokens of all sequences of a batch lie packed in one dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Extents:
    """Where the queries of each sequence lie in a packed batch, and what they attend to.

    Query i of a sequence sees the first `lengths - queries + i + 1` of its rows. Tensors are int32,
    (sequences,), on the device; the tuples hold the same where the host needs them.
    """

    starts: Tensor
    """First KV row of each sequence."""
    lengths: Tensor
    """KV rows each sequence has, this batch's own included."""
    query_starts: Tensor
    """First packed token of each sequence."""
    query_counts: Tensor
    most_queries: int
    """At least the largest of query_counts; 1 in a decode step."""
    spans: tuple[tuple[int, int], ...] = ()
    """(start, length) of each sequence where the host knows them: a graph is replayed without."""
    query_spans: tuple[tuple[int, int], ...] = ()
    """(first packed token, count) of each sequence where the host knows them."""


class Operations(Protocol):
    """What the text decoder is made of, beside matrix products."""

    def add_rms_norm(
        self, hidden: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """(tokens, width) twice -> (normalised sum, sum); the sum is `hidden` without residual.

        The mean of squares is taken in float32; the result is rounded to the type of `hidden`
        before it is scaled, as the reference does.
        """

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
        """Normalises and rotates queries and keys, writes keys and values into the cache.

        qkv is (tokens, (heads + 2 * kv_heads) * head_width), rotation (tokens, 2, head_width / 2)
        float32 (cosines, then sines), rows (tokens,) int64: where each token goes in keys and
        values. Returns the queries (tokens, heads, head_width).
        """

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """(tokens, 2 * width) -> silu of the first half times the second."""

    def attend_one(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        """A decode step: one query a sequence, (sequences, heads, head_width) -> the same."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        """Prefill and verification: packed queries (tokens, heads, head_width) -> the same.

        Tokens of no sequence are padding: what comes out for them means nothing.
        """


class TorchOperations:
    """See Operations."""

    def add_rms_norm(
        self, hidden: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        total = hidden if residual is None else hidden + residual
        return rms_norm(total, weight, epsilon), total

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
        kv_heads, head_width = keys.shape[1:]
        by_head = qkv.unflatten(1, (-1, head_width))  # (tokens, heads + 2 * kv_heads, head_width)
        heads = by_head.shape[1] - 2 * kv_heads
        # Queries and keys go through together: on a CPU each operation counts.
        scales = torch.cat((query_norm.expand(heads, -1), key_norm.expand(kv_heads, -1)))
        normed = rms_norm(by_head[:, :-kv_heads], scales, epsilon)
        query, key = _rotated(normed, rotation[:, :, None]).split((heads, kv_heads), dim=1)
        keys[rows] = key
        values[rows] = by_head[:, -kv_heads:]
        return query

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def attend_one(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        spans = extents.spans or _pairs(extents.starts, extents.lengths)
        keys, values = _by_head(keys), _by_head(values)
        # The heads that share keys are rows of one product: with one query each sees all of them.
        grouped = query.unflatten(1, (keys.shape[1], -1))[:, None]
        mixed = [
            functional.scaled_dot_product_attention(own, _span(keys, span), _span(values, span))
            for own, span in zip(grouped.unbind(0), spans, strict=True)
        ]  # (1, kv_heads, heads of each, head_width)
        return torch.cat(mixed).flatten(1, 2)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        spans = extents.spans or _pairs(extents.starts, extents.lengths)
        query_spans = extents.query_spans or _pairs(extents.query_starts, extents.query_counts)
        query, keys, values = _by_head(query), _by_head(keys), _by_head(values)
        mixed = torch.zeros_like(query)
        for query_span, span in zip(query_spans, spans, strict=True):
            count, length = query_span[1], span[1]
            if count == 0:
                continue
            _span(mixed, query_span).copy_(
                functional.scaled_dot_product_attention(
                    _span(query, query_span),
                    _span(keys, span),
                    _span(values, span),
                    attn_mask=_causal_mask(count, length, query.device),
                    is_causal=count == length and count > 1,
                    enable_gqa=True,
                )
            )
        return mixed[0].transpose(0, 1)


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Over the last dimension, in float32, rounded before it is scaled."""
    wide = hidden.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * (wide * scale).to(hidden.dtype)


def rotation_table(positions: int, head_width: int, theta: float, device: torch.device) -> Tensor:
    """Cosines and sines of the rotary embedding: (positions, 2, head_width / 2) float32."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    angles = torch.arange(positions, dtype=torch.float32, device=device)[:, None] / theta**exponents
    return torch.stack((angles.cos(), angles.sin()), dim=1)


def _rotated(heads: Tensor, rotation: Tensor) -> Tensor:
    """(tokens, heads, head_width); the halves of a head rotate against each other."""
    cosine, sine = (part.to(heads.dtype) for part in rotation.unbind(1))
    low, high = heads.chunk(2, dim=-1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)


def _by_head(rows: Tensor) -> Tensor:
    """(rows, heads, head_width) -> (1, heads, rows, head_width), as torch's attention has it."""
    return rows.transpose(0, 1)[None]


def _span(by_head: Tensor, span: tuple[int, int]) -> Tensor:
    return by_head.narrow(2, *span)


def _causal_mask(count: int, length: int, device: torch.device) -> Tensor | None:
    """None where all is seen, or where torch masks a square itself."""
    if count == 1 or count == length:
        return None
    return torch.ones(count, length, dtype=torch.bool, device=device).tril(length - count)


def _pairs(firsts: Tensor, seconds: Tensor) -> tuple[tuple[int, int], ...]:
    return tuple(zip(firsts.tolist(), seconds.tolist(), strict=True))


def packed_extents(
    spans: Sequence[tuple[int, int]], counts: Sequence[int], device: torch.device
) -> Extents:
    """Extents of sequences with these (start, length) spans and so many queries each."""
    firsts = [sum(counts[:index]) for index in range(len(counts))]
    columns = torch.tensor(
        [[start for start, _ in spans], [length for _, length in spans], firsts, list(counts)],
        dtype=torch.int32,
    )
    starts, lengths, query_starts, query_counts = on_device(columns, device).unbind(0)
    return Extents(
        starts,
        lengths,
        query_starts,
        query_counts,
        max(counts),
        spans=tuple(spans),
        query_spans=tuple(zip(firsts, counts, strict=True)),
    )


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host, copied without waiting for what the device is doing."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
