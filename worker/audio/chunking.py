"""A stream of samples -> chunks for the model, cut in pauses. Pure: no clock, no file, no model.

Every sample ends up in exactly one chunk, and where the cuts fall depends on the samples alone,
never on how they were delivered: a recording decoded again is cut the same.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.conversation import Conversation, Turn
from worker.audio.speech_spans import SpanFinder, merged, spans_within
from worker.audio.vad import STEP_SAMPLES, STEPS_PER_CALL
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

CLEAR_PAUSE_SAMPLES: Final = SAMPLE_RATE // 2
"""Without speech for so long: between sentences, hardly ever inside one."""

# Kept free on both sides of a cut in a clear pause, for breath, soft onsets and endings.
_CLEAR_MARGIN: Final = SAMPLE_RATE // 4
# Decisions fall when so many samples more are known, counted from the recording's start, so that
# they do not depend on delivery; the detector has then heard all of them.
_DECISION_SAMPLES: Final = STEPS_PER_CALL * STEP_SAMPLES
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


class SpeechDetector(Protocol):
    """Speech probabilities of STEP_SAMPLES each, whatever the delivery: worker.audio.vad."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Those of the steps that became complete."""
        ...

    def finish(self) -> NDArray[np.float32]:
        """Those of the rest."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples [start, end) of the recording, at 16 kHz."""

    index: int
    start: int
    end: int
    samples: Samples = field(repr=False)
    """(samples,), or (samples, 2) where channels are told apart in it."""
    is_silent: bool
    """Nobody speaks, or nothing in it can be heard: no inference is needed."""
    spans: tuple[SpeechSpan, ...] = ()
    """Where somebody speaks, in any channel, in order; samples of the recording."""
    turns: tuple[Turn, ...] = ()
    """What to infer of it, in order; none where it is silent."""


