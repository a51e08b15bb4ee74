"""The decoder's fused operations as Triton kernels; worker/model/operations.py says what they mean.

Needs triton, so import it lazily. Every launch is valid inside a CUDA graph: its grid depends on
shapes alone, and where sequences lie and how long they are is read on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from worker.model.operations import Extents

# A tile of keys and one of values, with the next of each on its way, are 64 KiB: two programs on an
# A100. Without tensor cores what is multiplied lies in registers, and more of it would spill.
TILE_BYTES = 16 * 1024
MOST_TILE_ROWS = 64
MOST_TILE_QUERIES = 64
PLAIN_TILE_BYTES = 8 * 1024
PLAIN_TILE_QUERIES = 16
# tl.dot has no smaller side; the query heads of a group are padded to it.
SMALLEST_DOT = 16
# So many that reads of one program hide behind the arithmetic of another.
PROGRAMS_PER_PROCESSOR = 4
MOST_SPLITS = 64
SILU_BLOCK = 1024
VALUES_PER_WARP = 256

# Triton compiles anew for pointers that happen to be aligned; these are read one number at a time.
ALIGNED_BY_CHANCE = ("starts", "lengths", "query_starts", "query_counts", "rows")


@dataclass(frozen=True, slots=True)
class Card:
    """What launches depend on."""

    processors: int
    has_tensor_cores: bool
    """That Triton uses: those of compute capability 8.0 and later."""


class TritonOperations:
    """See worker.model.operations.Operations; tensors are on one CUDA device, or on the CPU under
    Triton's interpreter. Tokens, rows and heads may be strided, the values of one lie
    together; head widths are powers of two from 16 on.

    Tokens that belong to no sequence (padding of a graph) get undefined values from attend.
    """

    def __init__(self, *, longest_sequence: int = 4096, card: Card | None = None) -> None:
        """`longest_sequence` is the KV rows above which a sequence need not be split further; it
        bears on speed, not on results. Without `card` the device of the tensors is asked."""
        self._longest_sequence = longest_sequence
        self._card = card

    def __repr__(self) -> str:
        mode = "interpreted" if _IS_INTERPRETED.value else "compiled"
        return f"<TritonOperations {mode}, split for {self._longest_sequence} rows>"

    def add_rms_norm(
        self, hidden: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        tokens, width = hidden.shape
        normalised = torch.empty_like(hidden, memory_format=torch.contiguous_format)
        total = hidden if residual is None else torch.empty_like(normalised)
        block = _power_of_two(width)
        _add_rms_norm[(tokens,)](
            hidden,
            hidden if residual is None else residual,
            weight,
            normalised,
            total,
            hidden.stride(0),
            hidden.stride(0) if residual is None else residual.stride(0),
            width,
            epsilon,
            HAS_RESIDUAL=residual is not None,
            BLOCK=block,
            num_warps=_warps(block),
        )
        return normalised, total

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
        tokens = len(qkv)
        kv_heads, head_width = keys.shape[1:]
        heads = qkv.shape[1] // head_width - 2 * kv_heads
        query = qkv.new_empty(tokens, heads, head_width)
        _rotate_and_store[(tokens, heads + 2 * kv_heads)](
            qkv,
            query_norm,
            key_norm,
            rotation,
            rows,
            query,
            keys,
            values,
            qkv.stride(0),
            rotation.stride(0),
            rows.stride(0),
            keys.stride(0),
            keys.stride(1),
            values.stride(0),
            values.stride(1),
            epsilon,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=head_width // 2,
            num_warps=1,
        )
        return query

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        tokens, width = len(gate_up), gate_up.shape[1] // 2
        product = gate_up.new_empty(tokens, width)
        block = min(SILU_BLOCK, _power_of_two(width))
        _silu_mul[(tokens, _parts(width, block))](
            gate_up, product, gate_up.stride(0), width, BLOCK=block, num_warps=_warps(block)
        )
        return product

    def attend_one(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        sequences, heads, head_width = query.shape
        kv_heads = keys.shape[1]
        rows = _tile_rows(query, self._card_of(query))
        splits = split_count(
            sequences * kv_heads,
            most=_parts(self._longest_sequence, rows),
            processors=self._card_of(query).processors,
        )
        mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
        partial = mixed  # not written to where nothing is split
        weights = mixed
        if splits > 1:
            parts = (sequences, heads, splits)
            partial = query.new_empty(*parts, head_width, dtype=torch.float32)
            weights = query.new_empty(parts, dtype=torch.float32)
        group = heads // kv_heads
        _attend_split[(sequences, kv_heads, splits)](
            query,
            keys,
            values,
            extents.starts,
            extents.lengths,
            mixed,
            partial,
            weights,
            extents.starts.stride(0),
            extents.lengths.stride(0),
            query.stride(0),
            query.stride(1),
            keys.stride(0),
            keys.stride(1),
            values.stride(0),
            values.stride(1),
            _score_scale(head_width),
            GROUP=group,
            MEMBERS=max(SMALLEST_DOT, _power_of_two(group)),
            HEAD_WIDTH=head_width,
            ROWS=rows,
            IS_SPLIT=splits > 1,
            num_warps=4,
            num_stages=2,
        )
        if splits > 1:
            _join_splits[(sequences, heads)](
                partial, weights, mixed, SPLITS=splits, HEAD_WIDTH=head_width, num_warps=4
            )
        return mixed

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, extents: Extents) -> Tensor:
        heads, head_width = query.shape[1:]
        mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
        queries = _tile_queries(extents.most_queries, query, self._card_of(query))
        grid = (_parts(extents.most_queries, queries), len(extents.starts), heads)
        _attend[grid](
            query,
            keys,
            values,
            extents.starts,
            extents.lengths,
            extents.query_starts,
            extents.query_counts,
            mixed,
            extents.starts.stride(0),
            extents.lengths.stride(0),
            extents.query_starts.stride(0),
            extents.query_counts.stride(0),
            query.stride(0),
            query.stride(1),
            keys.stride(0),
            keys.stride(1),
            values.stride(0),
            values.stride(1),
            _score_scale(head_width),
            GROUP=heads // keys.shape[1],
            HEAD_WIDTH=head_width,
            QUERIES=queries,
            ROWS=_tile_rows(query, self._card_of(query)),
            num_warps=4,
            num_stages=2,
        )
        return mixed

    def _card_of(self, tensor: Tensor) -> Card:
        return self._card or card_of(tensor.device)


def split_count(programs: int, *, most: int, processors: int) -> int:
    """Into how many splits, a power of two, each of so many programs is cut for all to occupy a
    device. The lengths are not known here: a short sequence leaves its last splits empty."""
    wanted = _parts(PROGRAMS_PER_PROCESSOR * processors, programs)
    return min(MOST_SPLITS, _power_of_two(min(wanted, most)))


@cache
def card_of(device: torch.device) -> Card:
    if device.type != "cuda":
        return Card(processors=1, has_tensor_cores=True)
    properties = torch.cuda.get_device_properties(device)
    return Card(int(properties.multi_processor_count), bool(properties.major >= 8))


def _warps(block: int) -> int:
    return max(1, min(16, block // VALUES_PER_WARP))


def _score_scale(head_width: int) -> float:
    """Scores are taken to base 2, whose exponential is one instruction."""
    return math.log2(math.e) / math.sqrt(head_width)


def _tile_rows(query: Tensor, card: Card) -> int:
    row_bytes: int = query.shape[2] * query.element_size()
    tile_bytes = TILE_BYTES if _uses_tensor_cores(query, card) else PLAIN_TILE_BYTES
    return max(SMALLEST_DOT, min(MOST_TILE_ROWS, tile_bytes // row_bytes))


def _tile_queries(most_queries: int, query: Tensor, card: Card) -> int:
    largest = MOST_TILE_QUERIES if _uses_tensor_cores(query, card) else PLAIN_TILE_QUERIES
    return min(largest, max(SMALLEST_DOT, _power_of_two(most_queries)))


def _uses_tensor_cores(query: Tensor, card: Card) -> bool:
    """float32 is multiplied in full, which they do not offer."""
    return card.has_tensor_cores and query.dtype != torch.float32


def _parts(whole: int, part: int) -> int:
    return -(-whole // part)


def _power_of_two(least: int) -> int:
    """The smallest that is no less."""
    return 1 << (least - 1).bit_length()


def _jit(kernel: Callable[..., Any]) -> Any:
    return triton.jit(kernel, do_not_specialize_on_alignment=ALIGNED_BY_CHANCE)


@_jit
def _add_rms_norm(
    hidden: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    normalised: tl.tensor,
    total: tl.tensor,
    hidden_stride: int,
    residual_stride: int,
    width: int,
    epsilon: float,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program a token."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    own_type = hidden.dtype.element_ty
    summed = tl.load(hidden + token * hidden_stride + column, mask=inside, other=0.0)
    wide = summed.to(tl.float32)
    if HAS_RESIDUAL:
        added = tl.load(residual + token * residual_stride + column, mask=inside, other=0.0)
        summed = (wide + added.to(tl.float32)).to(own_type)
        tl.store(total + token * width + column, summed, mask=inside)
        wide = summed.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + epsilon)
    rounded = (wide * scale).to(own_type).to(tl.float32)
    factor = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normalised + token * width + column, (factor * rounded).to(own_type), mask=inside)


@_jit
def _silu_mul(
    gate_up: tl.tensor, product: tl.tensor, gate_up_stride: int, width: int, BLOCK: tl.constexpr
) -> None:
    """One program a token and block of columns."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    own_type = gate_up.dtype.element_ty
    source = gate_up + token * gate_up_stride + column
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    opened = (gate / (1.0 + tl.exp(-gate))).to(own_type).to(tl.float32)
    tl.store(product + token * width + column, (opened * up).to(own_type), mask=inside)


