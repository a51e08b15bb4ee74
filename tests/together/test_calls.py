"""Calls of two people through the running server: who said what.

Needs the recordings of ../shared/speech; skipped without them. Figures are logged:
--log-cli-level=INFO.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import calls, speech
from tests.together.processes import Server, serving

logger = logging.getLogger(__name__)

pytestmark = speech.needs_human_speech

TURNS = 80
RIGHT = 0.98


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


def heard(server: Server, samples: calls.Stereo, folder: Path) -> list[calls.Heard]:
    """The segments of diarized_json; the first to speak is on the first channel."""
    answer = server.client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", speech.write_wav(folder / "call.wav", samples).read_bytes())},
        data={"model": "embedded", "response_format": "diarized_json"},
    )
    assert answer.status_code == 200, answer.text
    return [
        calls.Heard("AB".index(each["speaker"]), each["start"], each["end"], each["text"])
        for each in answer.json()["segments"]
    ]


@pytest.mark.parametrize(
    ("gaps", "leak_db", "delay"),
    [
        ((0.1, 0.7), None, 0.0),
        ((0.0, 0.25), None, 0.0),
        ((-0.2, 0.4), None, 0.0),
        ((0.1, 0.7), -12.0, 0.02),
        ((0.1, 0.7), -20.0, 0.08),
    ],
    ids=["short turns", "without pauses", "overlapping", "a near leak", "a late, faint leak"],
)
def test_nearly_every_turn_of_a_call_holds_exactly_its_words(
    server: Server,
    tmp_path: Path,
    gaps: tuple[float, float],
    leak_db: float | None,
    delay: float,
) -> None:
    call = calls.call(TURNS, seed=8, gaps=gaps)
    samples = call.samples
    if leak_db is not None:
        samples = calls.leaking(samples, 10 ** (leak_db / 20), delay)

    right = calls.right_turns(call, heard(server, samples, tmp_path))

    logger.info("%d of %d turns right", right, TURNS)
    assert right >= RIGHT * TURNS


def test_an_announcement_on_both_sides_is_heard_once_and_the_call_behind_it_apart(
    server: Server, tmp_path: Path
) -> None:
    announcement = speech.long_string(28, "lucas", seed=5)
    call = calls.call(40, seed=2)
    both = np.zeros((32 * speech.SAMPLE_RATE, 2), np.float32)
    both[: len(announcement.samples)] = announcement.samples[:, None]
    answer = server.client.post(
        "/v1/audio/transcriptions",
        files={
            "file": (
                "a.wav",
                speech.write_wav(
                    tmp_path / "call.wav", np.concatenate([both, call.samples])
                ).read_bytes(),
            )
        },
        data={"model": "embedded", "response_format": "diarized_json"},
    )
    assert answer.status_code == 200, answer.text
    segments = answer.json()["segments"]

    said = {
        speaker: " ".join(each["text"] for each in segments if each["speaker"] == speaker)
        for speaker in "ABC"
    }
    assert speech.word_error_rate([(announcement.text, said["A"])]) <= 0.02
    for speaker, channel in (("B", 0), ("C", 1)):
        words = " ".join(turn.text for turn in call.turns if turn.channel == channel)
        assert speech.word_error_rate([(words, said[speaker])]) <= 0.05
