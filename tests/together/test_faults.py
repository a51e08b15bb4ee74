"""What callers see while engine, supervisor and gateway are killed and stopped: real processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.together.processes import Running, Server, eventually, running, serving
from tests.together.sounds import wav

SAMPLES = 16000


@contextmanager
def fake_worker(data_dir: Path, **environment: str) -> Iterator[Running]:
    """A supervisor of fake engines beside a gateway."""
    settings = {"DATA_DIR": str(data_dir), "FAKE_ENGINE_HOLDS": "0", **environment}
    log = data_dir / "worker.log"
    command = (sys.executable, "-m", "tests.together.fake_worker")
    with running(*command, log=log, environment=settings) as worker:
        yield worker


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def held_engine(data_dir: Path, number: int) -> int:
    """The process id of the engine that hangs as the number-th."""
    marker = data_dir / f"held-{number}"
    eventually(marker.exists, f"no engine hung as number {number}")
    return int(marker.read_text())


def running_requests(server: Server) -> list[int]:
    """How many requests each worker's engine holds."""
    workers = server.client.get("/health").json()["workers"]
    return [worker["running_requests"] for worker in workers]


def in_background(
    stack: ExitStack, server: Server, lengths: list[int], **fields: str
) -> list["Future[httpx2.Response]"]:
    pool = stack.enter_context(ThreadPoolExecutor(len(lengths)))
    return [pool.submit(server.transcribe, wav(length), **fields) for length in lengths]


def test_fifty_uploads_get_their_own_text_though_the_engine_is_killed_twice(
    short_folder: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serving("gateway", short_folder))
    stack.enter_context(fake_worker(short_folder, FAKE_ENGINE_HOLDS="2"))
    lengths = [SAMPLES + 160 * number for number in range(50)]
    answers = in_background(stack, server, lengths)
    for number in range(2):
        os.kill(held_engine(short_folder, number), signal.SIGKILL)

    for length, answer in zip(lengths, answers, strict=True):
        response = answer.result()
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["message"]
        else:
            assert response.status_code == 200, response.text
            assert response.json()["text"] == str(length)
    assert sum(answer.result().status_code == 200 for answer in answers) >= 40
    eventually(lambda: not server.spool_files(), "spool files were left")


def test_a_stopped_engine_is_replaced_and_its_request_answered(
    short_folder: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serving("gateway", short_folder))
    stack.enter_context(fake_worker(short_folder, FAKE_ENGINE_HOLDS="1"))
    [answer] = in_background(stack, server, [SAMPLES])
    engine = held_engine(short_folder, 0)
    os.kill(engine, signal.SIGSTOP)

    assert answer.result().json()["text"] == str(SAMPLES)
    eventually(lambda: not psutil.pid_exists(engine), "the stopped engine still exists")


@pytest.mark.parametrize("stopped", ["gateway", "supervisor"])
def test_a_process_that_is_stopped_for_a_while_costs_no_request_and_no_engine(
    short_folder: Path, stack: ExitStack, stopped: str
) -> None:
    server = stack.enter_context(serving("gateway", short_folder))
    worker = stack.enter_context(fake_worker(short_folder, FAKE_ENGINE_HOLDS="0"))
    assert server.transcribe(wav(SAMPLES)).status_code == 200
    engines = worker.titled("engine")
    paused = psutil.Process(server.running.pid if stopped == "gateway" else worker.pid)
    paused.suspend()
    # Longer than what any of them forgives the others.
    with pytest.raises(subprocess.TimeoutExpired):
        server.running.process.wait(5)
    paused.resume()

    assert server.transcribe(wav(SAMPLES)).json()["text"] == str(SAMPLES)
    assert worker.titled("engine") == engines
    assert len(engines) == 1


