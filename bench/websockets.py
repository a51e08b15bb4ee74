"""What live connections cost the gateway: memory of idle ones, CPU of telephone packets.

    python -m bench.websockets [--idle 500] [--streams 100] [--seconds 10] [--server uvicorn]

The server runs in a process of its own and answers every 25th packet with a short text, as a call
does that hears partials. Packets are 160 bytes, 50 a second and stream: 20 ms of G.711. CPU is user
and system time of the server's process. `uvicorn` serves the same with uvicorn's own WebSockets and
Starlette's, for comparison.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway_memory import memory_of

PACKET_BYTES = 160
PACKET_SECONDS = 0.02
PACKETS_AN_ANSWER = 25
ANSWER = '{"type": "partial", "text": "one two three four five six seven eight nine"}'
SERVERS = ("gateway", "uvicorn")
MASK = bytes(4)
HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n"
)
PACKET = bytes((0x82, 0xFE)) + PACKET_BYTES.to_bytes(2, "big") + MASK + bytes(PACKET_BYTES)
"""A masked binary frame; the mask is of zeros, which costs a server the same."""


@dataclass(frozen=True)
class Figures:
    """Of one server."""

    bytes_a_connection: float
    """Resident, of idle ones."""
    packets: int
    """That were sent."""
    microseconds_a_packet: float
    cpu_share: float
    """Of one core."""
    late: float
    """Share of packets that the client sent more than 20 ms too late: above a few percent, it was
    the client that was measured."""


@contextmanager
def serving(name: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; gives its process id and port."""
    command = [sys.executable, "-m", "bench.websockets", "--serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def measure(name: str, *, idle: int, streams: int, seconds: float) -> Figures:
    """Both figures of one server."""
    with serving(name) as (process_id, port):
        return asyncio.run(_measure(process_id, port, idle, streams, seconds))


async def _measure(process_id: int, port: int, idle: int, streams: int, seconds: float) -> Figures:
    clients = [await _Client.connect(port)]  # the first loads what all need
    before = memory_of(process_id).resident
    clients += [await _Client.connect(port) for _ in range(idle)]
    each = (memory_of(process_id).resident - before) / idle
    for client in clients[streams:]:
        client.transport.abort()
    spent = _cpu_seconds(process_id)
    started = time.monotonic()
    late = await _speak(clients[:streams], round(seconds / PACKET_SECONDS))
    wall, spent = time.monotonic() - started, _cpu_seconds(process_id) - spent
    packets = streams * round(seconds / PACKET_SECONDS)
    return Figures(each, packets, 1e6 * spent / packets, spent / wall, late)


class _Client(asyncio.Protocol):
    """Speaks and does not listen."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._accepted = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, port: int) -> "_Client":
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port)
        client.transport.write(HANDSHAKE)
        await client._accepted
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._accepted.done():
            assert data.startswith(b"HTTP/1.1 101 "), data
            self._accepted.set_result(None)


async def _speak(clients: Sequence[_Client], rounds: int) -> float:
    """Every client sends a packet each 20 ms, each at its own moment; the share sent late."""
    clock = asyncio.get_running_loop().time
    started, late = clock(), 0
    for number in range(rounds):
        for index, client in enumerate(clients):
            due = started + PACKET_SECONDS * (number + index / len(clients))
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            late += left < -PACKET_SECONDS
            client.transport.write(PACKET)
    return late / (rounds * len(clients))


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve_gateway() -> None:
    """The gateway's server and what wraps its routes, with one route."""
    from gateway.light_imports import leave_out_tls

    leave_out_tls()
    asyncio.run(_serve_gateway())


async def _serve_gateway() -> None:
    from starlette.routing import WebSocketRoute
    from starlette.types import Receive, Scope, Send

    from gateway.app import guarded
    from gateway.context import Gateway
    from gateway.server import HttpServer
    from gateway.settings import Settings
    from gateway.websockets.socket import client_socket

    class Live:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async with client_socket(scope, receive, send) as socket:
                count = 0
                while await socket.receive() is not None:
                    count += 1
                    if count % PACKETS_AN_ANSWER == 0:
                        socket.send(ANSWER, may_drop=True)

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(port=0, data_dir=Path(folder), max_connections=100_000)
        # The route uses neither workers nor the spool.
        gateway = Gateway(settings, None, None)  # type: ignore[arg-type]
        app = guarded(gateway, [WebSocketRoute("/live", Live())])
        server = HttpServer(app, settings, overloaded=app)
        await server.start()
        print(server.port, flush=True)
        await asyncio.Event().wait()


def serve_uvicorn() -> None:
    """What uvicorn and Starlette do by themselves."""
    import socket as sockets

    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        count = 0
        try:
            while True:
                await websocket.receive_bytes()
                count += 1
                if count % PACKETS_AN_ANSWER == 0:
                    await websocket.send_text(ANSWER)
        except WebSocketDisconnect:
            return

    listener = sockets.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/live", live)]),
        http="h11",
        ws="websockets-sansio",
        loop="asyncio",
        ws_per_message_deflate=False,
        log_level="error",
    )
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--server", choices=SERVERS, action="append")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve_gateway() if arguments.serve == "gateway" else serve_uvicorn()
        return 0
    streams, seconds = arguments.streams, arguments.seconds
    print(f"{'':10}{'kB/conn':>9}{'us/packet':>11}{'core %':>8}{'late %':>8}")
    for name in arguments.server or SERVERS:
        of = measure(name, idle=max(arguments.idle, streams), streams=streams, seconds=seconds)
        print(
            f"{name:10}{of.bytes_a_connection / 1000:9.1f}"
            f"{of.microseconds_a_packet:11.1f}{100 * of.cpu_share:8.1f}{100 * of.late:8.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
