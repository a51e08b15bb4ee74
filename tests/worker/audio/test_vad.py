"""What is heard as speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import speech
from worker.audio.speech_spans import SpanFinder
from worker.audio.vad import STEP_SAMPLES, SpeechModel, VoiceActivity
from worker.segments import SpeechSpan

Samples = NDArray[np.float32]
MODEL = SpeechModel()


def probabilities(samples: Samples, blocks: list[int] | None = None) -> NDArray[np.float32]:
    activity, parts, position, turn = VoiceActivity(MODEL), [], 0, 0
    sizes = blocks or [160_000]
    while position < len(samples):
        size = sizes[turn % len(sizes)]
        parts.append(activity.push(samples[position : position + size]))
        position, turn = position + size, turn + 1
    return np.concatenate([*parts, activity.finish()])


def spans(samples: Samples) -> list[SpeechSpan]:
    finder = SpanFinder(STEP_SAMPLES)
    finder.push(probabilities(samples))
    return finder.spans()


def babble(seconds: float, seed: int) -> Samples:
    """A buzz in syllables: something for the network to be undecided about."""
    moments = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 110 + 20 * np.sin(2 * np.pi * 0.7 * moments + seed)
    buzz = sum(np.sin(2 * np.pi * n * np.cumsum(pitch) / 16_000) / n for n in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 4 * moments + seed), 0, 1)
    samples: Samples = (0.1 * np.asarray(buzz) * syllables).astype(np.float32)
    return samples


def test_every_step_has_one_probability_and_a_started_one_counts() -> None:
    assert len(probabilities(np.zeros(0, np.float32))) == 0
    assert len(probabilities(np.zeros(1, np.float32))) == 1
    assert len(probabilities(np.zeros(512 * 40, np.float32))) == 40
    assert len(probabilities(np.zeros(512 * 40 + 1, np.float32))) == 41


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 50),
    seconds=st.floats(0.01, 5.0),
    blocks=st.lists(st.integers(1, 30_000), min_size=1, max_size=5).filter(lambda b: max(b) > 200),
)
def test_what_is_heard_does_not_depend_on_delivery(
    seed: int, seconds: float, blocks: list[int]
) -> None:
    samples = babble(seconds, seed)

    assert np.array_equal(probabilities(samples, blocks), probabilities(samples))


def test_streams_of_one_model_do_not_disturb_each_other() -> None:
    first, second = babble(3.0, 1), babble(3.0, 2)
    one, other = VoiceActivity(MODEL), VoiceActivity(MODEL)

    mixed = []
    for start in range(0, len(first), 16_000):
        mixed.append(one.push(first[start : start + 16_000]))
        other.push(second[start : start + 16_000])

    assert np.array_equal(np.concatenate([*mixed, one.finish()]), probabilities(first))


def test_silence_noise_and_the_tones_of_telephones_are_no_speech() -> None:
    heard = {sound.name for sound in speech.non_speech_clips() if spans(sound.samples)}
    music = {name for name in heard if name.startswith(("chords", "arpeggio", "melody"))}

    assert heard - music == set()
    assert len(music) <= 2  # of 24; one plucked note is like a syllable


@speech.needs_human_speech
@pytest.mark.parametrize("dbfs", [-12, -30, -48])
def test_people_are_heard_at_any_level(dbfs: float) -> None:
    spoken = speech.digit_strings(speech.UNSEEN_SPEAKER, 3, seed=5)
    for each in spoken:
        found = spans(speech.at_level(each.samples, dbfs))
        loud = np.abs(each.samples) > 0.1

        covered = np.zeros(len(loud), np.bool_)
        for span in found:
            covered[span.start : span.end] = True
        assert loud[covered].sum() > 0.9 * loud.sum()


@speech.needs_human_speech
def test_people_are_heard_on_the_telephone_and_pauses_between_them_are_found() -> None:
    first, second = speech.digit_strings(speech.UNSEEN_SPEAKER, 2, seed=6, digits=(3, 3))
    pause = np.zeros(32_000, np.float32)
    line = speech.mulaw_8k(np.concatenate([first.samples, pause, second.samples]))

    found = spans(line)

    middle = len(first.samples) + 16_000
    assert any(span.end < middle for span in found)
    assert any(span.start > middle for span in found)
    assert not any(span.start < middle < span.end for span in found)
    assert all(0.5 < span.probability <= 1 for span in found)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ModuleNotFoundError, match="extra 'worker'"):
        SpeechModel().load()