def test_a_caller_that_leaves_frees_spool_and_engine(short_folder: Path, stack: ExitStack) -> None:
    server = stack.enter_context(serving("gateway", short_folder))
    stack.enter_context(fake_worker(short_folder, FAKE_ENGINE_HOLDS="1"))
    upload = server.client.build_request(
        "POST", "/v1/audio/transcriptions", files={"file": ("a.wav", wav(SAMPLES))}
    )
    caller = HTTPConnection("127.0.0.1", server.port)
    caller.request("POST", "/v1/audio/transcriptions", upload.read(), dict(upload.headers))
    engine = held_engine(short_folder, 0)
    caller.close()

    eventually(lambda: not server.spool_files(), "the upload of a gone caller was kept")
    os.kill(engine, signal.SIGKILL)
    eventually(lambda: not any(running_requests(server)), "the engine kept the request")


def test_nothing_outlives_a_killed_gateway_in_serve_mode(
    short_folder: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serving("serve", short_folder, MODEL_ID="embedded"))
    eventually(lambda: server.client.get("/readyz").status_code == 200, "never ready")
    [answer] = in_background(stack, server, [SAMPLES])
    eventually(lambda: server.running.titled("engine"), "no engine was started")
    family = server.running.children()
    os.kill(server.running.pid, signal.SIGKILL)

    with pytest.raises(httpx2.TransportError):
        answer.result()
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert gone
    assert alive == []


def test_a_killed_supervisor_takes_its_engine_along_and_is_replaced(
    short_folder: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serving("serve", short_folder, MODEL_ID="embedded"))
    assert server.transcribe(wav(SAMPLES)).status_code == 200
    [engine] = server.running.titled("engine")
    [supervisor] = server.running.titled("supervisor")
    supervisor.kill()

    psutil.wait_procs([supervisor, engine], timeout=30)
    assert not engine.is_running()
    assert server.transcribe(wav(SAMPLES)).status_code == 200


def test_sigterm_lets_a_request_in_flight_finish(short_folder: Path, stack: ExitStack) -> None:
    server = stack.enter_context(serving("serve", short_folder, MODEL_ID="embedded"))
    [answer] = in_background(stack, server, [SAMPLES])
    eventually(lambda: server.running.titled("engine"), "no engine was started")
    server.running.process.terminate()

    assert answer.result().status_code == 200
    assert server.running.process.wait(60) == 0


def test_a_worker_that_does_not_see_the_spool_pulls_the_upload_over_an_encrypted_link(
    short_folder: Path, stack: ExitStack
) -> None:
    keys = short_folder / "keys"
    command = [sys.executable, "-m", "gateway", "keys", str(keys)]
    subprocess.run(command, check=True, capture_output=True)
    link = f"tcp://127.0.0.1:{free_port_pair()}"
    ours = {"WORKER_LINK": link, "WORKER_LINK_KEYS": str(keys / "gateway")}
    theirs = {"WORKER_LINK": link, "WORKER_LINK_KEYS": str(keys / "worker")}
    server = stack.enter_context(serving("gateway", short_folder, **ours))
    elsewhere = short_folder / "elsewhere"
    elsewhere.mkdir()
    stack.enter_context(fake_worker(elsewhere, **theirs))
    length = 5 * 1024 * 1024  # samples: 10 MiB, forty pieces

    answer = server.transcribe(wav(length))

    assert answer.status_code == 200, answer.text
    texts = answer.json()["text"].split()
    assert sum(map(int, texts)) == length
    assert list((elsewhere / "fetched").iterdir()) == []


def test_two_workers_serve_one_gateway(short_folder: Path, stack: ExitStack) -> None:
    server = stack.enter_context(serving("gateway", short_folder))
    for worker_id in ("one", "two"):
        stack.enter_context(fake_worker(short_folder, WORKER_ID=worker_id))
    eventually(
        lambda: len(server.client.get("/health").json()["workers"]) == 2, "one worker is missing"
    )

    lengths = [SAMPLES + 160 * number for number in range(40)]  # more than one engine takes
    answers = in_background(stack, server, lengths)

    assert [answer.result().json()["text"] for answer in answers] == [str(n) for n in lengths]
    states = [worker["state"] for worker in server.client.get("/health").json()["workers"]]
    assert states == ["ready", "ready"]


def free_port_pair() -> int:
    """A port that is free together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
