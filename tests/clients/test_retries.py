"""Libraries meet a server without a worker; all at once, as each waits as long as it is told."""

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import AI_SDKS, CLIP, KEY, MORE_AI_SDKS, MORE_SDKS, SDKS, Clients
from tests.clients.drivers import Driver
from tests.together.processes import Running, Server, eventually, running, serving

EVERYONE = [
    pytest.param((*SDKS, *AI_SDKS), id="usual"),
    pytest.param((*MORE_SDKS, *MORE_AI_SDKS), id="more", marks=pytest.mark.long),
]


@pytest.fixture(params=EVERYONE)
def sdks(request: pytest.FixtureRequest, clients: Clients) -> list[Driver]:
    """Those that can be had here."""
    found = clients.available(request.param)
    if not found:
        pytest.skip(f"none of {', '.join(request.param)} is available")
    return found


@pytest.fixture
def without_worker(short_folder: Path) -> Iterator[Server]:
    settings = {"MODEL_ID": "embedded", "WORKER_START_TIMEOUT": "1"}
    with serving("gateway", short_folder, **settings) as server:
        yield server


def test_calls_made_before_there_is_a_worker_succeed_by_being_retried(
    sdks: list[Driver], without_worker: Server, words: list[str]
) -> None:
    log = without_worker.running.log
    with calling(sdks, without_worker, max_retries=5) as outcomes:
        eventually(lambda: log.read_text().count("status=503") >= len(sdks), "nobody was refused")
        with worker(without_worker.data_dir):
            eventually(lambda: is_transcribing(without_worker), "the worker never transcribed")
            for sdk, outcome in zip(sdks, outcomes, strict=True):
                assert outcome.result()["value"]["text"].split() == words, sdk
                assert_retried_as_told(sdk, outcome.result()["attempts"])


def test_a_server_that_stays_without_a_worker_says_so(sdks: list[Driver], strict: Server) -> None:
    with calling(sdks, strict, max_retries=0) as outcomes:
        for sdk, outcome in zip(sdks, outcomes, strict=True):
            error = outcome.result()["error"]
            assert (error["status"], error["code"]) == (503, "worker_unavailable"), sdk
            assert error["type"] == "server_error", sdk
            assert error["class"] in ("InternalServerError", "AI_APICallError"), sdk


@contextmanager
def calling(
    sdks: list[Driver], server: Server, max_retries: int
) -> Iterator[list["Future[dict[str, Any]]"]]:
    """All ask for the clip's text. From memory, as Node's does not retry what it streams."""

    def call(sdk: Driver) -> dict[str, Any]:
        return sdk.call(
            "transcribe",
            server.port,
            CLIP,
            file_as="bytes",
            key=KEY,
            max_retries=max_retries,
            model="whisper-1",
        )

    with ThreadPoolExecutor(len(sdks)) as pool:
        yield [pool.submit(call, sdk) for sdk in sdks]


def worker(data_dir: Path) -> AbstractContextManager[Running]:
    command = (str(Path(sys.executable).parent / "qwen3-asr"), "worker")
    environment = {"DATA_DIR": str(data_dir), "MODEL_ID": "embedded"}
    return running(*command, log=data_dir / "worker.log", environment=environment)


def is_transcribing(server: Server) -> bool:
    return server.transcribe(CLIP.read_bytes()).status_code == 200


def assert_retried_as_told(sdk: Driver, attempts: list[dict[str, Any]]) -> None:
    statuses = [attempt["status"] for attempt in attempts]
    assert statuses == [503] * (len(attempts) - 1) + [200], sdk
    assert len(attempts) > 1, sdk
    for refused, following in pairwise(attempts):
        assert following["at"] - refused["at"] >= int(refused["headers"]["retry-after"]), sdk
