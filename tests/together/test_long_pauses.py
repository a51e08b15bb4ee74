"""A recording with pauses of some seconds through the running server.

Needs the recordings of ../shared/speech; skipped without them.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import speech
from tests.together.processes import Server, serving

pytestmark = speech.needs_human_speech

PAUSE = np.zeros(3 * speech.SAMPLE_RATE, np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(scope="module")
def strings() -> list[speech.Spoken]:
    return speech.digit_strings("george", 20, seed=20, digits=(3, 8))


@pytest.fixture(scope="module")
def recording(strings: list[speech.Spoken], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    samples = np.concatenate([part for each in strings for part in (each.samples, PAUSE)])
    return speech.write_wav(tmp_path_factory.mktemp("r") / "a.wav", samples).read_bytes()


def events(answer: str) -> list[dict[str, Any]]:
    lines = (line.removeprefix("data: ") for line in answer.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_what_is_said_between_pauses_is_understood_and_stays_in_its_place(
    server: Server, recording: bytes, strings: list[speech.Spoken]
) -> None:
    answer = server.transcribe(recording, response_format="verbose_json").json()

    start, in_place = 0.0, 0
    for each in strings:
        end = start + each.seconds
        inside = [part["text"].strip() for part in answer["segments"] if start < part["end"] <= end]
        in_place += " ".join(inside) == each.text
        start = end + len(PAUSE) / speech.SAMPLE_RATE
    assert in_place >= 0.95 * len(strings)


def test_its_stream_and_its_tokens_make_up_the_same_text(server: Server, recording: bytes) -> None:
    whole = server.transcribe(recording).json()["text"]
    streamed = events(server.transcribe(recording, stream="true").text)
    tokens = server.transcribe(recording, **{"include[]": "logprobs"}).json()["logprobs"]

    deltas = [each["delta"] for each in streamed if each["type"].endswith("delta")]
    assert "".join(deltas) == streamed[-1]["text"] == whole
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == whole
