from pathlib import Path

import pytest

from gateway.routes.health import LIVE_PATHS, OPEN_PATHS, READY_PATHS
from gateway.version import VERSION
from tests.fakes import FakeWorkerClient, client_snapshot
from tests.gateway.harness import read_answer, request, running_server


@pytest.mark.parametrize("path", OPEN_PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_every_probe_is_answered_200_without_waking_anything(
    tmp_path: Path, path: str, method: str
) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request(method, path) + request("GET", "/livez"))
        answer = await read_answer(reader, has_body=method != "HEAD")
        next_answer = await read_answer(reader)

        assert (answer.status, next_answer.status) == (200, 200)
        assert answer.headers["cache-control"] == "no-store"
        assert next_answer.json == {"status": "ok"}
        assert server.client.requests == []


@pytest.mark.parametrize(
    ("states", "reason", "status", "worker"),
    [
        (["ready"], None, 200, "ready"),
        (["stopped"], None, 200, "stopped"),
        (["starting"], None, 200, "starting"),
        (["stopped", "ready"], None, 200, "ready"),
        (["failed"], "the engine failed five times", 503, "failed"),
        ([], "no worker is connected", 503, "absent"),
    ],
)
async def test_ready_means_that_a_request_sent_now_would_be_served(
    tmp_path: Path, states: list[str], reason: str | None, status: int, worker: str
) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot(*states, reason=reason)

    async with running_server(tmp_path, client) as server:
        answers = [await server.get(path) for path in READY_PATHS]
        live = [await server.get(path) for path in LIVE_PATHS]

    for answer in answers:
        assert (answer.status, answer.json["worker"]) == (status, worker)
        assert answer.json.get("reason") == reason
    assert {answer.status for answer in live} == {200}


async def test_probe_may_ask_for_a_loaded_model(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        cold = await server.get("/readyz?require=loaded")
        server.client.state = client_snapshot("ready")
        warm = await server.get("/readyz?require=loaded")

    assert (cold.status, warm.status) == (503, 200)
    assert cold.json["reason"] == "no model is loaded"


async def test_server_that_is_ending_is_alive_but_not_ready(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        server.gateway.is_draining = True
        live, ready = await server.get("/livez"), await server.get("/readyz")

    assert (live.status, ready.status) == (200, 503)
    assert ready.json["reason"] == "the server is shutting down"


async def test_health_has_the_fields_the_predecessors_clients_read(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        cold = (await server.get("/health")).json
        server.client.state = client_snapshot("ready", waiting_requests=3)
        warm = (await server.get("/health")).json

    assert cold["status"] == "ok"
    assert (cold["worker_alive"], cold["model_loaded"]) == (False, False)
    assert (warm["worker_alive"], warm["model_loaded"]) == (True, True)
    assert warm["model_id"] == "embedded"
    assert warm["mode"] == "gateway"
    for field in ("cuda", "gpu_name", "gpu_allocated_mb", "gpu_reserved_mb"):
        assert warm[field] is None
    assert warm["queue"] == 3
    assert warm["version"] == VERSION
    assert warm["workers"][0]["state"] == "ready"


async def test_health_stays_200_and_says_why_where_no_worker_can_serve(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot("failed", reason="the model could not be loaded")

    async with running_server(tmp_path, client) as server:
        answer = await server.get("/health")

    assert answer.status == 200
    assert (answer.json["ready"], answer.json["reason"]) == (False, "the model could not be loaded")


async def test_status_tells_the_version(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert (await server.get("/status")).json == {"status": "ok", "version": VERSION}


async def test_browser_gets_a_page_and_a_program_json(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        page = await server.get("/", Accept="text/html,application/xhtml+xml")
        json = await server.get("/", Accept="*/*")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "digits" in page.body.decode()
    assert json.json["status"] == "ok"


@pytest.mark.parametrize("reason", ["no worker is connected", "the model is gone."])
async def test_page_says_why_in_one_sentence(tmp_path: Path, reason: str) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot("failed", reason=reason)

    async with running_server(tmp_path, client) as server:
        page = await server.get("/", Accept="text/html")

    assert f"It cannot transcribe now: {reason.rstrip('.')}.</p>" in page.body.decode()


async def test_page_shows_names_as_text(tmp_path: Path) -> None:
    async with running_server(tmp_path, model_id="a&b<script>") as server:
        page = await server.get("/", Accept="text/html")

    assert b"a&amp;b&lt;script&gt;" in page.body
    assert b"<script>" not in page.body
