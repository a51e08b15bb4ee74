"""The real app behind the real HTTP server in the test's own loop; tests speak to it in bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from gateway.app import all_routes, build_overloaded_app, guarded, live_routes
from gateway.context import Gateway
from gateway.dialects import DIALECTS
from gateway.server import HttpServer
from gateway.settings import Settings
from gateway.spool import Spool
from tests.fakes import FakeWorkerClient

GATEWAY_ID = "0123456789abcdef"
DEADLINE = 20.0
"""Seconds after which a test that waits for something has failed."""


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]


@dataclass
class RunningServer:
    """One server under test."""

    port: int
    gateway: Gateway
    server: HttpServer
    client: FakeWorkerClient

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def spool_files(self) -> list[Path]:
        return [path for path in self.gateway.spool.folder.rglob("*") if path.is_file()]

    async def send(self, *pieces: bytes, end: bool = False) -> Answer:
        """Send bytes over a connection of their own; the first answer to them."""
        async with self.connection() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end:
                writer.write_eof()
            return await read_answer(reader)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send(request("GET", path, headers=headers))

    async def upload(self, *parts: bytes, path: str = "/v1/audio/transcriptions") -> Answer:
        return await self.send(upload_request(*parts, path=path))

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                yield reader, writer
            finally:
                writer.close()


@asynccontextmanager
async def running_server(
    folder: Path,
    client: FakeWorkerClient | None = None,
    *,
    routes: Sequence[BaseRoute] = (),
    **settings: Any,
) -> AsyncIterator[RunningServer]:
    """The app and its server, ended in the end as at SIGTERM; with `routes` of the test's own."""
    chosen = Settings(**{"port": 0, "data_dir": folder, "model_id": "embedded", **settings})
    client = client or FakeWorkerClient()
    spool = Spool(folder / "spool", GATEWAY_ID)
    spool.open()
    gateway = Gateway(chosen, client, spool)
    app = guarded(gateway, [*all_routes(gateway), *live_routes(gateway, DIALECTS), *routes])
    server = HttpServer(app, chosen, overloaded=build_overloaded_app(gateway))
    await server.start()
    try:
        yield RunningServer(server.port, gateway, server, client)
    finally:
        client.gate.set()
        await server.abort()
        await gateway.outbound.aclose()


def request(
    method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """An HTTP/1.1 request as bytes; underscores in header names become hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def file_part(content: bytes = b"RIFF", name: str = "file", filename: str = "a.wav") -> bytes:
    """A file part as the official Python client sends one."""
    return (
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        "Content-Type: audio/x-wav\r\n\r\n"
    ).encode() + content


def field_part(name: str, value: str) -> bytes:
    """A text field."""
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def multipart_body(*parts: bytes, boundary: str = "b") -> bytes:
    """Parts with boundaries between and around them."""
    edge = f"--{boundary}".encode()
    return b"".join(edge + b"\r\n" + part + b"\r\n" for part in parts) + edge + b"--\r\n"


def upload_request(
    *parts: bytes,
    path: str = "/v1/audio/transcriptions",
    content_type: str = "multipart/form-data; boundary=b",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole POST of these parts."""
    fields = {"Content-Type": content_type, **(headers or {})}
    return request("POST", path, headers=fields, body=multipart_body(*parts))


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """One whole response; interim ones are skipped."""
    answer = await read_head(reader)
    if not has_body:
        return answer
    if "chunked" in answer.headers.get("transfer-encoding", ""):
        return replace(answer, body=b"".join([piece async for piece in read_pieces(reader)]))
    length = int(answer.headers.get("content-length", "0"))
    return replace(answer, body=await reader.readexactly(length))


async def read_head(reader: asyncio.StreamReader) -> Answer:
    """Status and headers of the next response that is no interim one."""
    status_line = await reader.readline()
    if not status_line:
        raise ConnectionResetError("the connection closed without an answer")
    status = int(status_line.split()[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return await read_head(reader) if status < 200 else Answer(status, headers, b"")


async def read_pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a chunked body, each as soon as it is there.

    Raises asyncio.IncompleteReadError where the connection ends before the body.
    """
    while length := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(length + 2))[:-2]
    await reader.readuntil(b"\r\n")


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the peer closes; whether it did so without sending more."""
    return await reader.read() == b""
