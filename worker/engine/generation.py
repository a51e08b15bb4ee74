"""What happens between two steps of generate(): heartbeat, sampling, limits, broken rows.

Each row of a batch is governed alone, so that no chunk's answer depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.limits import LEAST_SHARE, LEAST_TEMPERATURE


@dataclass(frozen=True, slots=True)
class Row:
    """How one sequence of the batch is to be generated."""

    token_limit: int
    temperature: float


class StepControl:
    """Given to generate() as logits processor (adjust) and stopping criterion (is_over)."""

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        end_token_id: int,
        device: torch.device,
        on_step: Callable[[], None],
    ) -> None:
        self._on_step = on_step
        self._end_token_id = end_token_id
        self._has_begun = False
        self._limits = torch.tensor([row.token_limit for row in rows], device=device)
        self._broken = torch.zeros(len(rows), dtype=torch.bool, device=device)
        # A generator for each row: what is drawn for one must not depend on who sits beside it.
        self._sampled = [
            (index, row.temperature, _seeded_generator(device))
            for index, row in enumerate(rows)
            if row.temperature >= LEAST_TEMPERATURE
        ]

    @property
    def token_limit(self) -> int:
        """The largest of the rows' limits."""
        return int(self._limits.max())

    def adjust(self, _token_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) whose maximum is the next token of each row.

        A row with NaN or infinite scores is ended and remembered: picking a token from it would
        give random text, and its neighbours are sound.
        """
        broken = ~torch.isfinite(scores).all(dim=-1)
        self._broken |= broken
        ended = torch.full_like(scores[0], -torch.inf)
        ended[self._end_token_id] = 0.0
        scores = torch.where(broken[:, None], ended, scores)
        for index, temperature, generator in self._sampled:
            scores[index] = _with_gumbel_noise(scores[index] / temperature, generator)
        return scores

    def enter_layer(self) -> None:
        """Called before each layer: on a CPU the prefill alone may take a minute."""
        if not self._has_begun:
            self._on_step()

    def is_over(self, token_ids: Tensor, _scores: Tensor) -> Tensor:
        """Which rows have reached their own limit; token_ids holds generated tokens only."""
        self._has_begun = True
        self._on_step()
        return self._limits <= token_ids.shape[1]

    def broken_rows(self) -> list[bool]:
        """Which rows had scores no token can be picked from."""
        return [bool(broken) for broken in self._broken.tolist()]


def _seeded_generator(device: torch.device) -> torch.Generator:
    generator = torch.Generator(device=device)
    generator.seed()
    return generator


def _with_gumbel_noise(scores: Tensor, generator: torch.Generator) -> Tensor:
    """The maximum of the result is distributed as softmax(scores) among scores with LEAST_SHARE of
    the best one's probability (the Gumbel-max trick)."""
    exponential = torch.empty_like(scores).exponential_(generator=generator)
    noisy = scores - exponential.clamp_min(torch.finfo(scores.dtype).tiny).log()
    return noisy.masked_fill(scores < scores.max() + math.log(LEAST_SHARE), -torch.inf)


def output_tokens(token_ids: Sequence[int], *, limit: int, end_ids: Sequence[int]) -> list[int]:
    """The generated tokens of one row, without its end token and the padding behind it."""
    kept = list(token_ids[:limit])
    ends = [position for position, token in enumerate(kept) if token in end_ids]
    return kept[: ends[0]] if ends else kept
