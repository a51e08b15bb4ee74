"""Which speech of a channel is only the other side of a call, leaking over. Pure.

Headsets, line cards and loudspeakers let a little of one side into the other; heard as that side's
own speech it would double the text.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.lag import MAX_LAG_SAMPLES, lag_between, shifted
from worker.audio.speech_spans import MIN_SPEECH_SAMPLES, PADDING_SAMPLES
from worker.segments import SpeechSpan

Samples = NDArray[np.float32]
_Flags = NDArray[np.bool_]
_Powers = NDArray[np.float64]
SpansByChannel = tuple[tuple[SpeechSpan, ...], ...]

LEAK_DB: Final = 10.0
"""A leak is at least so much softer than what leaks."""

EXPLAINED_SHARE: Final = 0.5
"""Share of its power that has to follow from the other side: behind a line all does, behind a room
with 20 ms of echo 0.6 to 0.9; of single words said at the same time 95 % stay below 0.4."""

_LEAK_POWER: Final = 10 ** (LEAK_DB / 10)
# In speech that is a leak for the most part, one's own is hardly softer than the other's.
_OWN_POWER: Final = 10 ** (5.0 / 10)
_HOP: Final = 160
_HOPS_AROUND: Final = 5
# A soft moment of one's own while the other talks, as in a plosive, is no leak.
_MIN_LEAK_HOPS: Final = MIN_SPEECH_SAMPLES // _HOP
# One's own words go on over so short a silence, in which the leak may come through.
_MAX_GAP_HOPS: Final = 20
_FRAME: Final = 512
_FADE: Final = SAMPLE_RATE // 200


def without_crosstalk(
    samples: Samples, spans: SpansByChannel, start: int
) -> tuple[Samples, SpansByChannel]:
    """(samples, 2) from sample `start` of the recording and the speech of each channel -> the same
    without leaks, which are silenced; the samples given stay as they are."""
    own = (
        _own_spans(samples[:, 0], samples[:, 1], spans[0], spans[1], start),
        _own_spans(samples[:, 1], samples[:, 0], spans[1], spans[0], start),
    )
    if own == spans:
        return samples, spans
    clean = samples.copy()
    for channel in range(2):
        _silence(clean[:, channel], spans[channel], own[channel], start)
    return clean, own


def _own_spans(
    mine: Samples,
    theirs: Samples,
    spans: Sequence[SpeechSpan],
    others: Sequence[SpeechSpan],
    start: int,
) -> tuple[SpeechSpan, ...]:
    if all(_is_alone(span, others) for span in spans):
        return tuple(spans)
    cause = _heard_over_there(mine, theirs, spans, start)
    return tuple(
        replace(span, start=span.start + first, end=span.start + last)
        for span in spans
        for first, last in _own_parts(
            mine[span.start - start : span.end - start].astype(np.float64),
            cause[span.start - start : span.end - start],
        )
    )


def _heard_over_there(
    mine: Samples, theirs: Samples, spans: Sequence[SpeechSpan], start: int
) -> _Powers:
    """`theirs`, as late as it leaks into the spans of `mine`; its loudness stays.

    The lag is looked for where `mine` is soft beside what goes on in `theirs` at about that time:
    one's own words would drown the leak.
    """
    nearby = _loudest_around(_powers(theirs))
    is_leak = nearby > _LEAK_POWER * _powers(mine)
    leak = np.zeros(len(mine), np.float32)
    for span in spans:
        leak[span.start - start : span.end - start] = 1
    hops = len(is_leak) * _HOP
    leak[:hops] *= is_leak.repeat(_HOP)
    leak[hops:] = 0
    lag = lag_between(theirs, leak * mine, 0, len(mine))
    return shifted(theirs, 0, len(theirs), lag)


def _is_alone(span: SpeechSpan, others: Sequence[SpeechSpan]) -> bool:
    return not any(
        other.start - MAX_LAG_SAMPLES < span.end and span.start < other.end + MAX_LAG_SAMPLES
        for other in others
    )


def _own_parts(heard: _Powers, cause: _Powers) -> list[tuple[int, int]]:
    """[first, last) samples that are not the other's."""
    mine, theirs = _powers(heard), _powers(cause)
    is_softer = theirs > _LEAK_POWER * mine
    if not _runs(is_softer, _MIN_LEAK_HOPS):
        return [(0, len(heard))]
    if explained_share(heard, cause, is_softer.repeat(_HOP)) < EXPLAINED_SHARE:
        return [(0, len(heard))]
    audible = mine[is_softer].mean() / _LEAK_POWER
    is_own = (_OWN_POWER * mine > theirs) & (mine > audible)
    return _padded(_joined(is_own), len(heard))


