"""A small web server on loopback, of real sockets, that answers by script: a language model's."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer to send."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Received], Reply | Awaitable[Reply]]


@dataclass
class WebServer:
    """What a test sees of it."""

    port: int
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closes its connection."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def web_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebServer]:
    """A server that answers every request by `handler`, until the context ends."""
    shown = WebServer(0, "https" if tls else "http")
    writers: set[asyncio.StreamWriter] = set()
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            while (request := await _read(reader)) is not None:
                shown.received.append(request)
                shown.arrived.set()
                if not await _reply(handler, request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            shown.was_left.set()
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    shown.port = server.sockets[0].getsockname()[1]
    try:
        yield shown
    finally:
        server.close()
        for writer in list(writers):
            writer.close()
        await asyncio.gather(*conversations, return_exceptions=True)
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    line = (await reader.readline()).split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while field_line := (await reader.readline()).strip():
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(line[0].decode(), line[1].decode(), headers, body)


async def _reply(
    handler: Handler,
    request: Received,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Whether there was one before the client left."""
    outcome = handler(request)
    if not isinstance(outcome, Reply):
        async with asyncio.TaskGroup() as tasks:
            thinking = tasks.create_task(_waited(outcome))
            leaving = tasks.create_task(reader.read(1))
            await asyncio.wait((thinking, leaving), return_when=asyncio.FIRST_COMPLETED)
            thinking.cancel()
            leaving.cancel()
        if thinking.cancelled():
            return False
        outcome = thinking.result()
    headers = {"content-length": str(len(outcome.body)), **outcome.headers}
    lines = [f"HTTP/1.1 {outcome.status} ", *(f"{name}: {headers[name]}" for name in headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode() + outcome.body)
    await writer.drain()
    return True


async def _waited(reply: Awaitable[Reply]) -> Reply:
    return await reply


def chat_reply(content: str | None) -> Reply:
    """An answer as chat completions give it."""
    message = {"role": "assistant", "content": content}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    return Reply(body=json.dumps(body).encode(), headers={"content-type": "application/json"})


def asked_lines(request: Received) -> dict[int, str]:
    """The numbered lines that a request to the language model asks for."""
    lines = json.loads(request.json["messages"][1]["content"])["translate"]
    return {line["number"]: line["text"] for line in lines}


def translations(lines: Mapping[int, str]) -> str:
    """The content of a right answer."""
    listed = [{"number": number, "text": text} for number, text in lines.items()]
    return json.dumps({"translations": listed})


def shouting_model(request: Received) -> Reply:
    """A language model that translates by capital letters."""
    return chat_reply(
        translations({number: text.upper() for number, text in asked_lines(request).items()})
    )
