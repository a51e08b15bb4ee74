"""What leaks from one side of a call into the other."""

import numpy as np
import pytest

from tests import calls, speech
from worker.audio import SAMPLE_RATE
from worker.audio.crosstalk import without_crosstalk
from worker.segments import SpeechSpan

START = 7_000
"""Of the chunk in its recording."""

pytestmark = speech.needs_human_speech


def spans_of(call: calls.Call, channel: int) -> tuple[SpeechSpan, ...]:
    """Of one side's own turns, as the recording counts."""
    return tuple(
        SpeechSpan(START + max(0, turn.start - 1_600), START + turn.end + 1_600, 0.9)
        for turn in call.turns
        if turn.channel == channel
    )


def heard_in_both(call: calls.Call) -> tuple[tuple[SpeechSpan, ...], ...]:
    """As voice activity detection hears a call whose sides leak."""
    spans = sorted([*spans_of(call, 0), *spans_of(call, 1)], key=lambda span: span.start)
    return tuple(spans), tuple(spans)


def middles(spans: tuple[SpeechSpan, ...]) -> list[int]:
    return [(span.start + span.end) // 2 for span in spans]


@pytest.mark.parametrize("gain_db", [-12, -20, -30])
@pytest.mark.parametrize(
    ("delay", "room"), [(0.0, None), (0.04, None), (0.09, None), (0.01, 1), (0.03, 3)]
)
def test_leaks_are_dropped_and_silenced(gain_db: float, delay: float, room: int | None) -> None:
    call = calls.call(12, seed=3, gaps=(0.25, 0.7))
    samples = calls.leaking(call.samples, 10 ** (gain_db / 20), delay, room)
    kept = samples.copy()

    clean, own = without_crosstalk(samples, heard_in_both(call), START)

    assert np.array_equal(samples, kept)
    for channel in range(2):
        expected = middles(spans_of(call, channel))
        assert middles(own[channel]) == pytest.approx(expected, abs=SAMPLE_RATE // 10)
        for turn in call.turns:
            middle = slice(turn.start + 1_600, turn.end - 1_600)
            loudest = float(np.abs(clean[middle, channel]).max())
            assert (loudest > 0.05) == (turn.channel == channel)


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_what_both_say_at_once_is_kept_however_soft_one_is(level: float) -> None:
    for seed in range(8):
        words = [
            speech.digit_strings(name, 1, seed, (4, 8))[0].samples for name in ("theo", "lucas")
        ]
        length = min(map(len, words))
        both = np.stack([words[0][:length], level * words[1][:length]], axis=1)
        span = (SpeechSpan(START, START + length, 0.9),)

        clean, own = without_crosstalk(both.astype(np.float32), (span, span), START)

        assert own == (span, span)
        assert np.array_equal(clean, both.astype(np.float32))


def test_words_that_follow_a_leak_without_a_pause_are_kept() -> None:
    call = calls.call(2, seed=6, gaps=(0.05, 0.05), digits=(3, 3))
    samples = calls.leaking(call.samples, 0.1, 0.02)
    first, second = call.turns
    everything = (SpeechSpan(START, START + second.end, 0.9),)

    _, own = without_crosstalk(samples, (everything, everything), START)

    assert own[0][0].start - START == pytest.approx(first.start, abs=0.2 * SAMPLE_RATE)
    assert own[0][-1].end - START == pytest.approx(first.end, abs=0.2 * SAMPLE_RATE)
    assert own[1][0].start - START == pytest.approx(second.start, abs=0.2 * SAMPLE_RATE)


def test_a_side_that_speaks_alone_is_left_alone() -> None:
    call = calls.call(4, seed=1)
    spans = (spans_of(call, 0), ())

    assert without_crosstalk(call.samples, spans, START) == (call.samples, spans)
