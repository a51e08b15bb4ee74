"""A client of /v1/realtime over a plain WebSocket, and the ways audio is written for it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.speech import SAMPLE_RATE, Samples
from tests.together.processes import DEADLINE, Server

TRANSCRIPTION = "conversation.item.input_audio_transcription"
SILENCE_MS = 300
"""Behind the last speech before a commit: more than a commit needs."""

Event = dict[str, Any]


class RealtimeClient:
    """One session. `events` has all that came, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    def __repr__(self) -> str:
        return f"<RealtimeClient {len(self.events)} events>"

    async def send(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def configure(self, **audio_input: object) -> Event:
        """Change the session's input and wait until it holds."""
        await self.send("session.update", session=session(**audio_input))
        return await self.until("session.updated")

    async def append(self, audio: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    async def commit(self) -> None:
        await self.send("input_audio_buffer.commit")

    async def receive(self, deadline: float = DEADLINE) -> Event:
        """The next event. Raises ConnectionClosed."""
        async with asyncio.timeout(deadline):
            event: Event = json.loads(await self.socket.recv())
        self.events.append(event)
        return event

    async def until(self, kind: str, deadline: float = DEADLINE) -> Event:
        """The next event of this type; others are kept, and none may be an error."""
        while (event := await self.receive(deadline))["type"] != kind:
            assert event["type"] != "error", event
        return event

    async def completed(self, item_id: str) -> Event:
        """The outcome of an item, whenever it comes or came."""
        while True:
            for event in self.of_type(f"{TRANSCRIPTION}.completed"):
                if event["item_id"] == item_id:
                    return event
            await self.until(f"{TRANSCRIPTION}.completed")

    async def finish(self, silence: bytes) -> None:
        """Wait until all that was appended is answered. `silence`: SILENCE_MS in the session's
        format. A commit ends the turn somebody is known to speak in; the one nobody does came
        behind everything."""
        is_behind_everything = False
        while not is_behind_everything:
            await self.append(silence)
            await self.commit()
            item_id = (await self._committed_by_commit())["item_id"]
            is_behind_everything = item_id not in self.ids("input_audio_buffer.speech_started")
        for item_id in self.ids("input_audio_buffer.committed"):
            await self.completed(item_id)

    async def close_code(self, deadline: float = DEADLINE) -> int | None:
        """Once the server closes; what it still says is kept."""
        try:
            while True:
                await self.receive(deadline)
        except ConnectionClosed:
            return self.socket.close_code

    def of_type(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    def ids(self, kind: str) -> list[str]:
        """Items of all events of a type, in order."""
        return [event["item_id"] for event in self.of_type(kind)]

    def transcripts(self) -> list[Event]:
        """Outcomes with text, in the order of their items."""
        order = {item: place for place, item in enumerate(self.ids("input_audio_buffer.committed"))}
        found = [each for each in self.of_type(f"{TRANSCRIPTION}.completed") if each["transcript"]]
        return sorted(found, key=lambda event: order[event["item_id"]])

    def text(self, channel: int | None = None) -> str:
        """All that was understood, of one channel or of the only one."""
        of_channel = [each for each in self.transcripts() if each.get("channel") == channel]
        return " ".join(event["transcript"] for event in of_channel)

    def contradicted(self) -> int:
        """Items whose deltas are not their transcript."""
        told: dict[str, str] = {}
        for event in self.of_type(f"{TRANSCRIPTION}.delta"):
            told[event["item_id"]] = told.get(event["item_id"], "") + event["delta"]
        return sum(
            told.get(event["item_id"], "") != event["transcript"]
            for event in self.of_type(f"{TRANSCRIPTION}.completed")
        )

    def early(self) -> int:
        """Items of which something was told before they were committed."""
        committed, early = set(), set()
        for event in self.events:
            if event["type"] == "input_audio_buffer.committed":
                committed.add(event["item_id"])
            elif event["type"] == f"{TRANSCRIPTION}.delta" and event["item_id"] not in committed:
                early.add(event["item_id"])
        return len(early)

    async def _committed_by_commit(self) -> Event:
        """Turns that silence ended have a speech_stopped before."""
        while True:
            event = await self.until("input_audio_buffer.committed")
            if event["item_id"] not in self.ids("input_audio_buffer.speech_stopped"):
                return event


@asynccontextmanager
async def realtime(server: Server, **query: object) -> AsyncIterator[RealtimeClient]:
    """A session with its session.created."""
    url = (
        f"ws://127.0.0.1:{server.port}/v1/realtime?{urlencode({'intent': 'transcription'} | query)}"
    )
    # Nobody waits for the server's side of the close where a test is over.
    async with connect(url, proxy=None, max_size=None, close_timeout=0.1) as socket:
        client = RealtimeClient(socket)
        await client.until("session.created")
        yield client


def session(**audio_input: object) -> dict[str, object]:
    """Of a session.update."""
    return {"type": "transcription", "audio": {"input": audio_input}}


def pcm(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """16 kHz samples, (n,) or (n, channels), as 16-bit ones of a rate, interleaved."""
    wanted = samples if rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, rate)
    return bytes(np.round(np.clip(wanted, -1, 1) * 32767).astype("<i2"))


def mulaw(samples: Samples) -> bytes:
    """16 kHz samples as G.711 mu-law at 8 kHz."""
    linear = _narrow(samples)
    magnitude = np.minimum(np.abs(linear), 32635) + 132
    exponent = np.log2(magnitude).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0xF
    sign = np.where(linear < 0, 0x80, 0)
    return bytes((~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8))


def alaw(samples: Samples) -> bytes:
    """16 kHz samples as G.711 A-law at 8 kHz."""
    linear = _narrow(samples)
    magnitude = np.where(linear < 0, ~linear, linear) >> 3  # 13 bits, of which the sign is one
    exponent = np.maximum(np.log2(np.maximum(magnitude, 1)).astype(np.int32) - 4, 0)
    mantissa = np.where(exponent == 0, magnitude >> 1, magnitude >> exponent) & 0xF
    sign = np.where(linear < 0, 0, 0x80)
    return bytes(((sign | exponent << 4 | mantissa) ^ 0x55).astype(np.uint8))


def _narrow(samples: Samples) -> np.ndarray[Any, np.dtype[np.int32]]:
    narrow = soxr.resample(samples, SAMPLE_RATE, 8000)
    linear: np.ndarray[Any, np.dtype[np.int32]] = np.round(np.clip(narrow, -1, 1) * 32767)
    return linear.astype(np.int32)
