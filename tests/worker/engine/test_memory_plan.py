import pytest

from worker.engine.interface import EngineFailure
from worker.engine.memory_plan import BatchLimits, MemoryPlan, plan_memory, working_bytes
from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig

GB = 10**9
SMALL = ModelConfig(
    AudioEncoderConfig(128, 896, 18, 14, 3584, 480, 1024),
    TextDecoderConfig(1024, 28, 16, 8, 128, 3072, 151_936, is_tied=True),
)
SMALL_BYTES = 782_000_000 * 2
TOKEN_BYTES = 112 * 1024
"""Of KV cache, for both published sizes in bfloat16."""
LONGEST = 2800
LIMITS = BatchLimits(windows=16, prefill_tokens=8192, rows=256)


def plan(free_bytes: int, budget: int | float | None = None, least: int = LONGEST) -> MemoryPlan:
    return plan_memory(
        SMALL,
        free_bytes=free_bytes,
        budget=budget,
        parameter_bytes=SMALL_BYTES,
        value_bytes=2,
        least_tokens=least,
        limits=LIMITS,
    )


def taken(found: MemoryPlan) -> int:
    return found.parameter_bytes + found.kv_bytes


def test_a_token_takes_what_was_measured() -> None:
    assert SMALL.text.kv_values_per_token * 2 == TOKEN_BYTES


def test_by_default_a_tenth_of_the_free_memory_is_left_to_others() -> None:
    found = plan(24 * GB)

    all_in_all = taken(found) + found.working_bytes
    assert 0.9 * 24 * GB - TOKEN_BYTES < all_in_all <= 0.9 * 24 * GB


def test_a_budget_in_bytes_bounds_weights_and_cache() -> None:
    assert 6 * GB - TOKEN_BYTES < taken(plan(24 * GB, 6 * GB)) <= 6 * GB


def test_a_share_is_of_what_is_free() -> None:
    assert 12 * GB - TOKEN_BYTES < taken(plan(24 * GB, 0.5)) <= 12 * GB


def test_a_budget_beyond_the_free_memory_still_leaves_room_to_work() -> None:
    found = plan(8 * GB, 100 * GB)

    assert taken(found) + found.working_bytes <= 8 * GB


def test_no_more_cache_is_taken_than_full_batches_of_the_longest_chunks_need() -> None:
    assert plan(1000 * GB).kv_tokens == LIMITS.rows * LONGEST


def test_on_a_small_card_batches_shrink_before_the_model_is_refused() -> None:
    found = plan(4 * GB)

    assert found.limits.windows < LIMITS.windows
    assert found.kv_tokens >= LONGEST


def test_working_memory_covers_the_first_convolution_of_the_largest_pass() -> None:
    # 128 blocks of 480 channels x 64 x 50 in bfloat16, before and behind the activation.
    assert working_bytes(SMALL, LIMITS, 2) > 2 * 128 * 480 * 64 * 50 * 2


@pytest.mark.parametrize(("free", "budget"), [(GB, None), (24 * GB, GB), (3 * GB, 0.3)])
def test_a_model_that_cannot_fit_is_refused_in_numbers(free: int, budget: float | None) -> None:
    with pytest.raises(EngineFailure) as refusal:
        plan(free, budget)

    assert refusal.value.code == "out_of_memory"
    assert "weights 1.6 GB" in refusal.value.message
    assert f"{free / 1e9:.1f} GB are free" in refusal.value.message
    assert "VRAM_BUDGET" in refusal.value.message


def test_a_chunk_length_that_cannot_fit_is_refused_too() -> None:
    with pytest.raises(EngineFailure, match="MAX_CHUNK_SECONDS"):
        plan(8 * GB, least=100_000)
