import asyncio
import json
import socket as socket_library
from pathlib import Path

import pytest

from gateway.errors import Unavailable
from gateway.websockets import socket as socket_module
from gateway.websockets.socket import CLOSE_ABOVE, DROP_ABOVE, ClientSocket
from tests.gateway.harness import DEADLINE, RunningServer
from tests.gateway.websockets.servers import (
    client_of,
    live_server,
    masked,
    raw_client_of,
    refusal_of,
)

PIECE = "x" * 4096
KERNEL_BYTES = 64 * 1024 * 1024
"""More than any socket's buffers take from a sender whose peer does not read."""


async def finish(server: RunningServer, grace: float = DEADLINE) -> None:
    """What SIGTERM does."""
    server.gateway.is_draining = True
    await server.server.finish(grace, hurry=asyncio.Event(), end_work=server.client.end_all)


async def test_messages_arrive_in_their_order_and_then_the_close(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        for number in range(100):
            assert socket.send(str(number), may_drop=number % 2 == 0)
        socket.close(4000, "é" * 100)
        assert not socket.send("too late")

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        heard = [await client.recv() for _ in range(100)]
        await client.wait_closed()

    assert heard == [str(number) for number in range(100)]
    assert (client.close_code, client.close_reason) == (4000, "é" * 61)


async def test_session_that_ends_closes_with_1000(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        socket.send("all")

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        assert [message async for message in client] == ["all"]

    assert client.close_code == 1000


async def test_what_a_session_raises_is_told_after_its_words(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        socket.send("words")
        raise Unavailable("The engine ended.")

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        assert await client.recv() == "words"
        await client.wait_closed()

    assert (client.close_code, client.close_reason) == (1011, "The engine ended.")


async def test_slow_reader_loses_what_may_be_dropped_and_nothing_else(tmp_path: Path) -> None:
    may_read = asyncio.Event()
    results: list[ClientSocket] = []

    async def speak(socket: ClientSocket) -> None:
        results.append(socket)
        await fill_kernel(socket)
        before = socket.dropped
        assert not socket.send("partial", may_drop=True)
        assert socket.dropped == before + 1
        assert socket.send("final")
        may_read.set()
        assert await socket.receive() == "read all"
        assert socket.send("partial again", may_drop=True)

    async with live_server(tmp_path, speak) as server, raw_client_of(server) as client:
        await may_read.wait()
        heard: list[bytes] = []
        while not heard or heard[-1] != b"final":
            heard.append((await client.frame())[1])
        client.send(0x81, b"read all")

        assert b"partial" not in heard
        assert await client.frame() == (0x81, b"partial again")
        assert await client.close_code() == 1000
        assert results[0].unsent_bytes == 0


async def test_client_too_slow_for_its_finals_is_closed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = asyncio.Event()
    after: list[object] = []

    async def speak(socket: ClientSocket) -> None:
        await fill_kernel(socket)
        while socket.send(PIECE):
            assert socket.unsent_bytes <= CLOSE_ABOVE
        after.extend((socket.is_open, await socket.receive()))
        may_read.set()

    async with live_server(tmp_path, speak) as server, raw_client_of(server) as client:
        client.stop_reading()
        await asyncio.wait_for(may_read.wait(), DEADLINE)
        client.read_on()
        first, payload = await client.frame()
        while first == 0x81:
            first, payload = await client.frame()

        assert after == [False, None]
        assert (first, int.from_bytes(payload[:2], "big")) == (0x88, 1013)
        assert payload[2:].decode() == socket_module.TOO_SLOW


async def test_little_of_what_nobody_reads_waits_where_it_is_not_counted(tmp_path: Path) -> None:
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def speak(socket: ClientSocket) -> None:
        taken.put_nowait(await fill_kernel(socket) - socket.unsent_bytes)

    async with live_server(tmp_path, speak) as server, raw_client_of(server) as client:
        connected = client.writer.get_extra_info("socket")
        room = connected.getsockopt(socket_library.SOL_SOCKET, socket_library.SO_RCVBUF)
        in_kernel = await taken.get()
        client.writer.transport.abort()

    assert in_kernel < 1_000_000, room


async def fill_kernel(socket: ClientSocket) -> int:
    """Send until the client's and the server's buffers are full; how much that took."""
    sent = 0
    while socket.unsent_bytes <= DROP_ABOVE:
        assert sent < KERNEL_BYTES
        socket.send(PIECE)
        sent += len(PIECE)
        # The writer hands on in this loop's next turns what the kernel takes at once.
        for _ in range(3):
            await asyncio.sleep(0)
    return sent


async def test_one_message_larger_than_every_limit_is_sent(tmp_path: Path) -> None:
    large = "x" * (2 * CLOSE_ABOVE)

    async def speak(socket: ClientSocket) -> None:
        assert socket.send(large)

    async with live_server(tmp_path, speak) as server:
        async with client_of(server, max_size=None) as client:
            assert await client.recv() == large


async def test_client_that_never_reads_holds_a_session_up_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "LAST_WORDS_TIMEOUT", 0.05)
    monkeypatch.setattr("gateway.websockets.wire.CLOSE_TIMEOUT", 0.05)
    filled = asyncio.Event()

    async def speak(socket: ClientSocket) -> None:
        await fill_kernel(socket)
        filled.set()

    async with live_server(tmp_path, speak) as server, raw_client_of(server) as client:
        client.stop_reading()
        await filled.wait()
        tasks = server.server.requests_in_flight
        if tasks:
            await asyncio.wait_for(asyncio.wait(tasks), DEADLINE)
        await asyncio.wait_for(server.server._connections.all_closed.wait(), DEADLINE)


async def test_sending_to_a_client_that_left_says_so(tmp_path: Path) -> None:
    outcome = asyncio.Queue[bool]()

    async def speak(socket: ClientSocket) -> None:
        while await socket.receive() is not None:
            pass
        outcome.put_nowait(socket.send("anybody?"))

    async with live_server(tmp_path, speak) as server:
        async with raw_client_of(server) as client:
            client.send(0x81, b"hello")
        assert not await asyncio.wait_for(outcome.get(), DEADLINE)


async def test_draining_server_lets_sessions_say_their_last_words(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        socket.send("ready")
        await socket.draining.wait()
        socket.send(json.dumps({"final": "last words"}))
        socket.close(1001, "The server is shutting down.")

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        assert await client.recv() == "ready"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server))
            assert await client.recv() == '{"final": "last words"}'
            await client.wait_closed()

    assert (client.close_code, client.close_reason) == (1001, "The server is shutting down.")


async def test_socket_stays_open_while_its_session_drains(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        await socket.draining.wait()
        socket.send("draining")
        while (message := await socket.receive()) is not None:
            socket.send(f"still hears {message!r}")
            if message == "enough":
                return

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        async with asyncio.TaskGroup() as tasks:
            await client.send("early")
            tasks.create_task(finish(server))
            assert await client.recv() == "draining"
            assert await client.recv() == "still hears 'early'"
            await client.send("enough")
            assert await client.recv() == "still hears 'enough'"
        await client.wait_closed()

    assert client.close_code == 1000


async def test_handshake_during_the_end_is_refused(tmp_path: Path) -> None:
    async def speak(socket: ClientSocket) -> None:
        await socket.draining.wait()
        await socket.receive()

    async with live_server(tmp_path, speak) as server, client_of(server) as client:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish(server))
            await asyncio.sleep(0)
            answer = await refusal_of(server)
            await client.send("end")

    assert (answer.status, answer.error["code"]) == (503, "shutting_down")
    assert "retry-after" in answer.headers


async def test_session_that_does_not_end_is_closed_after_the_grace(tmp_path: Path) -> None:
    async def hang(socket: ClientSocket) -> None:
        socket.send("ready")
        await asyncio.Event().wait()

    async with live_server(tmp_path, hang) as server, client_of(server) as client:
        assert await client.recv() == "ready"
        await finish(server, grace=0.05)
        await client.wait_closed()

    assert client.close_code == 1001


async def test_idle_session_is_closed_after_the_sockets_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.SOCKET_GRACE", 0.05)

    async with live_server(tmp_path) as server, client_of(server) as client:
        await client.send("x")
        assert await client.recv() == "x"
        await finish(server)
        await client.wait_closed()

    assert client.close_code == 1001


async def test_hang_up_gives_what_was_said_before_it(tmp_path: Path) -> None:
    heard: list[str | bytes | None] = []
    may_read, ended = asyncio.Event(), asyncio.Event()

    async def listen(socket: ClientSocket) -> None:
        await may_read.wait()
        while (message := await socket.receive()) is not None:
            heard.append(message)
        ended.set()

    async with live_server(tmp_path, listen) as server:
        async with raw_client_of(server) as client:
            client.writer.write(masked(0x82, bytes(160)) * 50)
            await client.writer.drain()
            client.writer.write_eof()
            assert await client.reader.read() == b""
        may_read.set()
        await asyncio.wait_for(ended.wait(), DEADLINE)

    assert heard == [bytes(160)] * 50
