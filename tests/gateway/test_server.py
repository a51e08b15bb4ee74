import asyncio
import socket
from pathlib import Path

import pytest

from tests.fakes import FakeWorkerClient
from tests.gateway.harness import (
    DEADLINE,
    RunningServer,
    file_part,
    is_closed,
    read_answer,
    request,
    running_server,
    upload_request,
)


async def finish(
    server: RunningServer, *, grace: float = DEADLINE, hurry: asyncio.Event | None = None
) -> None:
    """What SIGTERM does."""
    server.gateway.is_draining = True
    await server.server.finish(
        grace, hurry=hurry or asyncio.Event(), end_work=server.client.end_all
    )


async def is_refused(server: RunningServer) -> bool:
    """Whether work that comes now is."""
    answer = await server.upload(file_part())
    return answer.status == 503 and answer.error["code"] == "shutting_down"


async def test_request_in_flight_is_answered_before_the_server_ends(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server))
            assert await is_refused(server)
            client.gate.set()

        assert (await read_answer(reader)).status == 200
        assert await is_closed(reader)
        assert server.client.expected == 0


async def test_probes_are_answered_while_work_is_finished(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (_, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server))
            assert await is_refused(server)
            live, ready = await server.get("/livez"), await server.get("/readyz")
            client.gate.set()

    assert (live.status, ready.status) == (200, 503)


async def test_upload_still_arriving_when_the_server_ends_gets_the_grace_too(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        whole = upload_request(file_part(bytes(100_000)))
        writer.write(whole[:50_000])
        await server.client.was_expecting.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server))
            assert await is_refused(server)
            writer.write(whole[50_000:])

        assert (await read_answer(reader)).status == 200
        assert await is_closed(reader)


async def test_what_is_left_after_the_grace_is_answered_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with (
        running_server(tmp_path, client) as server,
        server.connection() as (working, working_writer),
        server.connection() as (uploading, uploading_writer),
    ):
        working_writer.write(upload_request(file_part()))
        await client.arrived.wait()
        client.was_expecting.clear()
        uploading_writer.write(upload_request(file_part(bytes(1000)))[:-500])
        await client.was_expecting.wait()
        await finish(server, grace=0.0)
        answers = [await read_answer(working), await read_answer(uploading)]

        for answer in answers:
            assert (answer.status, answer.error["code"]) == (503, "shutting_down")
            assert "retry-after" in answer.headers
        assert client.ended
        assert server.spool_files == []
        assert "requests were left unfinished requests=2" in caplog.text


async def test_hurry_ends_the_grace(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()
    hurry = asyncio.Event()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server, grace=1e6, hurry=hurry))
            assert await is_refused(server)
            hurry.set()

        assert (await read_answer(reader)).error["code"] == "shutting_down"


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
    client = FakeWorkerClient()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        client.gate.clear()
        async with server.connection() as (_, working):
            working.write(upload_request(file_part()))
            await client.arrived.wait()
            writer.write(request("GET", "/livez"))
            await read_answer(reader)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(finish(server))
                assert await is_closed(reader)
                client.gate.set()


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


async def test_callers_whose_host_is_gone_are_noticed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("GET", "/livez"))
        await read_answer(reader)
        (connection,) = server.server.connections
        accepted = connection.transport.get_extra_info("socket")

        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
