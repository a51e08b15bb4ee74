"""The programs of the page for live calls, run as they stand there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import soundfile

from tests.together.processes import DEADLINE, REPOSITORY, Server, eventually, serving

PAGE = (REPOSITORY / "docs" / "live.md").read_text("utf-8")
CLIP = REPOSITORY / "examples" / "speech" / "digits_british.flac"
SAID = "zero one two three four five"
SEND, FOLLOW = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of digits as a WAV file."""
    path = tmp_path_factory.mktemp("clip") / "call.wav"
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def run(program: str, *arguments: str) -> list[str]:
    """What it prints, line by line."""
    done = subprocess.run(
        (sys.executable, "-c", program, *arguments),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout.splitlines()


def words_of(lines: list[str]) -> list[str]:
    return " ".join(line.partition(": ")[2] for line in lines).lower().split()


def address(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def test_what_was_said_before_a_client_hung_up_reaches_followers_though_no_engine_ran(
    server: Server, recording: Path
) -> None:
    run(SEND, address(server), "4711", str(recording))
    live = run(FOLLOW, address(server), "4711")

    assert words_of(live) == SAID.split()
    assert all(re.match(r"\d+\.\d s, channel 0: ", line) for line in live)
    assert run(FOLLOW, address(server), "4711") == live, "a follower who comes when it is over"


def test_a_call_that_is_not_under_way_is_not_found(server: Server) -> None:
    answer = server.client.get("/v1/calls/4712/events")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "call_not_found")


def test_an_engine_is_there_for_those_who_said_that_they_would_need_it(tmp_path: Path) -> None:
    with serving("serve", tmp_path, MODEL_ID="embedded") as server:
        eventually(lambda: server.client.get("/readyz").is_success, "no supervisor joined")
        first = server.client.post("/v1/warm")
        assert (first.status_code, first.json()["engine"]) == (202, "starting")
        eventually(lambda: _state(server.client) == "ready", "no engine was started")

        assert server.client.post("/v1/warm", json={"seconds": 5}).json()["engine"] == "ready"


def _state(client: httpx2.Client) -> str:
    state: str = client.post("/v1/warm", json={"seconds": 1}).json()["engine"]
    return state
