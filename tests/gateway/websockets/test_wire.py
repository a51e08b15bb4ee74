import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.websockets import wire
from gateway.websockets.inbox import PAUSE_ABOVE
from gateway.websockets.socket import ClientSocket
from gateway.websockets.wire import MAX_MESSAGE_BYTES, Wire
from tests.gateway.harness import DEADLINE, RunningServer
from tests.gateway.websockets.servers import (
    RawClient,
    client_of,
    live_server,
    masked,
    raw_client_of,
)


class Seen:
    """A session that takes messages only when the test lets it, and remembers them."""

    def __init__(self, *, may_take: bool = True) -> None:
        self.messages: list[str | bytes] = []
        self.taken_bytes = 0
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.may_take = asyncio.Event()
        if may_take:
            self.may_take.set()

    async def __call__(self, socket: ClientSocket) -> None:
        self.began.set()
        try:
            await self.may_take.wait()
            while (message := await socket.receive()) is not None:
                self.messages.append(message)
                self.taken_bytes += len(message)
                if isinstance(message, str):
                    self._texts.put_nowait(message)
        finally:
            self.ended.set()

    async def message(self, text: str) -> None:
        """Wait for the next text, which must be this one."""
        assert await asyncio.wait_for(self._texts.get(), DEADLINE) == text


def when_paused(open_wire: Wire) -> asyncio.Event:
    """Set when the client is made to wait."""
    paused = asyncio.Event()
    pause = open_wire.inbox._pause

    def note_and_pause() -> None:
        paused.set()
        pause()

    open_wire.inbox._pause = note_and_pause
    return paused


def wires_of(server: RunningServer) -> list[Wire]:
    """The server's open WebSockets."""
    everyone = server.server._connections.connections  # the only way to what a client cannot see
    return [each for each in everyone if isinstance(each, Wire)]


@contextlib.asynccontextmanager
async def seen_client(folder: Path, seen: Seen) -> AsyncIterator[tuple[RunningServer, RawClient]]:
    async with live_server(folder, seen) as server, raw_client_of(server) as client:
        await seen.began.wait()
        yield server, client
        seen.may_take.set()


async def test_fragments_reach_the_session_as_one_message(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, client_of(server) as client:
        await client.send(["one ", "two ", "three"])

        assert await client.recv() == "one two three"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(0x81, b"\xff"), 1007),
        (masked(0x83, b""), 1002),
        (b"\x81\x01a", 1002),
        (b"\x82\xff" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big") + b"mask", 1009),
    ],
)
async def test_broken_rule_closes_with_its_code_after_what_came_before(
    tmp_path: Path, frame: bytes, code: int
) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (_, client):
        client.writer.write(masked(0x81, b"before") + frame + bytes(100_000))

        assert await client.close_code() == code
        await seen.ended.wait()
        assert seen.messages == ["before"]


async def test_message_of_21_mib_is_taken(tmp_path: Path) -> None:
    seen = Seen()
    async with live_server(tmp_path, seen) as server, client_of(server) as client:
        await client.send(bytes(MAX_MESSAGE_BYTES))
        await client.close()
        await seen.ended.wait()

        assert [len(message) for message in seen.messages] == [MAX_MESSAGE_BYTES]
        assert server.server._connections.held_bytes == 0


async def test_who_holds_much_is_closed_when_all_together_hold_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_HELD_BYTES", 1_500_000)
    half_a_message = masked(0x82, bytes(2_000_000))[:1_000_000]

    async with live_server(tmp_path) as server, client_of(server) as small:
        async with raw_client_of(server) as first, raw_client_of(server) as second:
            first.writer.write(half_a_message)
            await first.writer.drain()
            await small.send("after the first")
            assert await small.recv() == "after the first"
            second.writer.write(half_a_message)

            code = asyncio.ensure_future(second.close_code())
            other = asyncio.ensure_future(first.close_code())
            await asyncio.wait((code, other), return_when=asyncio.FIRST_COMPLETED)
            closed = code if code.done() else other
            assert closed.result() == 1013
            await small.send("unhurt")
            assert await small.recv() == "unhurt"
            assert server.server._connections.held_bytes <= 1_500_000
            code.cancel()
            other.cancel()
    assert server.server._connections.held_bytes == 0


