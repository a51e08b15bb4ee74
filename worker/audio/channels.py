"""Whether the two channels of a recording hold different sound. Pure.

A telephone call has one speaker in each; most stereo has the same voices in both, and to transcribe
those twice would double every word.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

DECIDED_AFTER_SAMPLES: Final = 30 * SAMPLE_RATE
"""The first half minute decides: blocks wait for it, and later ones keep their shape."""

SAME_SOUND: Final = 0.95
"""Correlation from which channels are the same sound, if at unlike gains; lossy codecs leave a copy
above 0.99, the echo of a call's other side is far below."""

_INAUDIBLE: Final = 2.0**-11
"""Standard deviation, as -66 dBFS: of nothing nothing can be said."""


class ChannelChoice:
    """Blocks (samples, 2) -> the same, or their mean (samples,) where both are the same sound.

    Where nothing can be heard in the first half minute, the channels stay apart: silence costs
    no inference, a mixed call cannot be told apart again.
    """

    def __init__(self) -> None:
        self._waiting: list[Samples] = []
        self._waiting_samples = 0
        self._are_same: bool | None = None

    def push(self, block: Samples) -> list[Samples]:
        """Blocks that are decided; none while the beginning is still listened to."""
        if self._are_same is not None:
            return [self._chosen(block)]
        self._waiting.append(block)
        self._waiting_samples += len(block)
        return self._decided() if self._waiting_samples >= DECIDED_AFTER_SAMPLES else []

    def finish(self) -> list[Samples]:
        """The blocks of a recording that ended before."""
        return self._decided() if self._waiting else []

    def __repr__(self) -> str:
        state = {None: "undecided", True: "same", False: "different"}[self._are_same]
        return f"<ChannelChoice {state}>"

    def _decided(self) -> list[Samples]:
        beginning = np.concatenate(self._waiting)[:DECIDED_AFTER_SAMPLES]
        self._are_same = are_same_sound(beginning)
        waiting, self._waiting = self._waiting, []
        return [self._chosen(block) for block in waiting]

    def _chosen(self, block: Samples) -> Samples:
        return block.mean(axis=1, dtype=np.float32) if self._are_same else block


def are_same_sound(samples: Samples) -> bool:
    """(samples, 2), not none; False where either side is inaudible."""
    left, right = samples.T.astype(np.float64)
    loudness = np.std(left), np.std(right)
    if min(loudness) < _INAUDIBLE:
        return False
    covariance = np.mean((left - left.mean()) * (right - right.mean()))
    return bool(covariance / (loudness[0] * loudness[1]) >= SAME_SOUND)
