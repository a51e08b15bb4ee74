"""Recordings of many minutes through the running server: their text, live and whole, their
subtitles, and what becomes of them when the engine dies or the caller leaves.

Needs the recordings of ../shared/speech; skipped without them. `scripts/test --long` takes an hour
of speech, otherwise a few minutes do. Figures are logged: --log-cli-level=INFO.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srt

from tests import speech
from tests.together.processes import Server, eventually, serving
from tests.together.test_faults import running_requests

logger = logging.getLogger(__name__)

pytestmark = speech.needs_human_speech

RATE_MARGIN = 0.005
SPEAKERS = speech.KNOWN_SPEAKERS[:3]


@dataclass
class Long:
    """A recording, its text, and the strings it is joined of."""

    minutes: int
    upload: bytes = field(repr=False)
    text: str
    parts: list[speech.Spoken] = field(repr=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(scope="module", params=[12, pytest.param(60, marks=pytest.mark.long)])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Long:
    minutes: int = request.param
    pieces = [speech.long_string(20 * minutes, speaker, seed=90 + minutes) for speaker in SPEAKERS]
    path = tmp_path_factory.mktemp("long") / "long.wav"
    speech.write_wav(path, np.concatenate([piece.samples for piece in pieces]))
    text = " ".join(piece.text for piece in pieces)
    return Long(
        minutes, path.read_bytes(), text, [part for piece in pieces for part in piece.parts]
    )


def whole_text(server: Server, recording: Long) -> str:
    answer = server.client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", recording.upload)},
        data={"model": "embedded"},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def events(server: Server, recording: Long) -> Iterator[dict[str, Any]]:
    """The events of a streamed answer, as they come."""
    with server.client.stream(
        "POST",
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", recording.upload)},
        data={"model": "embedded", "stream": "true"},
        timeout=600,
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def test_an_hour_is_understood_as_well_as_its_strings_one_by_one(
    server: Server, recording: Long, tmp_path: Path
) -> None:
    sample = recording.parts[:: max(1, len(recording.parts) // 150)]
    pairs = []
    for number, part in enumerate(sample):
        upload = speech.write_wav(tmp_path / f"{number}.wav", part.samples).read_bytes()
        pairs.append((part.text, str(server.transcribe(upload).json()["text"])))
    by_parts = speech.word_error_rate(pairs)

    started = time.monotonic()
    text = whole_text(server, recording)
    seconds = time.monotonic() - started

    rate = speech.word_error_rate([(recording.text, text)])
    logger.info(
        "%d min in %.1f s: WER %.2f %%, its strings one by one %.2f %%",
        recording.minutes,
        seconds,
        100 * rate,
        100 * by_parts,
    )
    assert rate <= by_parts + RATE_MARGIN


def test_its_stream_begins_early_and_ends_in_the_text_of_the_whole(
    server: Server, recording: Long
) -> None:
    whole = whole_text(server, recording)
    started = time.monotonic()
    first: float | None = None
    deltas: list[str] = []
    done: dict[str, Any] = {}
    for event in events(server, recording):
        if event["type"] == "transcript.text.delta":
            first = first if first is not None else time.monotonic() - started
            deltas.append(event["delta"])
        else:
            done = event
    ended = time.monotonic() - started

    logger.info("%d min streamed: first text after %s s of %.1f", recording.minutes, first, ended)
    assert first is not None
    assert len(deltas) > recording.minutes
    assert "".join(deltas) == done["text"] == whole
    assert first < ended / 2


def test_an_engine_killed_in_the_middle_costs_no_word_and_repeats_none(
    server: Server, recording: Long
) -> None:
    whole = whole_text(server, recording)
    deltas: list[str] = []
    killed = False
    for event in events(server, recording):
        if event["type"] == "transcript.text.delta":
            deltas.append(event["delta"])
        if not killed and len("".join(deltas)) > len(whole) / 3:
            (engine,) = server.running.titled("engine")
            os.kill(engine.pid, signal.SIGKILL)
            killed = True

    assert killed
    assert "".join(deltas) == whole


def test_a_caller_who_leaves_in_the_middle_frees_the_engine_at_once(
    server: Server, recording: Long
) -> None:
    for _ in zip(range(3), events(server, recording), strict=False):
        pass  # three events, then the connection is closed

    eventually(lambda: not any(running_requests(server)), "the engine kept the request")
    eventually(lambda: not server.spool_files(), "the upload was kept")


def test_its_subtitles_keep_the_rules(server: Server, recording: Long) -> None:
    answer = server.client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", recording.upload)},
        data={"model": "embedded", "response_format": "srt"},
        timeout=600,
    )
    cues = list(srt.parse(answer.text))

    spoken = " ".join(cue.content.replace("\n", " ") for cue in cues)
    assert spoken == whole_text(server, recording)
    for cue, following in zip(cues, [*cues[1:], None], strict=True):
        lines = cue.content.splitlines()
        assert len(lines) <= 2
        assert all(len(line) <= 42 for line in lines)
        assert 0 < (cue.end - cue.start).total_seconds() <= 7
        assert following is None or cue.end <= following.start
    long_enough = [(cue.end - cue.start).total_seconds() >= 0.833 for cue in cues]
    slow_enough = [len(cue.content) / (cue.end - cue.start).total_seconds() <= 20 for cue in cues]
    assert sum(long_enough) >= 0.95 * len(cues)
    assert sum(slow_enough) >= 0.95 * len(cues)
    assert cues[-1].end.total_seconds() <= recording.minutes * 60 + 1
