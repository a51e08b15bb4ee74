"""A stream of samples -> chunks for the model, cut in pauses. Pure: no clock, no file, no model.

Every sample ends up in exactly one chunk, and where the cuts fall depends on the samples alone,
never on how they were delivered: a recording decoded again is cut the same.
"""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.segments import SpeechSpan

Samples = NDArray[np.float32]
_Levels = NDArray[np.float64]

HOP_SAMPLES: Final = 160
"""Cuts fall on a grid of 10 ms, counted from the start of the chunk."""

SILENT_PEAK: Final = 2.0**-11
"""Swing (half of highest minus lowest sample) below which a chunk holds nothing to hear.

-66 dBFS, 16 steps of 16-bit audio. Speech peaks 12-18 dB above its RMS, so such speech would have
to be at -80 dBFS RMS, one to three steps; the quietest usable recordings are at -48 dBFS RMS.
"""

FAINT_PEAK: Final = 2.0**-8
"""Swing below which nothing can be made out: -48 dBFS. Speech at -48 dBFS RMS peaks about -33."""

# A cut looks at 60 ms around it: shorter than the gap between words, longer than a stop consonant's
# closure or a pitch period.
_HOPS_AROUND: Final = 3
# Levels further than this below the loud parts are all equally silent, so that a dropped packet of
# digital zeros inside a word does not beat the breath between two sentences.
_DEPTH_DB: Final = 40.0
# What counts as pause: this part of the way from the quietest place up to the loud ones.
_PAUSE_SHARE: Final = 0.2
_PAUSE_MIN_DB: Final = 3.0
# A longer pause is more likely the end of a sentence; from here on it gets no better.
_LONG_PAUSE_HOPS: Final = 50
# Kept free on both sides of a cut inside a long pause, for soft onsets and endings.
_MARGIN_HOPS: Final = 15
# The last stretch may exceed the target by this share before it is cut in two.
_TAIL_TOLERANCE: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples [start, end) of the recording, at 16 kHz."""

    index: int
    start: int
    end: int
    samples: Samples = field(repr=False)
    is_silent: bool
    """Nothing in it can be heard: no inference is needed."""
    spans: tuple[SpeechSpan, ...] = ()
    """Where somebody speaks, in order; samples of the recording."""


class Chunker:
    """Cuts one recording, fed in blocks of any size. Holds at most two lookaheads of samples."""

    def __init__(self, target_seconds: float = 30.0, max_seconds: float = 60.0) -> None:
        """A target above the maximum is lowered to it. Raises ValueError below 1 s."""
        if min(target_seconds, max_seconds) < 1.0:
            raise ValueError("chunks shorter than 1 s leave no room for a pause to cut in")
        self._max = round(max_seconds * SAMPLE_RATE)
        self._target = min(round(target_seconds * SAMPLE_RATE), self._max)
        # Enough to see every place a cut may fall, and that what follows is no mere scrap.
        self._lookahead = self._max + self._target // 2
        self._pending: Samples = np.empty(2 * self._lookahead, np.float32)
        self._pending_samples = 0
        self._start = 0
        self._index = 0

    def push(self, samples: Samples) -> list[Chunk]:
        """Mono float32 at 16 kHz; the chunks it completes, in order."""
        chunks: list[Chunk] = []
        while len(samples):
            room = len(self._pending) - self._pending_samples
            piece, samples = samples[:room], samples[room:]
            self._pending[self._pending_samples :][: len(piece)] = piece
            self._pending_samples += len(piece)
            while self._pending_samples >= self._lookahead:
                window = self._pending[: self._lookahead]
                chunks.append(self._take(_best_cut(window, self._target, self._max)))
        return chunks

    def finish(self) -> list[Chunk]:
        """The rest, in chunks of about equal length; call once, after the last push."""
        chunks: list[Chunk] = []
        while self._pending_samples:
            rest = self._pending[: self._pending_samples]
            pieces = self._pieces_for(len(rest))
            cut = len(rest) if pieces == 1 else _best_cut(rest, len(rest) // pieces, self._max)
            chunks.append(self._take(cut))
        return chunks

    def __repr__(self) -> str:
        waiting = self._pending_samples / SAMPLE_RATE
        return f"<Chunker {self._index} chunks, {waiting:.1f} s waiting>"

    def _pieces_for(self, samples: int) -> int:
        wanted = math.ceil(samples / self._target - _TAIL_TOLERANCE)
        needed = math.ceil(samples / self._max)
        return max(wanted, needed)

    def _take(self, samples: int) -> Chunk:
        taken = self._pending[:samples].copy()
        chunk = Chunk(self._index, self._start, self._start + samples, taken, is_silent(taken))
        rest = self._pending_samples - samples
        self._pending[:rest] = self._pending[samples : self._pending_samples].copy()
        self._pending_samples = rest
        self._start += samples
        self._index += 1
        return chunk


def is_silent(samples: Samples) -> bool:
    """A constant offset is silence too."""
    return not len(samples) or float(samples.max() - samples.min()) / 2 < SILENT_PEAK


def is_faint(samples: Samples) -> bool:
    """Whether what can be heard is too little to be understood."""
    return not len(samples) or float(samples.max() - samples.min()) / 2 < FAINT_PEAK


def _best_cut(samples: Samples, target: int, longest: int) -> int:
    """Where to end a chunk that begins with `samples`: in a long pause close to `target`.

    Between half the target and `longest`, leaving half a target behind the cut.
    """
    first = math.ceil(target / 2 / HOP_SAMPLES)
    last = min(longest, len(samples) - target // 2) // HOP_SAMPLES
    levels = _levels_at(samples, first, last)
    best, best_score = min(longest, target), -math.inf
    for begin, end in _runs(levels <= _pause_ceiling(levels)):
        margin = min(_MARGIN_HOPS, (end - 1 - begin) // 2)
        inside = min(max(target // HOP_SAMPLES - first, begin + margin), end - 1 - margin)
        cut = (first + inside) * HOP_SAMPLES
        score = min(end - begin, _LONG_PAUSE_HOPS) / _LONG_PAUSE_HOPS - abs(cut - target) / target
        if score > best_score:
            best, best_score = cut, score
    return best


def _levels_at(samples: Samples, first: int, last: int) -> _Levels:
    """dB of the sound around each possible cut, at hops first..last; offsets do not count."""
    begin, end = first - _HOPS_AROUND, min(last + _HOPS_AROUND, len(samples) // HOP_SAMPLES)
    hops = samples[begin * HOP_SAMPLES : end * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    mean = _around(hops.mean(axis=1, dtype=np.float64))
    power = _around(np.square(hops, dtype=np.float64).mean(axis=1))
    return 10 * np.log10(np.maximum(power - mean**2, 1e-12))


def _around(per_hop: _Levels) -> _Levels:
    return np.convolve(per_hop, np.full(2 * _HOPS_AROUND, 0.5 / _HOPS_AROUND), mode="valid")


def _pause_ceiling(levels: _Levels) -> float:
    loud = float(np.quantile(levels, 0.95))
    floor = max(float(levels.min()), loud - _DEPTH_DB)
    return floor + max(_PAUSE_MIN_DB, _PAUSE_SHARE * (loud - floor))


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[begin, end) of each stretch of True."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
