"""One connection: what its dialect and its session bring about is told in order."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

from gateway.context import Gateway
from gateway.live.handler import Conversation
from gateway.live.publishing import Leg
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.worker_client import outcomes
from gateway.worker_client.interface import WorkerClient
from gateway.worker_client.live_calls import LiveCall, LiveNews
from tests.gateway.harness import DEADLINE, GATEWAY_ID
from tests.gateway.live.dialects import Frame, appended, realtime


class ScriptedSocket:
    """In place of a ClientSocket: a client that says what it has to, then only listens."""

    def __init__(self, *messages: Frame) -> None:
        self.draining = asyncio.Event()
        self.dropped = 0
        self.told: list[Frame] = []
        self.has_spoken = asyncio.Event()
        self.closed_with: int | None = None
        self._messages = [json.dumps(message) for message in messages]

    async def receive(self) -> str | bytes | None:
        if self._messages:
            return self._messages.pop(0)
        self.has_spoken.set()
        await asyncio.Event().wait()
        return None

    def send(self, text: str, *, may_drop: bool = False) -> bool:
        self.told.append(json.loads(text))
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = self.closed_with or code


class HopelessCall:
    """In place of a LiveCall: no engine comes, and nobody waits for one once the client has
    spoken."""

    engine = None
    attempt = 0
    is_full = False
    wants_reminder = False

    def __init__(self, socket: ScriptedSocket) -> None:
        self._socket = socket

    def send(self, attempt: int, message: object) -> bool:
        return False

    async def news(self) -> AsyncIterator[LiveNews]:
        await self._socket.has_spoken.wait()
        yield outcomes.unavailable("No engine can be started.")


async def conversation(folder: Path, socket: ScriptedSocket, query: str) -> None:
    """One that ends for want of an engine."""
    nobody = cast(WorkerClient, None)  # the call is there already
    gateway = Gateway(Settings(data_dir=folder), nobody, Spool(folder, GATEWAY_ID))
    call = cast(LiveCall, HopelessCall(socket))
    talk = Conversation(gateway, realtime(query), call, Leg("call", "sess_1", None))
    async with asyncio.timeout(DEADLINE):
        await talk.run(socket)


async def test_all_that_one_event_brings_about_is_told_before_the_next(tmp_path: Path) -> None:
    socket = ScriptedSocket(
        {"type": "session.update", "session": {"turn_detection": None}},
        appended(bytes(48_000)),
        {"type": "input_audio_buffer.commit"},
    )
    await conversation(tmp_path, socket, "channels=2")

    told = [(frame["type"].rpartition(".")[2], frame.get("channel")) for frame in socket.told]
    assert told == [
        ("created", None),
        ("updated", None),
        ("committed", 0),
        ("added", 0),
        ("done", 0),
        ("committed", 1),
        ("added", 1),
        ("done", 1),
        ("failed", 0),
        ("failed", 1),
        ("error", None),
    ]
    assert socket.closed_with == 1013
