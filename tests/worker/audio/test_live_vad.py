"""What is heard as speech in live streams, many at once."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.audio.live_vad import MAX_BATCH, JudgedSteps, LiveVad, LiveVoiceActivity
from worker.audio.vad import STEP_SAMPLES, SpeechModel, VoiceActivity

Samples = NDArray[np.float32]

VAD = LiveVad()
CLIPS = Path(__file__).parents[3] / "examples" / "speech"


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, rate = soundfile.read(CLIPS / "digits_american.flac", dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


def heard_alone(samples: Samples, packets: list[int] | None = None) -> JudgedSteps:
    stream, parts, position, turn = LiveVoiceActivity(), [], 0, 0
    sizes = packets or [len(samples)]
    while position < len(samples):
        size = sizes[turn % len(sizes)]
        parts += VAD.judge([(stream, samples[position : position + size])])
        position, turn = position + size, turn + 1
    return JudgedSteps(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )


def test_live_streams_hear_what_recordings_hear(speech: Samples) -> None:
    samples = speech[: len(speech) // STEP_SAMPLES * STEP_SAMPLES]
    detector = VoiceActivity(SpeechModel())
    expected = np.concatenate([detector.push(samples), detector.finish()])
    heard = heard_alone(samples).probabilities

    assert 0.3 < np.mean(expected > 0.5) < 0.95
    assert np.mean((heard > 0.5) == (expected > 0.5)) > 0.95


def test_quiet_speech_is_heard_like_loud_speech(speech: Samples) -> None:
    loud = heard_alone(speech).probabilities

    for decibels in (20, 30, 35):
        quiet = heard_alone(speech * np.float32(10 ** (-decibels / 20))).probabilities
        assert np.mean((quiet > 0.5) == (loud > 0.5)) > 0.9, decibels


def test_a_constant_offset_changes_nothing(speech: Samples) -> None:
    quiet = speech * np.float32(0.03)
    plain, shifted = heard_alone(quiet), heard_alone(quiet + np.float32(0.02))

    assert np.mean((plain.probabilities > 0.5) == (shifted.probabilities > 0.5)) > 0.95
    assert np.allclose(plain.levels[20:], shifted.levels[20:], atol=3)


@settings(max_examples=20, deadline=None)
@given(packets=st.lists(st.integers(1, 5_000), min_size=1, max_size=5))
def test_what_is_heard_does_not_depend_on_packets(packets: list[int]) -> None:
    samples = np.sin(np.arange(24_000) ** 1.3, dtype=np.float32)
    whole, parts = heard_alone(samples), heard_alone(samples, packets)

    assert np.array_equal(parts.probabilities, whole.probabilities)
    assert np.array_equal(parts.levels, whole.levels)


def test_streams_judged_together_do_not_disturb_each_other(speech: Samples) -> None:
    rng = np.random.default_rng(0)
    cuts = [speech[start : start + length] for start, length in rng.integers(0, 30_000, (70, 2))]
    assert len(cuts) > MAX_BATCH

    together = VAD.judge([(LiveVoiceActivity(), cut) for cut in cuts])

    for cut, judged in zip(cuts, together, strict=True):
        (alone,) = VAD.judge([(LiveVoiceActivity(), cut)])
        assert len(judged) == len(cut) // STEP_SAMPLES
        assert np.allclose(judged.probabilities, alone.probabilities, atol=1e-4)
        assert np.array_equal(judged.levels, alone.levels)


def test_a_stream_without_a_whole_step_waits_while_others_are_judged(speech: Samples) -> None:
    short, long = LiveVoiceActivity(), LiveVoiceActivity()

    waiting, judged = VAD.judge([(short, speech[:500]), (long, speech[:1_100])])

    assert (len(waiting), len(judged)) == (0, 2)
    assert (short.waiting_samples, long.waiting_samples) == (500, 76)
    assert len(VAD.judge([(short, speech[500:512])])[0]) == 1
    assert VAD.judge([]) == []


def test_a_stream_that_is_reset_has_heard_nothing(speech: Samples) -> None:
    stream = LiveVoiceActivity()
    (first,) = VAD.judge([(stream, speech[:20_000])])
    (second,) = VAD.judge([(stream, speech[:20_000])])
    stream.reset()
    (again,) = VAD.judge([(stream, speech[:20_000])])

    assert not np.array_equal(second.probabilities, first.probabilities)
    assert np.array_equal(again.probabilities, first.probabilities)


def test_levels_are_decibels_below_full_scale() -> None:
    square = np.where(np.arange(1_024) % 2, 0.1, -0.1).astype(np.float32)

    assert heard_alone(square).levels.tolist() == pytest.approx([-20, -20], abs=1e-3)
    assert heard_alone(np.zeros(512, np.float32)).levels.tolist() == pytest.approx([-100])
