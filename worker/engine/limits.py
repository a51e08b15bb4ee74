"""How much output a chunk may give, and how short it may be. No torch here."""

from __future__ import annotations

import math

from worker.engine.interface import SAMPLE_RATE

LEAST_SAMPLES = SAMPLE_RATE // 2
"""Shorter chunks are padded with silence to this, as the official package does."""

LEAST_TEMPERATURE = 1e-3
"""Below it the likeliest token is taken, which is what sampling would give but for overflow."""

LEAST_SHARE = 0.05
"""Of the likeliest token's probability that another needs to be drawn: of a vocabulary of 150,000
the rest together is drawn often, and is noise (min-p, Nguyen et al., arXiv 2407.01082)."""

# Speech has 2.5 to 7 tokens a second in the languages of the model; twice that is a loop.
TOKENS_PER_SECOND = 16
# "language Portuguese<asr_text>" and the end token, spelled out in a small vocabulary.
PREAMBLE_TOKENS = 16
LEAST_TOKENS = 32


def output_token_limit(samples: int) -> int:
    """Most tokens a chunk of so many samples may generate; a model in a loop ends here."""
    seconds = samples / SAMPLE_RATE
    return max(LEAST_TOKENS, PREAMBLE_TOKENS + math.ceil(TOKENS_PER_SECOND * seconds))


def new_token_limit(limit: int, said: int, most_new: int | None) -> int:
    """Most tokens to generate beyond those said already, where the whole output has that limit:
    one at least, and no more than the caller wants."""
    room = max(1, limit - said)
    return room if most_new is None else max(1, min(room, most_new))
