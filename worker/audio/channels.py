"""Whether the two channels of a recording hold different sound. Pure.

A telephone call has one speaker in each; most stereo has the same voices in both, and to transcribe
those twice would double every word.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.audio.crosstalk import LEAK_DB
from worker.audio.lag import lag_between, shifted

Samples = NDArray[np.float32]

SAME_SOUND: Final = 0.95
"""Correlation from which channels are the same sound, if at unlike gains; lossy codecs leave a copy
above 0.99, the echo of a call's other side is far below."""

STILL_SAME_SOUND: Final = 0.85
"""What keeps them so, once they are."""

CALL_LEVEL_DB: Final = 3.0
"""In a call, one side that talks alone and leaks is no such sound; what both hear is as loud."""

_INAUDIBLE: Final = 2.0**-11
"""Standard deviation, as -66 dBFS: of nothing nothing can be said."""


class ChannelComparison:
    """Decides chunk by chunk, in order; what it found before tips the balance."""

    def __init__(self) -> None:
        self._are_same: bool | None = None

    def __repr__(self) -> str:
        state = {None: "undecided", True: "same", False: "different"}[self._are_same]
        return f"<ChannelComparison {state}>"

    def are_same(self, samples: Samples) -> bool:
        """Of one chunk in which somebody speaks, (samples, 2).

        Where a side is inaudible the channels are apart, and nothing is learned: silence costs no
        inference.
        """
        likeness = compared(samples)
        if likeness is None:
            return False
        correlation, level_db = likeness
        least = STILL_SAME_SOUND if self._are_same else SAME_SOUND
        most_db = CALL_LEVEL_DB if self._are_same is False else LEAK_DB
        self._are_same = correlation >= least and level_db < most_db
        return self._are_same


def compared(samples: Samples) -> tuple[float, float] | None:
    """(samples, 2) -> their correlation, at the lag where it is greatest, and the difference of
    their levels in dB, neither with a sign; None where either side is inaudible."""
    left, right = samples.T
    levels = np.std(left, dtype=np.float64), np.std(right, dtype=np.float64)
    if min(levels) < _INAUDIBLE:
        return None
    left, right = left - left.mean(), right - right.mean()
    late = right.astype(np.float64)
    early = shifted(left, 0, len(left), lag_between(left, right, 0, len(right)))
    norm = np.sqrt(np.square(early).sum() * np.square(late).sum())
    correlation = abs(float(early @ late)) / max(float(norm), 1e-12)
    return correlation, abs(20 * float(np.log10(levels[0] / levels[1])))


def louder(samples: Samples) -> Samples:
    """(samples, 2) -> (samples,): one channel as it is, as a mix of late copies would ring."""
    channel = int(np.std(samples, axis=0, dtype=np.float64).argmax())
    return np.ascontiguousarray(samples[:, channel])