def explained_share(heard: _Powers, cause: _Powers, where: _Flags) -> float:
    """How much of the power of `heard`, where flagged, is a linear echo of `cause`: 0 to 1.

    The coherence of both, each frequency weighted with its power. Chance alone gives about one
    over the number of frames.
    """
    frames = range(0, min(len(heard), len(where)) - _FRAME + 1, _FRAME // 2)
    chosen = [at for at in frames if where[at + _FRAME // 2]]
    if not chosen:
        return 0.0
    window = np.hanning(_FRAME)
    effects = np.fft.rfft([window * heard[at : at + _FRAME] for at in chosen])
    causes = np.fft.rfft([window * cause[at : at + _FRAME] for at in chosen])
    cross = np.abs((causes.conj() * effects).sum(axis=0)) ** 2
    explained = cross / np.maximum(np.square(np.abs(causes)).sum(axis=0), 1e-12)
    return float(explained.sum() / max(np.square(np.abs(effects)).sum(), 1e-12))


def _powers(samples: Samples | _Powers) -> _Powers:
    """Of each whole hop and those around it; never nothing."""
    hops = len(samples) // _HOP
    each = np.square(samples[: hops * _HOP], dtype=np.float64).reshape(hops, _HOP).mean(axis=1)
    if hops >= _HOPS_AROUND:
        each = np.convolve(each, np.full(_HOPS_AROUND, 1 / _HOPS_AROUND), mode="same")
    powers: _Powers = np.maximum(each, 1e-12)
    return powers


def _loudest_around(powers: _Powers) -> _Powers:
    """The greatest within MAX_LAG_SAMPLES of each hop."""
    reach = MAX_LAG_SAMPLES // _HOP
    windows = sliding_window_view(np.pad(powers, reach), 2 * reach + 1)
    loudest: _Powers = windows.max(axis=1)
    return loudest


def _joined(is_own: _Flags) -> list[tuple[int, int]]:
    """[first, last) hops of one's own words, long enough to be some."""
    joined: list[tuple[int, int]] = []
    for first, last in _runs(is_own, 1):
        if joined and first - joined[-1][1] <= _MAX_GAP_HOPS:
            first = joined.pop()[0]
        joined.append((first, last))
    return [
        (first, last)
        for first, last in joined
        if np.count_nonzero(is_own[first:last]) >= _MIN_LEAK_HOPS
    ]


def _padded(hops: Sequence[tuple[int, int]], samples: int) -> list[tuple[int, int]]:
    """In samples, with what is soft around; none reaches into the next."""
    edges = [
        (max(0, first * _HOP - PADDING_SAMPLES), min(samples, last * _HOP + PADDING_SAMPLES))
        for first, last in hops
    ]
    for number in range(1, len(edges)):
        (before, end), (begin, after) = edges[number - 1], edges[number]
        if begin < end:
            middle = (begin + end) // 2
            edges[number - 1], edges[number] = (before, middle), (middle, after)
    return edges


def _runs(flags: _Flags, least: int) -> list[tuple[int, int]]:
    """[begin, end) of each stretch of True that is long enough."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
    return [(int(begin), int(end)) for begin, end in edges if end - begin >= least]


def _silence(
    samples: Samples, spans: Sequence[SpeechSpan], own: Sequence[SpeechSpan], start: int
) -> None:
    """Fade out what is in `spans` and not in `own`."""
    gain = np.ones(len(samples), np.float32)
    for span in spans:
        gain[span.start - start : span.end - start] = 0
    for span in own:
        gain[span.start - start : span.end - start] = 1
    ramp = np.full(2 * _FADE + 1, 1 / (2 * _FADE + 1), np.float32)
    samples *= np.convolve(np.pad(gain, _FADE, mode="edge"), ramp, mode="valid")
