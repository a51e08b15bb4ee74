"""What is kept of an utterance between its steps: log-mel, and the audio tokens of windows.

Exactness hangs on one rule: audio tokens are used again only where the features they were made of
have not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from worker.engine.mel_stream import MelStream

UTTERANCES_KEPT = 2048
"""More are open at a time only where somebody forgets to end them; the oldest goes then."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Audio tokens of a window, and what they were made under."""

    audio: Tensor
    floor: float
    samples: int | None
    """How many there were, where more of them change the window; None for a final one."""


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceStep:
    """The audio of one step."""

    features: Mapping[int, Tensor]
    """Log-mel (mel_bins, frames) of the windows to be encoded, by their index."""
    audio: Mapping[int, Tensor]
    """Audio tokens of the others."""
    unchanged_tokens: int
    """Prompt tokens at the beginning that are those of the step before."""
    floor: float
    samples: int
    final_windows: frozenset[int]


class Utterance:
    """One utterance from its first step to its end."""

    def __init__(self, mel: MelStream) -> None:
        self._mel = mel
        self._kept: dict[int, _Kept] = {}
        self._before_audio: list[int] | None = None
        self._latest: UtteranceStep | None = None

    def __repr__(self) -> str:
        return f"<Utterance {self._mel!r}, {len(self._kept)} encoded>"

    def could_grow_to(self, samples: np.ndarray) -> bool:
        """Whether so many samples can be these and some more."""
        return len(samples) >= self._mel.samples

    def is_latest(self, step: UtteranceStep) -> bool:
        """Whether no later step has begun."""
        return step is self._latest

    def begin(self, samples: Tensor, before_audio: Sequence[int]) -> UtteranceStep:
        """The next step: all samples so far, and the prompt's tokens before the audio."""
        mel = self._mel
        mel.extend(samples)
        self._kept = {index: kept for index, kept in self._kept.items() if self._holds(index, kept)}
        missing = [index for index in range(mel.windows) if index not in self._kept]
        audio = {index: kept.audio for index, kept in self._kept.items()}
        unchanged = 0
        if self._before_audio == list(before_audio):
            leading = range(min(missing, default=mel.windows))
            unchanged = len(before_audio) + sum(len(audio[index]) for index in leading)
        self._before_audio = list(before_audio)
        self._latest = UtteranceStep(
            features={index: mel.features(index) for index in missing},
            audio=audio,
            unchanged_tokens=unchanged,
            floor=mel.floor,
            samples=mel.samples,
            final_windows=frozenset(filter(mel.is_final, missing)),
        )
        return self._latest

    def keep(self, step: UtteranceStep, index: int, audio: Tensor) -> None:
        """These audio tokens were made of that step's window; of a past step nothing is kept."""
        if self.is_latest(step):
            samples = None if index in step.final_windows else step.samples
            self._kept[index] = _Kept(audio, step.floor, samples)

    def _holds(self, index: int, kept: _Kept) -> bool:
        is_as_it_was = kept.samples is None or kept.samples == self._mel.samples
        return is_as_it_was and self._mel.is_alike(index, kept.floor)


class OpenUtterances:
    """By name; the number is bounded even where nobody ends any."""

    def __init__(self) -> None:
        self._by_name: dict[str, Utterance] = {}
        """The one with the latest step at the end."""

    def __repr__(self) -> str:
        return f"<OpenUtterances, {len(self._by_name)}>"

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def get(self, name: str | None) -> Utterance | None:
        """None for an unknown one."""
        return self._by_name.get(name) if name is not None else None

    def put(self, name: str, utterance: Utterance) -> list[str]:
        """It begins a step. Who is to be ended, so that there are not too many."""
        self._by_name.pop(name, None)
        self._by_name[name] = utterance
        return list(self._by_name)[:-UTTERANCES_KEPT]

    def forget(self, name: str) -> None:
        """Nothing happens for an unknown one."""
        self._by_name.pop(name, None)

    def forget_all(self) -> None:
        """What they keep is given up; steps under way have what they need."""
        self._by_name.clear()
