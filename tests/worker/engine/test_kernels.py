"""The kernels against their torch twins, on a CUDA device or under Triton's interpreter."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.model.operations import Extents, TorchOperations, packed_extents, rotation_table

pytest.importorskip("triton", reason="Triton is not installed")

from tests.worker.engine.interpreted_triton import DEVICE, runnable_kernels

# numpy warns of what a device computes in silence.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")

TORCH = TorchOperations()
EPSILON = 1e-6
TYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((1, 64), (2, 128), (4, 32))
"""Query heads of a KV head, and their width."""
# Of the largest value compared: a few roundings of each type.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
# Bytes a program may have: CUDA C++ Programming Guide, technical specifications per capability.
# Code for 8.0 also runs on 8.6 and 8.9, which have least of the 8.x.
SHARED_MEMORY = {75: 64 * 1024, 80: 99 * 1024, 90: 227 * 1024}
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    with runnable_kernels() as module:
        yield module


@pytest.fixture
def operations(kernels: ModuleType) -> Any:
    """Many processors, so that short sequences are split and last splits are empty."""
    return kernels.TritonOperations(card=kernels.Card(processors=24, has_tensor_cores=True))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [48, 1024, 1500])
def test_norm_is_of_the_sum_and_both_are_returned(
    operations: Any, dtype: torch.dtype, width: int
) -> None:
    hidden, residual = normal(2, 5, width, dtype=dtype)
    weight = normal(width, dtype=dtype)

    normalised, total = operations.add_rms_norm(hidden, residual, weight, EPSILON)

    expected_normalised, expected_total = TORCH.add_rms_norm(hidden, residual, weight, EPSILON)
    assert_near(total, expected_total)
    assert_near(normalised, expected_normalised)


def test_without_residual_the_sum_is_the_hidden_state(operations: Any) -> None:
    hidden, weight = normal(3, 256), normal(256)

    normalised, total = operations.add_rms_norm(hidden, None, weight, EPSILON)

    assert total is hidden
    assert_near(normalised, TORCH.add_rms_norm(hidden, None, weight, EPSILON)[0])


@pytest.mark.parametrize("dtype", TYPES)
def test_gate_opens_by_its_silu(operations: Any, dtype: torch.dtype) -> None:
    gate_up = normal(3, 2 * 1300, dtype=dtype) * 4
    gate_up[0, :2] = torch.tensor([-1e4, 1e4])

    assert_near(operations.silu_mul(gate_up), TORCH.silu_mul(gate_up))


def test_rows_of_a_wider_tensor_are_taken_as_they_lie(operations: Any) -> None:
    wide = normal(4, 700)
    hidden, gate_up, weight = wide[:, :200], wide[:, 200:600], normal(200)

    assert_near(
        operations.add_rms_norm(hidden, wide[:, 500:], weight, EPSILON)[0],
        TORCH.add_rms_norm(hidden, wide[:, 500:], weight, EPSILON)[0],
    )
    assert_near(operations.silu_mul(gate_up), TORCH.silu_mul(gate_up))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "head_width"), [(4, 2, 128), (3, 3, 64), (4, 1, 32)])
def test_heads_are_normalised_rotated_and_stored(
    operations: Any, dtype: torch.dtype, heads: int, kv_heads: int, head_width: int
) -> None:
    projected = Projected(heads, kv_heads, head_width, dtype)

    query = operations.rotate_and_store(*projected.arguments(), *projected.cache)
    stored = [part.clone() for part in projected.cache]
    projected.poison_cache()
    expected_query = TORCH.rotate_and_store(*projected.arguments(), *projected.cache)

    assert_near(query, expected_query)
    for part, expected in zip(stored, projected.cache, strict=True):
        assert_near(part[projected.rows], expected[projected.rows])


def test_rows_of_other_tokens_keep_what_they_hold(operations: Any) -> None:
    projected = Projected(heads=4, kv_heads=2, head_width=32, dtype=torch.float32)

    operations.rotate_and_store(*projected.arguments(), *projected.cache)

    others = [row for row in range(projected.cache_rows) if row not in projected.rows.tolist()]
    for part in projected.cache:
        assert part[others].isnan().all()
        assert part[projected.rows].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_are_rounded_where_the_reference_rounds(operations: Any, dtype: torch.dtype) -> None:
    """A rounding too few or too many would change a tenth of all values and more."""
    hidden, residual = normal(2, 8, 512, dtype=dtype)
    projected = Projected(heads=4, kv_heads=2, head_width=128, dtype=dtype)
    arguments = projected.arguments()

    pairs = [
        *zip(
            operations.add_rms_norm(hidden, residual, hidden[0], EPSILON),
            TORCH.add_rms_norm(hidden, residual, hidden[0], EPSILON),
            strict=True,
        ),
        (operations.silu_mul(hidden), TORCH.silu_mul(hidden)),
        (
            operations.rotate_and_store(*arguments, *projected.cache),
            TORCH.rotate_and_store(*arguments, *projected.cache),
        ),
    ]

    for actual, expected in pairs:
        assert (actual != expected).float().mean() < 0.02


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("group", "head_width"), SHAPES)
def test_decode_attends_to_its_own_rows_alone(
    operations: Any, dtype: torch.dtype, group: int, head_width: int
) -> None:
    spans = scattered_spans(random.Random(group * head_width), [1, 700, 65, 3])
    keys, values = poisoned_cache(spans, 2, head_width, dtype)
    query = normal(len(spans), 2 * group, head_width, dtype=dtype)
    extents = packed_extents(spans, [1] * len(spans), DEVICE)

    mixed = operations.attend_one(query, keys, values, as_in_a_graph(extents))

    assert_near(mixed, TORCH.attend_one(query, keys, values, extents))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("group", "head_width"), SHAPES)
def test_every_query_sees_its_sequence_up_to_itself(
    operations: Any, dtype: torch.dtype, group: int, head_width: int
) -> None:
    lengths, counts = [70, 300, 1, 129], [70, 9, 1, 66]
    spans = scattered_spans(random.Random(group * head_width), lengths)
    keys, values = poisoned_cache(spans, 2, head_width, dtype)
    query = normal(sum(counts), 2 * group, head_width, dtype=dtype)
    extents = packed_extents(spans, counts, DEVICE)

    mixed = operations.attend(query, keys, values, as_in_a_graph(extents))

    assert_near(mixed, TORCH.attend(query, keys, values, extents))


@pytest.mark.parametrize("seed", range(12))
def test_attention_equals_torch_at_random_shapes(operations: Any, seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.randint(1, 700) for _ in range(chance.randint(1, 3))]
    counts = [chance.randint(1, min(length, 80)) for length in lengths]
    spans = scattered_spans(chance, lengths)
    heads, kv_heads, head_width = chance.choice([(2, 1, 32), (2, 2, 64), (4, 1, 32)])
    keys, values = poisoned_cache(spans, kv_heads, head_width, torch.float32)
    query = normal(sum(counts), heads, head_width)
    extents = packed_extents(spans, counts, DEVICE)
    single = packed_extents(spans, [1] * len(spans), DEVICE)

    assert_near(
        operations.attend(query, keys, values, as_in_a_graph(extents)),
        TORCH.attend(query, keys, values, extents),
    )
    assert_near(
        operations.attend_one(query[: len(spans)], keys, values, as_in_a_graph(single)),
        TORCH.attend_one(query[: len(spans)], keys, values, single),
    )


@pytest.mark.parametrize("processors", [1, 3, 1000])
def test_number_of_splits_changes_no_result(kernels: ModuleType, processors: int) -> None:
    spans = [(5, 500), (600, 2)]
    keys, values = poisoned_cache(spans, 2, 32, torch.float32)
    query = normal(2, 4, 32)
    extents = packed_extents(spans, [1, 1], DEVICE)
    card = kernels.Card(processors, has_tensor_cores=True)

    mixed = kernels.TritonOperations(card=card).attend_one(query, keys, values, extents)

    assert_near(mixed, TORCH.attend_one(query, keys, values, extents))


def test_few_sequences_are_split_and_many_are_not(kernels: ModuleType) -> None:
    def splits(sequences: int) -> int:
        count: int = kernels.split_count(sequences * 8, most=63, processors=132)
        return count

    assert [splits(sequences) for sequences in (1, 4, 16, 64, 256)] == [64, 32, 8, 2, 1]


def test_sequences_are_split_no_finer_than_tiles(kernels: ModuleType) -> None:
    assert kernels.split_count(1, most=5, processors=132) == 8
    assert kernels.split_count(1, most=1, processors=132) == 1


@pytest.mark.parametrize("processors", [1, 24])
def test_a_padded_slot_of_no_rows_decodes_to_zeros(kernels: ModuleType, processors: int) -> None:
    spans = [(3, 40), (0, 0)]
    keys, values = poisoned_cache(spans, 1, 32, torch.float32)
    query = normal(2, 2, 32)
    card = kernels.Card(processors, has_tensor_cores=True)
    extents = packed_extents(spans, [1, 1], DEVICE)

    mixed = kernels.TritonOperations(card=card).attend_one(
        query, keys, values, as_in_a_graph(extents)
    )

    alone = packed_extents(spans[:1], [1], DEVICE)
    assert_near(mixed[:1], TORCH.attend_one(query[:1], keys, values, alone))
    assert not mixed[1].any()


def test_padded_slots_and_padded_tokens_disturb_nobody(operations: Any) -> None:
    spans, counts = [(10, 90), (150, 33)], [20, 33]
    keys, values = poisoned_cache(spans, 2, 32, torch.float32)
    query = torch.full((64, 4, 32), float("nan"), device=DEVICE)
    query[:53] = normal(53, 4, 32)
    padded = padded_extents(spans, counts, slots=5, most_queries=64)

    mixed = operations.attend(query, keys, values, padded)

    extents = packed_extents(spans, counts, DEVICE)
    assert_near(mixed[:53], TORCH.attend(query[:53], keys, values, extents))


def test_what_is_not_finite_shows_in_the_result(operations: Any) -> None:
    """The engine tells a broken sequence by it."""
    spans = [(0, 80), (100, 80)]
    keys, values = poisoned_cache(spans, 1, 32, torch.float32)
    query = normal(2, 2, 32)
    query[0, 0, 0] = float("nan")
    extents = packed_extents(spans, [1, 1], DEVICE)

    for attend in (operations.attend_one, operations.attend):
        mixed = attend(query, keys, values, extents)
        assert mixed[0, 0].isnan().all()
        assert mixed[0, 1].isfinite().all()
        assert mixed[1].isfinite().all()


def test_one_query_decodes_as_it_prefills(operations: Any) -> None:
    spans = [(0, 130), (200, 64)]
    keys, values = poisoned_cache(spans, 2, 64, torch.float32)
    query = normal(2, 4, 64)
    extents = packed_extents(spans, [1, 1], DEVICE)

    assert_near(
        operations.attend_one(query, keys, values, extents),
        operations.attend(query, keys, values, extents),
    )


def test_layers_of_one_arena_may_lie_interleaved(operations: Any) -> None:
    spans = [(4, 70)]
    arena = torch.full((80, 3, 2, 2, 32), float("nan"), device=DEVICE)
    arena[4:74] = normal(70, 3, 2, 2, 32)
    keys, values = arena[:, 1, 0], arena[:, 1, 1]
    query = normal(9, 4, 32)
    extents = packed_extents(spans, [9], DEVICE)

    mixed = operations.attend(query, keys, values, extents)

    assert_near(mixed, TORCH.attend(query, keys, values, extents))


@pytest.mark.parametrize(
    ("capability", "dtype"), [(75, "float16"), (80, "bfloat16"), (90, "bfloat16")]
)
def test_kernels_compile_and_fit_the_card(tmp_path: Path, capability: int, dtype: str) -> None:
    program = Path(__file__).with_name("compiled_kernels.py")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("TRITON_INTERPRET", None)

    output = subprocess.run(
        [sys.executable, str(program), str(capability), dtype],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout

    compiled = [json.loads(line) for line in output.splitlines()]
    assert {line["kernel"] for line in compiled} == {
        "_add_rms_norm",
        "_silu_mul",
        "_rotate_and_store",
        "_attend_split",
        "_join_splits",
        "_attend",
    }
    assert max(line["shared"] for line in compiled) <= SHARED_MEMORY[capability]


class Projected:
    """Six tokens before their heads are stored, and a cache of NaN to store them in."""

    cache_rows = 40

    def __init__(self, heads: int, kv_heads: int, head_width: int, dtype: torch.dtype) -> None:
        self._qkv = normal(6, (heads + 2 * kv_heads) * head_width, dtype=dtype)
        self._norms = normal(2, head_width, dtype=dtype)
        table = rotation_table(500, head_width, 1e6, DEVICE)
        self._rotation = table[torch.tensor([3, 490, 0, 44, 2, 100], device=DEVICE)]
        self.rows = torch.tensor([[7, 1, 2, 30, 39, 11]] * 2, device=DEVICE).T.contiguous()[:, 1]
        self.cache = torch.empty(2, self.cache_rows, kv_heads, head_width, dtype=dtype).to(DEVICE)
        self.poison_cache()

    def poison_cache(self) -> None:
        self.cache.fill_(float("nan"))

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float, Tensor, Tensor]:
        query_norm, key_norm = self._norms
        return self._qkv, query_norm, key_norm, EPSILON, self._rotation, self.rows


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(DEVICE, dtype)


def scattered_spans(chance: random.Random, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Regions in another order than their sequences, with gaps around them."""
    spans = [(0, 0)] * len(lengths)
    end = 0
    for index in chance.sample(range(len(lengths)), len(lengths)):
        start = end + chance.randint(1, 50)
        spans[index] = (start, lengths[index])
        end = start + lengths[index]
    return spans


