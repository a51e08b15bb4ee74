"""A supervisor and an engine on real sockets, played by the test line by line."""

import asyncio
from types import TracebackType
from typing import Self, TypeVar

import zmq
import zmq.asyncio

from protocol import codec, sockets
from protocol.control import (
    EngineState,
    EngineStatus,
    Heartbeat,
    Introduce,
    SupervisorHello,
    Welcome,
)
from protocol.transcription import ChunkDone, Final, Hello, Transcribe

DEADLINE = 10.0
"""Seconds after which an expected message is missing."""

Message = TypeVar("Message")


class FakePeer:
    """One DEALER; heartbeats go out until `fall_silent`."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = sockets.connect_dealer(self._context, self._address, None)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._beats = self._tasks.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._beats.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._socket.close()
        self._context.term()

    def fall_silent(self) -> None:
        self._beats.cancel()

    async def until_silent(self) -> None:
        """Wait until the gateway has given this peer up: it heartbeats known peers only."""
        try:
            while True:
                async with asyncio.timeout(2.5):
                    await self._socket.recv()  # type: ignore[misc]
        except TimeoutError:
            pass

    async def send(self, message: object) -> None:
        await self._socket.send(codec.encode(message))  # type: ignore[misc]

    async def send_raw(self, *frames: bytes) -> None:
        await self._socket.send_multipart(frames)  # type: ignore[misc]

    async def receive(self, kind: type[Message] | tuple[type[Message], ...]) -> Message:
        """The next message of that type (or of one of those); others are passed over."""
        async with asyncio.timeout(DEADLINE):
            while True:
                message = codec.decode(await self._socket.recv())  # type: ignore[arg-type,misc]
                if isinstance(message, kind):
                    return message

    async def _beat(self) -> None:
        while True:
            await self.send(Heartbeat())
            await asyncio.sleep(0.3)


class FakeSupervisor(FakePeer):
    """Says hello and reports what the test tells it."""

    instance = "first"

    async def join(self, worker_id: str = "one", model_id: str = "model") -> None:
        await self.receive(Introduce)
        await self.send(SupervisorHello(worker_id, self.instance, model_id))
        await self.receive(Welcome)

    async def report(
        self,
        state: EngineState,
        epoch: int = 1,
        failure: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        await self.send(EngineStatus(state, epoch, "", 0, None, failure, retry_after, None))


class FakeEngine(FakePeer):
    """Says hello and answers what the test tells it."""

    introduction: Introduce

    async def join(self, worker_id: str = "one", epoch: int = 1, capacity: int = 2) -> None:
        self.introduction = await self.receive(Introduce)
        await self.send(Hello(worker_id, epoch, "model", capacity, True))
        await self.receive(Welcome)

    async def finish_chunk(self, opened: Transcribe, index: int, text: str) -> None:
        await self.send(
            ChunkDone(
                opened.request_id,
                opened.attempt,
                index,
                index * 100,
                index * 100 + 100,
                "English",
                text,
                30,
                20,
                4,
            )
        )

    async def finish(self, opened: Transcribe, chunks: int = 1) -> None:
        await self.send(Final(opened.request_id, opened.attempt, chunks, 12.5))
