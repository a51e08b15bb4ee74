"""What libraries make of a stream whose work fails after its first words."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.clients.conftest import LONG, MORE_SDKS, SDKS, Clients
from tests.clients.drivers import Driver
from tests.together.processes import Server, eventually, serving

REPETITIONS = 40
"""Of 33 s: long enough that there is more to come after the first words."""


@pytest.fixture
def ending(short_folder: Path) -> Iterator[Server]:
    """A server that, told to end, waits for nobody."""
    settings = {"MODEL_ID": "embedded", "SHUTDOWN_TIMEOUT": "0"}
    with serving("serve", short_folder, **settings) as server:
        eventually(lambda: server.client.get("/readyz").status_code == 200, "never ready")
        yield server


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    samples, rate = soundfile.read(LONG, dtype="int16")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, REPETITIONS), rate)
    return tmp_path / "long.wav"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SDKS, id="usual"),
        pytest.param(MORE_SDKS, id="more", marks=pytest.mark.long),
    ],
)
def test_a_failure_after_the_first_words_is_raised_with_our_message_and_not_retried(
    clients: Clients, ending: Server, recording: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    sdks = clients.available(names)
    if not sdks:
        pytest.skip(f"none of {', '.join(names)} is available")

    def call(sdk: Driver) -> dict[str, Any]:
        return sdk.call(
            "transcribe",
            ending.port,
            recording,
            file_as="bytes",
            max_retries=2,
            started=tmp_path / sdk.name,
            model="whisper-1",
            stream=True,
        )

    with ThreadPoolExecutor(len(sdks)) as pool:
        outcomes = [pool.submit(call, sdk) for sdk in sdks]
        for sdk in sdks:
            eventually((tmp_path / sdk.name).exists, f"{sdk} never got an event")
        [engine] = ending.running.titled("engine")
        engine.suspend()  # so that no stream reaches its end
        ending.running.process.terminate()
        for sdk, outcome in zip(sdks, outcomes, strict=True):
            error = outcome.result()["error"]
            assert error["class"] == "APIError", sdk
            assert error["code"] == "shutting_down", sdk
            assert "server" in error["message"], sdk
            assert [attempt["status"] for attempt in outcome.result()["attempts"]] == [200], sdk