def poisoned_cache(
    spans: Sequence[tuple[int, int]], kv_heads: int, head_width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Keys and values that are NaN or infinite wherever no sequence has its rows."""
    rows = max(start + length for start, length in spans) + 70
    keys = torch.full((rows, kv_heads, head_width), float("nan"), dtype=dtype, device=DEVICE)
    values = torch.full_like(keys, float("inf"))
    for start, length in spans:
        keys[start : start + length] = normal(length, kv_heads, head_width, dtype=dtype)
        values[start : start + length] = normal(length, kv_heads, head_width, dtype=dtype)
    return keys, values


def as_in_a_graph(extents: Extents, most_queries: int | None = None) -> Extents:
    """The host knows no lengths, and the columns of one table lie interleaved."""
    columns = (extents.starts, extents.lengths, extents.query_starts, extents.query_counts)
    starts, lengths, query_starts, query_counts = torch.stack(columns, dim=1).unbind(1)
    most = most_queries or extents.most_queries
    return Extents(starts, lengths, query_starts, query_counts, most)


def padded_extents(
    spans: Sequence[tuple[int, int]], counts: Sequence[int], *, slots: int, most_queries: int
) -> Extents:
    """As a graph for more sequences and tokens has them: spare slots ask nothing."""
    spare = slots - len(spans)
    padded = packed_extents([*spans, *[(0, 0)] * spare], [*counts, *[0] * spare], DEVICE)
    return as_in_a_graph(padded, most_queries)


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """To the rounding of their type, beside the largest value expected."""
    assert actual.dtype == expected.dtype
    scale = max(1.0, float(expected.abs().max()))
    tolerance = TOLERANCE[expected.dtype] * scale
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance)
