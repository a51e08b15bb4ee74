import asyncio
from pathlib import Path

import pytest

from tests.fakes import FakeWorkerClient
from tests.gateway.harness import (
    file_part,
    is_closed,
    read_answer,
    request,
    running_server,
    upload_request,
)


async def test_request_in_flight_is_answered_before_the_server_ends(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async def let_it_finish() -> None:
        client.gate.set()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        server.gateway.is_draining = True
        await server.server.finish(let_it_finish())

        assert (await read_answer(reader)).status == 200
        assert await is_closed(reader)


async def test_probes_are_answered_while_work_is_finished(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server:
        seen: list[int] = []

        async def look_around() -> None:
            for path in ("/livez", "/readyz"):
                seen.append((await server.get(path)).status)
            seen.append((await server.upload(file_part())).status)

        server.gateway.is_draining = True
        await server.server.finish(look_around())

    assert seen == [200, 503, 503]


async def test_request_that_does_not_finish_is_told_so(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        await server.server.abort()

        answer = await read_answer(reader)
        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        assert client.cancelled == [client.requests[0].request_id]
        assert server.spool_files == []


async def test_idle_connections_close_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("GET", "/livez"))
        await read_answer(reader)
        gate = asyncio.Event()

        async def wait_for_close() -> None:
            assert await is_closed(reader)
            gate.set()

        await server.server.finish(wait_for_close())
        assert gate.is_set()


async def test_ended_server_takes_no_more_connections(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.server.abort()

        with pytest.raises(ConnectionRefusedError):
            await server.get("/livez")


async def test_answers_are_dated(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/livez")

    assert answer.headers["date"].endswith(" GMT")
    assert "server" not in answer.headers