async def test_pings_are_answered_while_the_session_is_busy(tmp_path: Path) -> None:
    seen = Seen(may_take=False)
    async with seen_client(tmp_path, seen) as (_, client):
        client.writer.write(masked(0x82, bytes(PAUSE_ABOVE // 2)))
        client.send(0x89, b"there?")

        assert await client.frame() == (0x8A, b"there?")


async def test_flood_of_pings_is_answered_by_the_latest_where_nobody_reads(
    tmp_path: Path,
) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (server, client):
        (open_wire,) = wires_of(server)
        pings = b"".join(masked(0x89, b"%0125d" % number) for number in range(100))
        for _ in range(2000):
            client.writer.write(pings)
            await client.writer.drain()
        client.send(0x89, b"last")
        client.send(0x81, b"mark")

        assert open_wire.transport.get_write_buffer_size() <= 200
        answers = [await client.frame()]
        while answers[-1][1] != b"last":
            answers.append(await client.frame())
        assert {first for first, _ in answers} == {0x8A}
        assert seen.messages == ["mark"]


async def test_flood_waits_in_tcp_and_none_of_it_is_lost(tmp_path: Path) -> None:
    seen = Seen(may_take=False)
    packet = masked(0x82, bytes(160))
    total = 200_000  # 32 MB: 200 times real time of 16 kHz PCM16 for five seconds
    async with seen_client(tmp_path, seen) as (server, client):
        (open_wire,) = wires_of(server)

        paused = when_paused(open_wire)

        async def flood() -> None:
            for _ in range(total // 100):
                client.writer.write(packet * 100)
                await client.writer.drain()

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(flood())
            await paused.wait()
            assert not sending.done()
            assert open_wire.inbox.held_bytes < 2 * PAUSE_ABOVE
            seen.may_take.set()
        client.send(0x88, b"\x03\xe8")
        assert await client.close_code() == 1000
        await seen.ended.wait()

        assert seen.taken_bytes == total * 160


async def test_reset_is_a_close_after_the_words_before_it(tmp_path: Path) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (server, client):
        client.send(0x81, b"last words")
        await seen.message("last words")
        connected: socket.socket = client.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await asyncio.wait_for(seen.ended.wait(), DEADLINE)

        assert seen.messages == ["last words"]
        assert wires_of(server) == []


async def test_end_of_the_stream_is_a_close(tmp_path: Path) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (_, client):
        client.writer.write(masked(0x81, b"words") + masked(0x81, b"half")[:-2])
        client.writer.write_eof()
        await seen.ended.wait()

        assert seen.messages == ["words"]
        assert await client.reader.read() == b""


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0b\xb8why"])
async def test_close_is_answered_and_the_connection_ended(tmp_path: Path, payload: bytes) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (_, client):
        client.send(0x88, payload)

        first, answered = await client.frame()
        assert (first, answered) == (0x88, payload[:2])
        assert await client.reader.read() == b""
        await seen.ended.wait()


async def test_client_that_gives_no_sign_of_life_after_a_ping_is_ended(tmp_path: Path) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (server, client):
        (open_wire,) = wires_of(server)
        open_wire.on_ping_interval()
        assert await client.frame() == (0x89, b"")
        open_wire.on_ping_interval()
        await seen.ended.wait()

        assert await client.close_code() == 1011
        assert wires_of(server) == []


@pytest.mark.parametrize("sign", [masked(0x8A), masked(0x82, b"audio")])
async def test_pong_or_any_other_byte_is_a_sign_of_life(tmp_path: Path, sign: bytes) -> None:
    seen = Seen()
    async with seen_client(tmp_path, seen) as (server, client):
        (open_wire,) = wires_of(server)
        for _ in range(3):
            open_wire.on_ping_interval()
            assert await client.frame() == (0x89, b"")
            client.writer.write(sign + masked(0x81, b"mark"))
            await seen.message("mark")

        assert not open_wire.is_closing


async def test_reading_what_waits_is_a_sign_of_life(tmp_path: Path) -> None:
    written = asyncio.Event()

    async def speak(socket: ClientSocket) -> None:
        socket.send("x" * 20_000_000)  # more than the kernel's buffers take
        await asyncio.sleep(0)
        written.set()
        await socket.receive()

    async with live_server(tmp_path, speak) as server, raw_client_of(server) as client:
        await written.wait()
        (open_wire,) = wires_of(server)
        for _ in range(3):
            open_wire.on_ping_interval()
            waiting = open_wire.transport.get_write_buffer_size()
            while open_wire.transport.get_write_buffer_size() == waiting:
                await client.reader.readexactly(100_000)
            assert 0 < open_wire.transport.get_write_buffer_size() < waiting
        open_wire.on_ping_interval()

        assert not open_wire.is_closing
        client.writer.transport.abort()


async def test_client_that_must_wait_is_not_taken_for_dead(tmp_path: Path) -> None:
    seen = Seen(may_take=False)
    async with seen_client(tmp_path, seen) as (server, client):
        (open_wire,) = wires_of(server)
        paused = when_paused(open_wire)
        client.writer.write(masked(0x82, bytes(PAUSE_ABOVE + 1)) + masked(0x81, b"behind"))
        await paused.wait()
        for _ in range(3):
            open_wire.on_ping_interval()

        assert not open_wire.is_closing
        seen.may_take.set()
        await seen.message("behind")


async def test_client_that_answers_no_close_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_TIMEOUT", 0.05)

    async def leave(socket: ClientSocket) -> None:
        socket.close(1000, "done")

    async with live_server(tmp_path, leave) as server, raw_client_of(server) as client:
        first, payload = await client.frame()

        assert (first, payload) == (0x88, b"\x03\xe8done")
        assert await client.reader.read() == b""


async def test_close_of_a_client_that_was_made_to_wait_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_TIMEOUT", 1e6)
    may_leave = asyncio.Event()

    async def leave(socket: ClientSocket) -> None:
        await may_leave.wait()

    async with live_server(tmp_path, leave) as server, raw_client_of(server) as client:
        (open_wire,) = wires_of(server)
        paused = when_paused(open_wire)
        client.writer.write(masked(0x82, bytes(PAUSE_ABOVE + 1)) + masked(0x82, bytes(PAUSE_ABOVE)))
        await paused.wait()
        may_leave.set()

        assert await client.close_code() == 1000
        await asyncio.wait_for(server.server._connections.all_closed.wait(), DEADLINE)


async def test_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        for _ in range(1000):
            async with raw_client_of(server) as client:
                client.send(0x81, b"words")
                assert await client.frame() == (0x81, b"words")
        await server.server._connections.all_closed.wait()
        if server.server.requests_in_flight:
            await asyncio.wait(server.server.requests_in_flight)

        assert wires_of(server) == []
        assert server.server._connections.held_bytes == 0
