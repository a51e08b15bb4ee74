"""What a runner is told about each sequence of a batch. Holds tensors, yet imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BROKEN = -1
"""In place of a token: the model's scores were not finite, so no token can be picked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a token is picked from scores; the likeliest one unless a temperature is set."""

    temperature: float = 0.0
    generator: torch.Generator | None = None
    """Of this sequence alone, so that what is drawn does not depend on its neighbours."""
    wants_logprob: bool = False


GREEDY = Choice()


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One sequence in a decode step: its newest token is read from its slot."""

    slot: int
    first_row: int
    """Where its KV region begins."""
    position: int
    """Of the token to be fed: tokens of the sequence in the cache so far."""
    choice: Choice = GREEDY


@dataclass(frozen=True, slots=True)
class TokenRun:
    """Consecutive tokens of one sequence, given as hidden states."""

    slot: int
    first_row: int
    position: int
    """Of the first of these tokens."""
    hidden: Tensor
    """(count, width)."""
    picks: int = 0
    """For how many of the last tokens their successor is picked; the last pick goes to the slot."""
    choice: Choice = GREEDY
