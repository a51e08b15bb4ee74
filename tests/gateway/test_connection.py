"""Abuse over raw sockets, and the bounds that answer it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.connection import RECEIVE_BYTES
from gateway.routes.health import ALIVE_PATHS, READY_PATHS
from tests.fakes import FakeWorkerClient, chunk_done, final
from tests.gateway.harness import (
    DEADLINE,
    RunningServer,
    file_part,
    is_closed,
    multipart_body,
    read_answer,
    request,
    running_server,
    upload_request,
)


async def test_headers_that_never_end_are_ended(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, header_timeout=0.05) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: loc")
        answer = await read_answer(reader)

        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"
        assert await is_closed(reader)


async def test_connection_that_says_nothing_is_closed_without_a_word(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, header_timeout=0.05) as server,
        server.connection() as (reader, _),
    ):
        assert await is_closed(reader)


async def test_dripping_headers_do_not_buy_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, header_timeout=0.05) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(b"GET /livez HTTP/1.1\r\n")
        answering = asyncio.ensure_future(read_answer(reader))
        while not answering.done():
            writer.write(b"a: b\r\n")
            await asyncio.wait((answering,), timeout=0.005)

        assert (await answering).status == 408


async def test_second_request_on_a_connection_has_the_same_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, header_timeout=0.2) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(request("GET", "/livez"))
        assert (await read_answer(reader)).status == 200
        writer.write(b"GET /livez HTTP/1.1\r\nHost: loc")

        assert (await read_answer(reader)).status == 408


async def test_quiet_connection_between_requests_is_kept_for_its_own_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, keep_alive_timeout=0.05) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(request("GET", "/livez"))
        await read_answer(reader)

        assert await is_closed(reader)


async def test_long_work_is_not_taken_for_a_stalled_client(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with (
        running_server(
            tmp_path, client, header_timeout=0.05, body_timeout=0.05, keep_alive_timeout=0.05
        ) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        asyncio.get_running_loop().call_later(0.3, client.gate.set)

        assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize(
    "head",
    [
        request("GET", "/livez", headers={"A": "x" * 100_000}),
        request("GET", "/livez?" + "x" * 100_000),
        b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    ],
)
async def test_huge_heads_are_refused_by_their_size(tmp_path: Path, head: bytes) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(head)

    assert answer.status == 431
    assert answer.error["code"] == "headers_too_large"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_the_envelope_and_a_close(
    tmp_path: Path, nonsense: bytes
) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(nonsense)
        answer = await read_answer(reader)

        assert answer.status in (400, 501)
        assert answer.error["code"] == "invalid_http"
        assert await is_closed(reader)


async def test_broken_framing_in_a_body_leaves_no_file(tmp_path: Path) -> None:
    head = request(
        "POST",
        "/v1/audio/transcriptions",
        headers={
            "Content-Type": "multipart/form-data; boundary=b",
            "Transfer-Encoding": "chunked",
        },
    )
    body = multipart_body(file_part(bytes(5000)))[:1000]

    async with running_server(tmp_path) as server:
        answer = await server.send(head + b"3e8\r\n" + body + b"\r\n", b"nonsense\r\n")
        await asyncio.gather(*server.server.requests_in_flight)

        assert answer.status == 400
        assert server.spool_files == []


async def test_http_1_0_probe_without_host_is_answered(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(b"OPTIONS / HTTP/1.0\r\n\r\n")
        answer = await read_answer(reader)

        assert answer.status == 200
        assert await is_closed(reader)


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(
            request("GET", "/livez")
            + upload_request(file_part(bytes(200_000)))
            + request("GET", "/nowhere")
        )

        assert [(await read_answer(reader)).status for _ in range(3)] == [200, 200, 404]


async def test_upgrade_nobody_offers_is_answered_as_a_plain_request(tmp_path: Path) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "h2c"}

    async with running_server(tmp_path) as server:
        known = await server.send(request("GET", "/livez", headers=headers))
        unknown = await server.send(request("GET", "/v1/realtime", headers=headers))

    assert (known.status, unknown.status) == (200, 426)
    assert unknown.headers["upgrade"] == "websocket"


async def test_connections_beyond_the_limit_are_told_and_later_ones_served(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_connections=1) as server:
        async with server.connection() as (reader, writer):
            writer.write(request("GET", "/livez"))
            await read_answer(reader)
            refused = await server.get("/v1/models")
            writer.write(request("GET", "/v1/models"))
            served = await read_answer(reader)

        assert (refused.status, served.status) == (503, 200)
        assert refused.error["code"] == "queue_full"
        assert "retry-after" in refused.headers


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/v1/models", 503)])
async def test_connection_beyond_the_limit_is_closed_with_its_first_answer(
    tmp_path: Path, path: str, status: int
) -> None:
    async with running_server(tmp_path, max_connections=1) as server:
        async with server.connection() as (kept, keeper):
            keeper.write(request("GET", "/livez"))
            await read_answer(kept)
            async with server.connection() as (reader, writer):
                writer.write(request("GET", path) + request("GET", path))
                answer = await read_answer(reader)

                assert (answer.status, answer.headers["connection"]) == (status, "close")
                assert await is_closed(reader)


async def test_probes_are_answered_beyond_the_limit_and_the_server_is_not_ready(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, max_connections=1) as server, server.connection() as first:
        first[1].write(request("GET", "/livez"))
        await read_answer(first[0])
        alive = [(await server.get(path)).status for path in ALIVE_PATHS]
        ready = [(await server.get(path)).status for path in READY_PATHS]
        posted = await server.send(request("POST", "/livez"))

    assert set(alive) == {200}
    assert set(ready) == {503}
    assert posted.status == 405


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_answer_that_nobody_reads_is_dropped_with_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setattr("gateway.connection.UNREAD_TIMEOUT", 0.05)

    async with large_answer(tmp_path, connection) as (server, _):
        await asyncio.gather(*server.server.requests_in_flight)
        while server.server.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_client_that_reads_slowly_keeps_its_connection_as_long_as_it_reads(
    tmp_path: Path,
) -> None:
    async with large_answer(tmp_path, "close") as (server, client):
        loop = asyncio.get_running_loop()
        (connection,) = server.server.connections
        while not connection.transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # until the answer fills what the client does not read
        size = connection.transport.get_write_buffer_size()
        while connection.transport.get_write_buffer_size() == size:
            await loop.sock_recv(client, 65_536)
        connection.check_unread()
        assert server.server.connections

        connection.check_unread()
        await asyncio.sleep(0)
        assert not server.server.connections


@asynccontextmanager
async def large_answer(
    folder: Path, connection: str
) -> AsyncIterator[tuple[RunningServer, socket.socket]]:
    """A server, and a client that was sent 20 MB and has read none of it."""
    worker = FakeWorkerClient(chunk_done("x" * 20_000_000), final())
    async with asyncio.timeout(DEADLINE), running_server(folder, worker) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            question = upload_request(file_part(), headers={"Connection": connection})
            await loop.sock_sendall(client, question)
            await worker.arrived.wait()
            yield server, client


async def test_bytes_nobody_asked_for_yet_stay_in_the_clients_kernel(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        flooding = asyncio.ensure_future(_flood(writer, 100_000_000))
        for _ in range(500):
            await asyncio.sleep(0)

        (connection,) = server.server.connections
        held = len(connection.conn.trailing_data[0]) + len(connection.cycle.body)
        assert held <= 2 * RECEIVE_BYTES
        assert not flooding.done()

        client.gate.set()
        assert [(await read_answer(reader)).status for _ in range(2)] == [200, 405]
        flooding.cancel()


async def _flood(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // 65_536):
        writer.write(bytes(65_536))
        await writer.drain()
