"""How much memory the native engine takes and for what. Pure arithmetic: no torch.

Weights stay, the KV arena takes what the budget leaves, working memory comes and goes with batches.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.interface import EngineFailure, VramBudget
from worker.model.config import ModelConfig

DEFAULT_SHARE = 0.9
"""Of what is free when the engine loads, all in all; the rest is left to others."""
WORKING_SHARE = 0.2
"""Of what is free, at most, for one batch's intermediate results."""
LEAST_PREFILL_TOKENS = 512


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The largest batches that working memory is kept for."""

    windows: int
    prefill_tokens: int
    rows: int

    def halved(self) -> BatchLimits:
        """Half as many windows and tokens; decode rows take little."""
        return BatchLimits(
            max(1, self.windows // 2),
            max(LEAST_PREFILL_TOKENS, self.prefill_tokens // 2),
            self.rows,
        )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What is taken; all in bytes but kv_tokens."""

    parameter_bytes: int
    kv_tokens: int
    kv_bytes: int
    working_bytes: int
    least_tokens: int
    """What the longest chunk needs of the KV cache."""
    limits: BatchLimits

    def __str__(self) -> str:
        return (
            f"weights_bytes={self.parameter_bytes} kv_cache_bytes={self.kv_bytes}"
            f" kv_cache_tokens={self.kv_tokens} working_bytes={self.working_bytes}"
        )


def plan_memory(
    config: ModelConfig,
    *,
    free_bytes: int,
    budget: VramBudget,
    parameter_bytes: int,
    value_bytes: int,
    least_tokens: int,
    limits: BatchLimits,
) -> MemoryPlan:
    """The plan for a device with so much free memory, before anything is put there.

    value_bytes is the size of a number of the KV cache, least_tokens what the largest chunk needs.
    The budget bounds weights and KV arena; without one, these and working memory leave a tenth of
    what is free to others. Raises EngineFailure: out_of_memory, in words.
    """
    while (working := working_bytes(config, limits, value_bytes)) > WORKING_SHARE * free_bytes:
        if limits == limits.halved():
            break
        limits = limits.halved()
    token_bytes = config.text.kv_values_per_token * value_bytes
    allowed = allowed_bytes(budget, free_bytes, working)
    kv_tokens = min((allowed - parameter_bytes) // token_bytes, limits.rows * least_tokens)
    if kv_tokens < least_tokens:
        raise _does_not_fit(
            parameter_bytes, least_tokens * token_bytes, working, free_bytes, budget
        )
    kv_bytes = kv_tokens * token_bytes
    return MemoryPlan(parameter_bytes, kv_tokens, kv_bytes, working, least_tokens, limits)


def allowed_bytes(budget: VramBudget, free_bytes: int, working: int) -> int:
    """What weights and KV arena may take together of so much free memory."""
    if budget is None:
        return int(DEFAULT_SHARE * free_bytes) - working
    wanted = int(budget * free_bytes) if isinstance(budget, float) else budget
    return min(wanted, free_bytes - working)


def working_bytes(config: ModelConfig, limits: BatchLimits, value_bytes: int) -> int:
    """What batches need at most; a quarter is added for the allocator's gaps."""
    audio, text = config.audio, config.text
    blocks = limits.windows * audio.window_frames // audio.block_frames
    # The first convolution's result, before and behind its activation, at half the resolution.
    encoder = 2 * blocks * audio.conv_channels * (audio.mel_bins // 2) * (audio.block_frames // 2)
    heads = text.heads + 2 * text.kv_heads
    a_token = 3 * text.ffn_width + 2 * heads * text.head_width + 4 * text.width
    prefill = limits.prefill_tokens * a_token
    # As they are, in float32 where they are drawn from, and kept by the graphs of smaller batches.
    scores = 6 * limits.rows * text.vocabulary
    # Added up: recorded graphs keep the encoder's part for good.
    return int(1.25 * value_bytes * (encoder + prefill + scores))


def _does_not_fit(
    parameter_bytes: int, kv_bytes: int, working: int, free_bytes: int, budget: VramBudget
) -> EngineFailure:
    allowed = max(0, allowed_bytes(budget, free_bytes, working))
    return EngineFailure(
        "out_of_memory",
        f"The model needs {_amount(parameter_bytes + kv_bytes)} (weights"
        f" {_amount(parameter_bytes)}, the longest chunk {_amount(kv_bytes)}) and"
        f" {_amount(working)} to work with; {_amount(free_bytes)} are free, of which it may"
        f" take {_amount(allowed)}. End what else uses the device, raise VRAM_BUDGET, lower"
        " MAX_CHUNK_SECONDS, or use a smaller model (Qwen/Qwen3-ASR-0.6B).",
    )


def _amount(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