class Chunker:
    """Cuts one recording, fed in blocks of any size. Holds at most two lookaheads of samples.

    A chunk ends in the clear pause nearest to the target: half a second without speech. Where there
    is none before the maximum, in the longest lull near the target. Without a detector lulls are
    all there is, and whatever can be heard may be speech.
    """

    def __init__(
        self,
        target_seconds: float = 30.0,
        max_seconds: float = 60.0,
        new_detector: Callable[[], SpeechDetector] | None = None,
    ) -> None:
        """A target above the maximum is lowered to it. Raises ValueError below 1 s."""
        if min(target_seconds, max_seconds) < 1.0:
            raise ValueError("chunks shorter than 1 s leave no room for a pause to cut in")
        self._max = round(max_seconds * SAMPLE_RATE)
        self._target = min(round(target_seconds * SAMPLE_RATE), self._max)
        # Enough to see every place a cut may fall, and that what follows is no mere scrap.
        self._lookahead = self._max + self._target // 2
        self._new_detector = new_detector
        self._ears: list[_Ear] = []
        self._conversation = Conversation()
        self._pending: Samples = np.empty(0, np.float32)
        self._pending_samples = 0
        self._start = 0
        self._index = 0

    def push(self, samples: Samples) -> list[Chunk]:
        """Float32 at 16 kHz, (samples,) or always (samples, 2); the chunks it completes."""
        self._prepare(samples)
        chunks: list[Chunk] = []
        while len(samples):
            to_next_decision = -self._received % _DECISION_SAMPLES or _DECISION_SAMPLES
            piece, samples = samples[:to_next_decision], samples[to_next_decision:]
            self._pending[self._pending_samples :][: len(piece)] = piece
            self._pending_samples += len(piece)
            for ear in self._ears:
                ear.push(piece)
            if self._received % _DECISION_SAMPLES == 0:
                chunks += self._decided()
        return chunks

    def finish(self) -> list[Chunk]:
        """The rest, in chunks of about equal length; call once, after the last push."""
        for ear in self._ears:
            ear.finish()
        chunks = self._decided()
        while self._pending_samples:
            rest = self._pending[: self._pending_samples]
            pieces = self._pieces_for(len(rest))
            target = len(rest) // pieces
            chunks.append(self._take(len(rest) if pieces == 1 else self._cut_in(rest, target)))
        return chunks

    def __repr__(self) -> str:
        waiting = self._pending_samples / SAMPLE_RATE
        return f"<Chunker {self._index} chunks, {waiting:.1f} s waiting>"

    @property
    def _received(self) -> int:
        return self._start + self._pending_samples

    def _prepare(self, samples: Samples) -> None:
        """At the first samples: only they tell how many channels there are."""
        if len(self._pending):
            return
        self._pending = np.empty((2 * self._lookahead, *samples.shape[1:]), np.float32)
        if self._new_detector is not None:
            channels = [None] if samples.ndim == 1 else range(samples.shape[1])
            self._ears = [_Ear(self._new_detector(), channel) for channel in channels]

    def _decided(self) -> list[Chunk]:
        """Chunks whose end no later sample can change."""
        chunks: list[Chunk] = []
        while (cut := self._decided_cut()) is not None:
            chunks.append(self._take(cut))
        return chunks

    def _decided_cut(self) -> int | None:
        if self._pending_samples >= self._lookahead:
            return self._cut_in(self._pending[: self._lookahead], self._target)
        cut = self._clear_cut(self._target, self._max)
        if cut is None:
            return None
        # A pause yet to come cannot be nearer to the target, and what follows is no mere scrap.
        seen_enough = max(
            self._target + abs(cut - self._target), cut + int(_TAIL_TOLERANCE * self._target)
        )
        return cut if self._pending_samples >= seen_enough else None

    def _cut_in(self, samples: Samples, target: int) -> int:
        last = min(self._max, len(samples) - target // 2)
        cut = self._clear_cut(target, last)
        return _best_cut(_mono(samples), target, self._max) if cut is None else cut

    def _clear_cut(self, target: int, last: int) -> int | None:
        """The place nearest to `target` in a clear pause, from half of it to `last`."""
        cuts = []
        for begin, end in self._clear_pauses():
            margin = min(_CLEAR_MARGIN, (end - begin) // 2)
            earliest, latest = max(begin + margin, target // 2), min(end - margin, last)
            if earliest <= latest:
                cuts.append(min(max(target, earliest), latest) // HOP_SAMPLES * HOP_SAMPLES)
        return min(cuts, key=lambda cut: abs(cut - target), default=None)

    def _clear_pauses(self) -> Iterator[tuple[int, int]]:
        """[begin, end) of stretches without speech in any channel, from the chunk's start."""
        if not self._ears:
            return
        spans = merged(span for ear in self._ears for span in ear.spans())
        begins = [self._start, *(span.end for span in spans)]
        ends = [*(span.start for span in spans), self._received]
        for begin, end in zip(begins, ends, strict=True):
            if end - begin >= CLEAR_PAUSE_SAMPLES:
                yield begin - self._start, end - self._start

    def _pieces_for(self, samples: int) -> int:
        wanted = math.ceil(samples / self._target - _TAIL_TOLERANCE)
        needed = math.ceil(samples / self._max)
        return max(wanted, needed)

    def _take(self, samples: int) -> Chunk:
        chunk = self._chunk(self._pending[:samples].copy())
        for ear in self._ears:
            ear.forget(chunk.end)
        rest = self._pending_samples - samples
        self._pending[:rest] = self._pending[samples : self._pending_samples].copy()
        self._pending_samples = rest
        self._start += samples
        self._index += 1
        return chunk

    def _chunk(self, samples: Samples) -> Chunk:
        start, end = self._start, self._start + len(samples)
        by_channel = tuple(spans_within(ear.spans(), start, end) for ear in self._ears)
        spans = tuple(merged(span for spans in by_channel for span in spans))
        if is_silent(samples) or (self._ears and not spans):
            return Chunk(self._index, start, end, samples, True, spans)
        samples, turns = self._conversation.parted(samples, by_channel, start)
        return Chunk(self._index, start, end, samples, not turns, spans, turns)


class _Ear:
    """Listens to one channel, or to a recording of one (None)."""

    def __init__(self, detector: SpeechDetector, channel: int | None) -> None:
        self._detector = detector
        self._channel = channel
        self._finder = SpanFinder(STEP_SAMPLES)

    def push(self, samples: Samples) -> None:
        heard = samples if self._channel is None else samples[:, self._channel]
        self._finder.push(self._detector.push(heard))

    def finish(self) -> None:
        self._finder.push(self._detector.finish())

    def spans(self) -> list[SpeechSpan]:
        return self._finder.spans()

    def forget(self, before: int) -> None:
        self._finder.forget(before)


def is_silent(samples: Samples) -> bool:
    """A constant offset is silence too. Of several channels all have to be."""
    return _swing(samples) < SILENT_PEAK


def is_faint(samples: Samples) -> bool:
    """Whether what can be heard is too little to be understood."""
    return _swing(samples) < FAINT_PEAK


def _swing(samples: Samples) -> float:
    if not len(samples):
        return 0.0
    return float((samples.max(axis=0) - samples.min(axis=0)).max()) / 2


def _mono(samples: Samples) -> Samples:
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)


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
