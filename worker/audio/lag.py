"""By how much one channel of a recording is late against the other. Pure."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

MAX_LAG_SAMPLES: Final = SAMPLE_RATE // 10
"""Looked at either way: the two sides of a call pass lines and buffers of up to 0.1 s."""

_BLOCK: Final = 2**15


def lag_between(cause: Samples, effect: Samples, begin: int, end: int) -> int:
    """Samples by which effect[begin:end] is behind `cause`, where they correlate most, as they are
    or turned over."""
    size = min(_BLOCK, 2 ** (end - begin + 2 * MAX_LAG_SAMPLES).bit_length())
    step = size - 2 * MAX_LAG_SAMPLES
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    for first in range(begin, end, step):
        last = min(first + step, end)
        early = _stretch(cause, first - MAX_LAG_SAMPLES, last + MAX_LAG_SAMPLES)
        spectrum += np.fft.rfft(early, size) * np.fft.rfft(effect[first:last], size).conj()
    # At 0 the cause is MAX_LAG_SAMPLES ahead of the effect, at the end as many behind.
    correlation = np.abs(np.fft.irfft(spectrum, size)[: 2 * MAX_LAG_SAMPLES + 1])
    return MAX_LAG_SAMPLES - int(correlation.argmax())


def shifted(cause: Samples, begin: int, end: int, lag: int) -> NDArray[np.float64]:
    """What of `cause` is heard in [begin, end) when it comes so much later."""
    return _stretch(cause, begin - lag, end - lag)


def _stretch(samples: Samples, begin: int, end: int) -> NDArray[np.float64]:
    """Silence where there is nothing."""
    inside = samples[max(begin, 0) : max(end, 0)].astype(np.float64)
    before = min(max(-begin, 0), end - begin)
    return np.pad(inside, (before, end - begin - before - len(inside)))
