"""Clients of /ws/transcribe in a process of their own: packets out in time, what comes back noted.

Started by bench/live_streams.py, which sends a plan as one line of JSON, reads `connected`, sends
the moment at which to begin, and reads what was noted as one line of JSON. Imports little, so that
it stays small beside what it measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0
"""Seconds after the last packet in which its text must come."""
SLACK_MS = 250
"""The end of what a flush answers, before the end of what was sent: what resampling holds back."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One stream."""

    url: str
    path: str
    """File with its bytes."""
    packet_bytes: int
    packet_seconds: float
    """Of audio; sent `pace` times faster."""
    pace: float = 1.0
    delay: float = 0.0
    """Seconds after the common beginning."""


@dataclass(slots=True)
class Log:
    """What was noted of one stream. Moments are of time.monotonic."""

    packet_seconds: float
    sent: list[float] = field(default_factory=list)
    """When each packet was handed over."""
    late: int = 0
    """Packets that were handed over more than 20 ms too late."""
    received: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    is_answered: bool = False
    """Whether the text of the last packet came."""
    closed: str | None = None
    """Why the server closed before."""


class Stream:
    """One connection."""

    def __init__(self, socket: ClientConnection, plan: Plan) -> None:
        self._socket = socket
        self._plan = plan
        self._content = Path(plan.path).read_bytes()
        self.log = Log(plan.packet_seconds)

    async def run(self, begin: float) -> None:
        """Send all of it from that moment on; returns when it is answered, or gives up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                receiver = tasks.create_task(self._receive())
                await self._send(begin + self._plan.delay)
                await self._socket.send('{"action": "flush"}')
                await asyncio.wait([receiver], timeout=PATIENCE)
                receiver.cancel()
        except* ConnectionClosed as group:
            self.log.closed = str(group.exceptions[0])

    async def _send(self, begin: float) -> None:
        step = self._plan.packet_bytes
        for number, start in enumerate(range(0, len(self._content), step)):
            due = begin + number * self._plan.packet_seconds / self._plan.pace
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)  # the pace is what is measured
            moment = time.monotonic()
            self.log.sent.append(moment)
            self.log.late += moment - due > 0.02
            await self._socket.send(self._content[start : start + step])

    async def _receive(self) -> None:
        packets = len(self._content) // self._plan.packet_bytes
        last = 1000 * packets * self._plan.packet_seconds - SLACK_MS
        async for text in self._socket:
            message = json.loads(text)
            self.log.received.append((time.monotonic(), message))
            if message.get("is_final") and message.get("end_ms", 0) >= last:
                self.log.is_answered = True
                return


async def run(plans: Sequence[Plan]) -> None:
    """All streams; talks over standard input and output."""
    async with asyncio.TaskGroup() as tasks:
        connecting = [tasks.create_task(_connected(plan)) for plan in plans]
    sockets = [task.result() for task in connecting]
    streams = [Stream(socket, plan) for socket, plan in zip(sockets, plans, strict=True)]
    print("connected", flush=True)
    begin = float(await asyncio.to_thread(sys.stdin.readline))
    async with asyncio.TaskGroup() as tasks:
        for stream in streams:
            tasks.create_task(stream.run(begin))
    print(json.dumps([asdict(stream.log) for stream in streams]), flush=True)
    for socket in sockets:
        await socket.close()


async def _connected(plan: Plan) -> ClientConnection:
    # max_queue None: everything is read as it comes.
    return await connect(
        plan.url, compression=None, proxy=None, max_queue=None, open_timeout=60, close_timeout=1
    )


def main() -> None:
    """See the module."""
    plans = [Plan(**each) for each in json.loads(sys.stdin.readline())]
    asyncio.run(run(plans))


if __name__ == "__main__":
    main()
