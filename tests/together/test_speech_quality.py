"""Word error rates of the embedded model through the running server, on people never trained on.

Needs the recordings of ../shared/speech; skipped without them. The rates are logged: run with
--log-cli-level=INFO to see them.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import speech
from tests.together.processes import Server, serving

logger = logging.getLogger(__name__)

CALLERS = 8
STRINGS = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s")
    with serving("serve", folder, MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(scope="module")
def unknown_speaker() -> list[speech.Spoken]:
    return speech.digit_strings(speech.UNSEEN_SPEAKER, STRINGS * 3, seed=41)


@pytest.fixture(scope="module")
def known_speakers() -> list[speech.Spoken]:
    return [
        spoken
        for number, speaker in enumerate(speech.KNOWN_SPEAKERS)
        for spoken in speech.digit_strings(speaker, STRINGS, seed=50 + number)
    ]


def heard(server: Server, sounds: Sequence[speech.Samples], folder: Path) -> list[str]:
    """What the server makes of each, several callers at a time."""

    def upload(numbered: tuple[int, speech.Samples]) -> str:
        number, samples = numbered
        path = speech.write_wav(folder / f"{number}.wav", samples)
        response = server.transcribe(path.read_bytes(), model="embedded")
        assert response.status_code == 200, response.text
        return str(response.json()["text"])

    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(upload, enumerate(sounds)))


def error_rate(server: Server, strings: Sequence[speech.Spoken], folder: Path, name: str) -> float:
    texts = heard(server, [spoken.samples for spoken in strings], folder)
    pairs = zip((spoken.text for spoken in strings), texts, strict=True)
    rate = speech.word_error_rate(pairs)
    words = sum(len(spoken.text.split()) for spoken in strings)
    logger.info("%s: %d strings, %d words, WER %.2f %%", name, len(strings), words, 100 * rate)
    return rate


@speech.needs_human_speech
def test_a_speaker_never_trained_on_is_understood(
    server: Server, unknown_speaker: list[speech.Spoken], tmp_path: Path
) -> None:
    assert error_rate(server, unknown_speaker, tmp_path, "theo") <= 0.05


@speech.needs_human_speech
def test_speakers_trained_on_are_understood_in_new_recordings(
    server: Server, known_speakers: list[speech.Spoken], tmp_path: Path
) -> None:
    assert error_rate(server, known_speakers, tmp_path, "known speakers") <= 0.01


@speech.needs_human_speech
def test_the_telephone_costs_at_most_two_points(
    server: Server, known_speakers: list[speech.Spoken], tmp_path: Path
) -> None:
    by_phone = [
        speech.Spoken(speech.mulaw_8k(spoken.samples), spoken.sample_rate, spoken.text)
        for spoken in known_speakers
    ]
    direct = error_rate(server, known_speakers, tmp_path, "known speakers")

    assert error_rate(server, by_phone, tmp_path, "by telephone") <= direct + 0.02


def test_silence_noise_ringing_and_tones_have_no_text(server: Server, tmp_path: Path) -> None:
    sounds = speech.non_speech_clips()
    texts = heard(server, [sound.samples for sound in sounds], tmp_path)
    invented = [(sound.name, text) for sound, text in zip(sounds, texts, strict=True) if text]

    logger.info("%d sounds without speech, %d with text", len(sounds), len(invented))
    assert len(sounds) >= 100
    assert len(invented) <= 0.02 * len(sounds), invented


@speech.needs_human_speech
@pytest.mark.parametrize("seconds", [60, 90, 120])
def test_a_long_string_is_at_most_a_point_worse_than_its_parts(
    server: Server, tmp_path: Path, seconds: int
) -> None:
    wholes = [
        speech.long_string(seconds, speaker, seed=70 + seconds)
        for speaker in speech.KNOWN_SPEAKERS[:3]
    ]
    parts = [part for whole in wholes for part in whole.parts]

    in_parts = error_rate(server, parts, tmp_path, f"parts of {seconds} s")

    assert error_rate(server, wholes, tmp_path, f"{seconds} s") <= in_parts + 0.01
