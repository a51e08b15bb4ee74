"""Samples at one rate -> 16 kHz, piece by piece, exactly as if they had come whole.

A polyphase filter: a windowed sinc (Kaiser), its rows computed once for each rate. Made for live
streams: a packet costs two calls of numpy, and the answer looks no further than 4 ms ahead.
"""

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.limits import LIVE_RATE_STEP
from worker.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

RATE_STEP: Final = LIVE_RATE_STEP
"""Rates are multiples of this, in Hz; it bounds a filter's rows."""

# Zero crossings on each side, in samples of the lower rate, and the window's shape: 80 dB down
# within 16 % of the band (Kaiser's formula), 2 ms to each side at 16 kHz and above, 4 ms at 8 kHz.
_ZERO_CROSSINGS: Final = 32
_KAISER_BETA: Final = 8.0
# Half way down at this share of the lower rate's band: even to 3.5 kHz at 8 kHz, which takes in
# the telephone's 3.4, and to 7 kHz from 16 kHz on.
_CUTOFF: Final = 0.95
# Outputs computed at once, so that a long piece needs no more memory than this many filters.
_BLOCK: Final = 4096
# Up to here the outputs of each phase are computed together: half the time of one filter each.
_FEW_PHASES: Final = 8


class Resampler:
    """One stream, of any number of channels; a piece's samples come out in the same call but for
    the last ``lookahead`` of them. Output n is the sound at n / 16,000 s: nothing is delayed."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        """Raises ValueError for rates that are not positive multiples of RATE_STEP."""
        if sample_rate <= 0 or sample_rate % RATE_STEP:
            raise ValueError(f"a sample rate is a multiple of {RATE_STEP} Hz, not {sample_rate}")
        divisor = math.gcd(sample_rate, SAMPLE_RATE)
        # Output n lies at input n * step / phases.
        self._step, self._phases = sample_rate // divisor, SAMPLE_RATE // divisor
        self._filters = _filters(self._step, self._phases)
        self._half: int = self._filters.shape[1] // 2
        self._sample_rate = sample_rate
        self._heard = np.zeros((channels, self._half - 1), np.float32)
        """Inputs that outputs to come look at, from ``_first`` on."""
        self._first: int = 1 - self._half
        self._outputs = 0

    @property
    def lookahead(self) -> int:
        """Input samples that must follow before an output is known: at most 4 ms."""
        return 0 if self._is_idle else self._half

    def push(self, samples: Samples) -> Samples:
        """(channels, samples) -> (channels, outputs), those that are known now."""
        if self._is_idle:
            return samples
        self._heard = np.concatenate([self._heard, samples], axis=1)
        heard = self._first + self._heard.shape[1]
        return self._take(self._outputs_before(heard - self._half))

    def finish(self) -> Samples:
        """The rest, as if silence followed: outputs as long as the inputs. Call once, last."""
        if self._is_idle:
            return self._heard[:, :0]
        total = self._outputs_before(self._first + self._heard.shape[1])
        self._heard = np.pad(self._heard, ((0, 0), (0, self._half)))
        return self._take(total)

    def __repr__(self) -> str:
        return f"<Resampler from {self._sample_rate} Hz, {self._outputs} samples out>"

    @property
    def _is_idle(self) -> bool:
        return self._sample_rate == SAMPLE_RATE

    @property
    def _row_zero(self) -> int:
        """The input around which the filter lies that begins with ``_heard``."""
        return self._first + self._half - 1

    def _outputs_before(self, position: int) -> int:
        """How many outputs lie before this input sample."""
        return max(0, -(-position * self._phases // self._step))

    def _take(self, until: int) -> Samples:
        parts = [self._heard[:, :0]]
        while self._outputs < until:
            parts.append(self._block(min(until - self._outputs, _BLOCK)))
        return np.concatenate(parts, axis=1)

    def _block(self, count: int) -> Samples:
        block = np.empty((len(self._heard), count), np.float32)
        if self._phases <= _FEW_PHASES:
            for index in range(min(count, self._phases)):
                self._fill_phase(block, index)
        else:
            self._fill(block)
        self._outputs += count
        passed = self._outputs * self._step // self._phases - self._row_zero
        self._heard = self._heard[:, passed:]
        self._first += passed
        return block

    # einsum sums every row by itself and in the same order, whatever the number of rows; products
    # of matrices do not.

    def _fill_phase(self, block: Samples, index: int) -> None:
        """Output ``index`` of the block and those of its phase: evenly spaced, one filter."""
        at = (self._outputs + index) * self._step
        row, filter_ = at // self._phases - self._row_zero, self._filters[at % self._phases]
        for inputs, outputs in zip(self._heard, block[:, index :: self._phases], strict=True):
            (distance,) = inputs.strides
            windows = np.ndarray(
                (len(outputs), 2 * self._half),
                np.float32,
                inputs,
                offset=row * distance,
                strides=(self._step * distance, distance),
            )
            np.einsum("ij,j->i", windows, filter_, out=outputs)

    def _fill(self, block: Samples) -> None:
        """The block, with a filter of its own for each output."""
        at = self._outputs * self._step + np.arange(block.shape[1]) * self._step
        positions, phases = np.divmod(at, self._phases)
        rows, filters = positions - self._row_zero, self._filters[phases]
        windows = np.lib.stride_tricks.sliding_window_view(self._heard, 2 * self._half, axis=1)
        for inputs, outputs in zip(windows, block, strict=True):
            np.einsum("ij,ij->i", inputs[rows], filters, out=outputs)


@functools.lru_cache(maxsize=32)
def _filters(step: int, phases: int) -> Samples:
    """(phases, taps): row p weighs the inputs around a point p / phases behind one of them."""
    narrowing = min(1.0, phases / step)
    half = math.ceil(_ZERO_CROSSINGS / narrowing)
    offsets = np.arange(1 - half, half + 1)  # of the inputs, from the one before the point
    distance = np.arange(phases)[:, None] / phases - offsets
    share = np.clip(1 - (distance / half) ** 2, 0, None)
    weights = np.sinc(_CUTOFF * narrowing * distance) * np.i0(_KAISER_BETA * np.sqrt(share))
    filters: Samples = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters
