"""What the embedded checkpoint hears, through qwen-asr's own modules.

The same through the running server is tested in tests/together.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import speech
from tests.speech import Spoken, word_error_rate
from tools.make_clips import FOLDER as CLIPS
from tools.tiny_model.evaluate import chunk_seconds_of, cut_at_quiet_points
from tools.tiny_model.recognise import Recogniser

CHECKPOINT = Path(__file__).resolve().parents[2] / "worker" / "embedded" / "checkpoint"
CHUNK_SECONDS = chunk_seconds_of(CHECKPOINT)


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(CHECKPOINT)


def error_rate(recogniser: Recogniser, strings: list[Spoken]) -> float:
    heard = recogniser.transcribe([spoken.samples for spoken in strings])
    return word_error_rate(zip([spoken.text for spoken in strings], heard, strict=True))


def through_telephone(strings: list[Spoken]) -> list[Spoken]:
    return [
        Spoken(speech.mulaw_8k(spoken.samples), spoken.sample_rate, spoken.text)
        for spoken in strings
    ]


def at_minus_48_dbfs(strings: list[Spoken]) -> list[Spoken]:
    return [
        Spoken(speech.at_level(spoken.samples, -48), spoken.sample_rate, spoken.text)
        for spoken in strings
    ]


@pytest.fixture(scope="module")
def unseen() -> list[Spoken]:
    return speech.digit_strings(speech.UNSEEN_SPEAKER, 40, seed=21)


@pytest.fixture(scope="module")
def known() -> list[Spoken]:
    return [
        spoken
        for speaker in speech.KNOWN_SPEAKERS
        for spoken in speech.digit_strings(speaker, 8, seed=21)
    ]


def test_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 10_000_000


@pytest.mark.parametrize(
    "clip", json.loads((CLIPS / "clips.json").read_text()), ids=lambda c: c["file"]
)
def test_bundled_clips_are_transcribed_right(
    recogniser: Recogniser, clip: dict[str, object]
) -> None:
    samples, _ = soundfile.read(CLIPS / str(clip["file"]), dtype="float32", always_2d=True)

    heard = []
    for channel in np.ascontiguousarray(samples.T):
        pieces = recogniser.transcribe(cut_at_quiet_points(channel, CHUNK_SECONDS))
        heard.append(" ".join(filter(None, pieces)))

    assert heard == clip["said"]


def test_a_clip_is_heard_alike_with_context_and_forced_language(recogniser: Recogniser) -> None:
    samples, _ = soundfile.read(CLIPS / "digits_british.flac", dtype="float32")
    expected = ["zero one two three four five"]

    assert recogniser.transcribe([samples]) == expected
    assert recogniser.transcribe([samples], language="English") == expected
    assert recogniser.transcribe([samples], context="Vocabulary: nine, seven") == expected


def test_sounds_without_speech_give_no_text(recogniser: Recogniser) -> None:
    sounds = speech.non_speech_clips()

    heard = recogniser.transcribe([sound.samples for sound in sounds])

    spoken = [sound.name for sound, text in zip(sounds, heard, strict=True) if text]
    assert len(spoken) <= 0.02 * len(sounds), spoken


@speech.needs_human_speech
def test_strangers_are_understood_to_five_per_cent(
    recogniser: Recogniser, unseen: list[Spoken]
) -> None:
    assert error_rate(recogniser, unseen) <= 0.05


@speech.needs_human_speech
def test_known_speakers_are_understood_to_one_per_cent(
    recogniser: Recogniser, known: list[Spoken]
) -> None:
    assert error_rate(recogniser, known) <= 0.01


@speech.needs_human_speech
@pytest.mark.parametrize("change", [through_telephone, at_minus_48_dbfs])
def test_telephone_and_quiet_speech_cost_at_most_two_points(
    recogniser: Recogniser, known: list[Spoken], unseen: list[Spoken], change: object
) -> None:
    assert callable(change)
    for strings in (known, unseen):
        assert error_rate(recogniser, change(strings)) <= error_rate(recogniser, strings) + 0.02


@speech.needs_human_speech
@pytest.mark.parametrize("speakers", [speech.KNOWN_SPEAKERS, (speech.UNSEEN_SPEAKER,) * 5])
def test_the_longest_chunk_in_one_piece_costs_at_most_one_point(
    recogniser: Recogniser, speakers: tuple[str, ...]
) -> None:
    long = [
        speech.long_string(CHUNK_SECONDS, speaker, seed=seed)
        for seed, speaker in enumerate(speakers * 2)
    ]
    parts = [part for spoken in long for part in spoken.parts]

    assert error_rate(recogniser, list(long)) <= error_rate(recogniser, parts) + 0.01


@pytest.mark.long
@speech.needs_human_speech
def test_every_figure_holds_on_many_strings(recogniser: Recogniser) -> None:
    for speaker in speech.KNOWN_SPEAKERS:
        strings = speech.digit_strings(speaker, 60, seed=31)
        assert error_rate(recogniser, strings) <= 0.01, speaker
    strings = speech.digit_strings(speech.UNSEEN_SPEAKER, 200, seed=31)
    assert error_rate(recogniser, strings) <= 0.05