@_jit
def _rotate_and_store(
    qkv: tl.tensor,
    query_norm: tl.tensor,
    key_norm: tl.tensor,
    rotation: tl.tensor,
    rows: tl.tensor,
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    qkv_stride: int,
    rotation_stride: int,
    rows_stride: int,
    key_row_stride: int,
    key_head_stride: int,
    value_row_stride: int,
    value_head_stride: int,
    epsilon: float,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
) -> None:
    """One program a token and head; heads are queries, then keys, then values."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    own_type = qkv.dtype.element_ty
    column = tl.arange(0, HALF)
    source = qkv + token * qkv_stride + head * (2 * HALF) + column
    low = tl.load(source)
    high = tl.load(source + HALF)
    row = tl.load(rows + token * rows_stride)
    if head >= HEADS + KV_HEADS:
        kept = values + row * value_row_stride + (head - HEADS - KV_HEADS) * value_head_stride
        tl.store(kept + column, low)
        tl.store(kept + HALF + column, high)
    elif head >= HEADS:
        low, high = _normalised_halves(low, high, key_norm, epsilon, own_type, HALF)
        low, high = _rotated_halves(low, high, rotation + token * rotation_stride, own_type, HALF)
        kept = keys + row * key_row_stride + (head - HEADS) * key_head_stride
        tl.store(kept + column, low)
        tl.store(kept + HALF + column, high)
    else:
        low, high = _normalised_halves(low, high, query_norm, epsilon, own_type, HALF)
        low, high = _rotated_halves(low, high, rotation + token * rotation_stride, own_type, HALF)
        asked = query + (token * HEADS + head) * (2 * HALF)
        tl.store(asked + column, low)
        tl.store(asked + HALF + column, high)


@_jit
def _normalised_halves(
    low: tl.tensor,
    high: tl.tensor,
    norm: tl.tensor,
    epsilon: float,
    own_type: tl.constexpr,
    HALF: tl.constexpr,
) -> tl.tuple:
    """RMS norm of one head given as two halves, as float32 that own_type can hold."""
    column = tl.arange(0, HALF)
    low, high = low.to(tl.float32), high.to(tl.float32)
    scale = tl.rsqrt(tl.sum(low * low + high * high, 0) / (2 * HALF) + epsilon)
    low = (low * scale).to(own_type).to(tl.float32) * tl.load(norm + column).to(tl.float32)
    high = (high * scale).to(own_type).to(tl.float32) * tl.load(norm + HALF + column).to(tl.float32)
    return low.to(own_type).to(tl.float32), high.to(own_type).to(tl.float32)


@_jit
def _rotated_halves(
    low: tl.tensor, high: tl.tensor, rotation: tl.tensor, own_type: tl.constexpr, HALF: tl.constexpr
) -> tl.tuple:
    """Rounded behind every product, as the reference does."""
    column = tl.arange(0, HALF)
    cosine = tl.load(rotation + column).to(own_type).to(tl.float32)
    sine = tl.load(rotation + HALF + column).to(own_type).to(tl.float32)
    new_low = (low * cosine).to(own_type).to(tl.float32) - (high * sine).to(own_type).to(tl.float32)
    new_high = (high * cosine).to(own_type).to(tl.float32) + (low * sine).to(own_type).to(
        tl.float32
    )
    return new_low.to(own_type), new_high.to(own_type)


@_jit
def _attend_split(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    starts: tl.tensor,
    lengths: tl.tensor,
    mixed: tl.tensor,
    partial: tl.tensor,
    weights: tl.tensor,
    starts_stride: int,
    lengths_stride: int,
    query_stride: int,
    query_head_stride: int,
    key_row_stride: int,
    key_head_stride: int,
    value_row_stride: int,
    value_head_stride: int,
    score_scale: float,
    GROUP: tl.constexpr,
    MEMBERS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    IS_SPLIT: tl.constexpr,
) -> None:
    """One program a sequence, KV head and split: all query heads of the KV head read its rows once.

    A group is padded to what tl.dot takes: the arithmetic is idle beside the reads anyhow, and only
    a dot's operands are fetched ahead through shared memory.
    """
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    splits = tl.num_programs(2)
    start = tl.load(starts + sequence * starts_stride).to(tl.int64)
    length = tl.load(lengths + sequence * lengths_stride)
    share = tl.cdiv(tl.cdiv(length, splits), ROWS) * ROWS
    first = split * share
    end = tl.minimum(first + share, length)

    member = tl.arange(0, MEMBERS)
    column = tl.arange(0, HEAD_WIDTH)
    is_member = (member < GROUP)[:, None]
    head = kv_head * GROUP + member
    at = sequence * (tl.num_programs(1) * GROUP) + head
    part = at * splits + split
    if IS_SPLIT and first >= end:
        tl.store(weights + part, -float("inf"), mask=member < GROUP)
        return
    asked = query + sequence * query_stride + head[:, None] * query_head_stride + column[None, :]
    asking = tl.load(asked, mask=is_member, other=0.0)  # (members, head_width)

    peak, total, blend = _mix_rows(
        asking,
        keys + start * key_row_stride + kv_head * key_head_stride,
        values + start * value_row_stride + kv_head * value_head_stride,
        key_row_stride,
        value_row_stride,
        tl.full([MEMBERS], -float("inf"), tl.float32),
        tl.zeros([MEMBERS], tl.float32),
        tl.zeros([MEMBERS, HEAD_WIDTH], tl.float32),
        member * 0 + end,
        first,
        end,
        score_scale,
        True,
        HEAD_WIDTH,
        ROWS,
    )
    blend = blend / tl.where(total == 0.0, 1.0, total)[:, None]
    if IS_SPLIT:
        tl.store(weights + part, peak + tl.log2(total), mask=member < GROUP)
        kept = partial + part[:, None] * HEAD_WIDTH + column[None, :]
        tl.store(kept, blend, mask=is_member)
    else:
        kept = mixed + at[:, None] * HEAD_WIDTH + column[None, :]
        tl.store(kept, blend.to(mixed.dtype.element_ty), mask=is_member)


@_jit
def _join_splits(
    partial: tl.tensor,
    weights: tl.tensor,
    mixed: tl.tensor,
    SPLITS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
) -> None:
    """One program a sequence and head. A split without rows has weight -inf and nothing else."""
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    split = tl.arange(0, SPLITS)
    column = tl.arange(0, HEAD_WIDTH)
    weight = tl.load(weights + at * SPLITS + split)
    peak = tl.max(weight, 0)
    share = tl.exp2(weight - tl.where(peak == -float("inf"), 0.0, peak))
    kept = partial + (at * SPLITS + split)[:, None] * HEAD_WIDTH + column[None, :]
    part = tl.load(kept, mask=(weight != -float("inf"))[:, None], other=0.0)
    total = tl.sum(share, 0)
    blend = tl.sum(part * share[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(mixed + at * HEAD_WIDTH + column, blend.to(mixed.dtype.element_ty))


@_jit
def _attend(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    starts: tl.tensor,
    lengths: tl.tensor,
    query_starts: tl.tensor,
    query_counts: tl.tensor,
    mixed: tl.tensor,
    starts_stride: int,
    lengths_stride: int,
    query_starts_stride: int,
    query_counts_stride: int,
    query_stride: int,
    query_head_stride: int,
    key_row_stride: int,
    key_head_stride: int,
    value_row_stride: int,
    value_head_stride: int,
    score_scale: float,
    GROUP: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """One program a tile of queries, sequence and head."""
    # The last tiles see most rows: started first, they do not end last.
    first_query = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERIES
    sequence = tl.program_id(1)
    head = tl.program_id(2)
    count = tl.load(query_counts + sequence * query_counts_stride)
    if first_query >= count:
        return
    start = tl.load(starts + sequence * starts_stride).to(tl.int64)
    length = tl.load(lengths + sequence * lengths_stride)
    first_token = tl.load(query_starts + sequence * query_starts_stride).to(tl.int64) + first_query

    index = tl.arange(0, QUERIES)
    column = tl.arange(0, HEAD_WIDTH)
    is_query = (first_query + index < count)[:, None]
    token = first_token + index[:, None]
    asked = query + token * query_stride + head * query_head_stride + column[None, :]
    asking = tl.load(asked, mask=is_query, other=0.0)  # (queries, head_width)

    # A query sees the rows below its horizon; a tile that all queries see needs no mask.
    nearest = length - count + first_query + 1
    end = tl.minimum(nearest + QUERIES - 1, length)
    seen_by_all = nearest // ROWS * ROWS
    horizon = tl.minimum(nearest + index, end)
    own_keys = keys + start * key_row_stride + head // GROUP * key_head_stride
    own_values = values + start * value_row_stride + head // GROUP * value_head_stride
    peak = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    blend = tl.zeros([QUERIES, HEAD_WIDTH], tl.float32)
    peak, total, blend = _mix_rows(
        asking,
        own_keys,
        own_values,
        key_row_stride,
        value_row_stride,
        peak,
        total,
        blend,
        horizon,
        0,
        seen_by_all,
        score_scale,
        False,
        HEAD_WIDTH,
        ROWS,
    )
    peak, total, blend = _mix_rows(
        asking,
        own_keys,
        own_values,
        key_row_stride,
        value_row_stride,
        peak,
        total,
        blend,
        horizon,
        seen_by_all,
        end,
        score_scale,
        True,
        HEAD_WIDTH,
        ROWS,
    )
    kept = mixed + (token * tl.num_programs(2) + head) * HEAD_WIDTH + column[None, :]
    tl.store(kept, (blend / total[:, None]).to(mixed.dtype.element_ty), mask=is_query)


@_jit
def _mix_rows(
    asking: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    key_row_stride: int,
    value_row_stride: int,
    peak: tl.tensor,
    total: tl.tensor,
    blend: tl.tensor,
    horizon: tl.tensor,
    first: int,
    end: int,
    score_scale: float,
    IS_MASKED: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
) -> tl.tuple:
    """Online softmax over rows [first, end): greatest score, sum of weights and weighted values so
    far, for each query. A query sees rows below its horizon; rows from `end` on are never read."""
    column = tl.arange(0, HEAD_WIDTH)[None, :]
    for tile in range(first, end, ROWS):
        row = tile + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None]
        if IS_MASKED:
            is_own = (row < end)[:, None]
            key = tl.load(keys + place * key_row_stride + column, mask=is_own, other=0.0)
            value = tl.load(values + place * value_row_stride + column, mask=is_own, other=0.0)
        else:
            key = tl.load(keys + place * key_row_stride + column)
            value = tl.load(values + place * value_row_stride + column)
        score = _product(asking, tl.trans(key)) * score_scale  # (queries, rows)
        if IS_MASKED:
            score = tl.where(row[None, :] < horizon[:, None], score, -float("inf"))
        new_peak = tl.maximum(peak, tl.max(score, 1))
        weight = tl.exp2(score - new_peak[:, None])
        fading = tl.exp2(peak - new_peak)
        total = total * fading + tl.sum(weight, 1)
        blend = blend * fading[:, None] + _product(weight.to(value.dtype), value)
        peak = new_peak
    return peak, total, blend


@_jit
def _product(left: tl.tensor, right: tl.tensor) -> tl.tuple:
    """Matrix product summed in float32. The interpreter's own knows no bfloat16; widened values
    have the same products."""
    if _IS_INTERPRETED:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, input_precision="ieee")


_IS_INTERPRETED = tl.constexpr(not isinstance(_product, triton.JITFunction))
