"""A server with live routes of the tests' own, and the ways to speak to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.websockets.frames import unmasked
from gateway.websockets.socket import ClientSocket, client_socket
from tests.gateway.harness import DEADLINE, Answer, RunningServer, request, running_server

KEY = "AQIDBAUGBwgJCgsMDQ4PEA=="
MASK = b"\x01\x02\x03\x04"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": KEY,
}
Session = Callable[[ClientSocket], Awaitable[None]]
"""What a test's server does with a socket."""


async def echo(socket: ClientSocket) -> None:
    """Send back every text, and of every other message its length."""
    while (message := await socket.receive()) is not None:
        socket.send(message if isinstance(message, str) else str(len(message)))


class LiveRoute:
    """A route as the live dialects have them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with client_socket(scope, receive, send) as socket:
            await self._session(socket)


@asynccontextmanager
async def live_server(
    folder: Path, session: Session = echo, **settings: Any
) -> AsyncIterator[RunningServer]:
    """The server with `session` at /live."""
    routes = [WebSocketRoute("/live", LiveRoute(session))]
    async with running_server(folder, routes=routes, **settings) as server:
        yield server


@asynccontextmanager
async def client_of(
    server: RunningServer, path: str = "/live", *subprotocols: str, **options: Any
) -> AsyncIterator[ClientConnection]:
    """A client as programs have it."""
    async with asyncio.timeout(DEADLINE):
        url = f"ws://127.0.0.1:{server.port}{path}"
        named = [Subprotocol(name) for name in subprotocols] or None
        async with connect(url, subprotocols=named, proxy=None, **options) as client:
            yield client


class RawClient:
    """A client that sends and sees bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """Of the next frame, which must be a close; the connection ends after it."""
        first, payload = await self.frame()
        assert first == 0x88, (first, payload)
        self.send(0x88, payload[:2])
        assert await self.reader.read() == b""
        return int.from_bytes(payload[:2], "big")

    def stop_reading(self) -> None:
        """Let what comes wait in the kernel."""
        self._transport.pause_reading()

    def read_on(self) -> None:
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    def send(self, first: int, payload: bytes = b"") -> None:
        self.writer.write(masked(first, payload))


@asynccontextmanager
async def raw_client_of(
    server: RunningServer, path: str = "/live", *, early: bytes = b""
) -> AsyncIterator[RawClient]:
    """One whose handshake is done; `early` is sent with it."""
    async with server.connection() as (reader, writer):
        writer.write(request("GET", path, headers=HANDSHAKE) + early)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield RawClient(reader, writer)


async def refusal_of(server: RunningServer, path: str = "/live", **headers: str) -> Answer:
    """The answer to a handshake that is refused."""
    return await server.send(request("GET", path, headers={**HANDSHAKE, **headers}))


def masked(first: int, payload: bytes = b"") -> bytes:
    """A frame as clients send them."""
    if len(payload) < 126:
        length = bytes((0x80 | len(payload),))
    elif len(payload) < 1 << 16:
        length = b"\xfe" + len(payload).to_bytes(2, "big")
    else:
        length = b"\xff" + len(payload).to_bytes(8, "big")
    return bytes((first,)) + length + MASK + unmasked(payload, MASK)


def code_of(answer: Answer) -> str:
    """Of OpenAI's envelope."""
    code: str = json.loads(answer.body)["error"]["code"]
    return code
