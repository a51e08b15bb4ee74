"""Runs in an environment with livekit-plugins-openai: see drivers.py.

A call's file has 16-bit samples of the rate in its fields; they are pushed in frames of 20 ms, as
from a room, and events are awaited until finals have so many words.
"""

import asyncio
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import APIConnectOptions, APIError
from livekit.agents.stt import SpeechEventType
from livekit.agents.utils import http_context
from livekit.plugins import openai

FRAME_SECONDS = 0.02
QUIET_LIMIT = 20.0
"""Seconds without an event after which no more are awaited."""


async def main() -> None:
    for line in sys.stdin:
        try:
            outcome = await perform(json.loads(line))
        except Exception:
            outcome = {"fault": traceback.format_exc()}
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


def audio_of(call: dict[str, Any]) -> bytes:
    return Path(call["file"]).read_bytes()


async def perform(call: dict[str, Any]) -> dict[str, Any]:
    fields, server = call["fields"], call["server"]
    content = audio_of(call)
    events: list[dict[str, Any]] = []
    async with http_context.open():
        stt = openai.STT(
            base_url=server["url"],
            api_key=server["key"],
            model=fields["model"],
            use_realtime=True,
            **fields.get("options", {}),
        )
        stream = stt.stream(conn_options=APIConnectOptions(max_retry=0))
        try:
            for frame in frames(content, fields["rate"]):
                stream.push_frame(frame)
                if "pace" in fields:
                    await asyncio.sleep(FRAME_SECONDS * fields["pace"])
            await gather(stream, events, fields["words"])
        except APIError as error:
            return {"error": {"class": type(error).__name__, "message": str(error)}}
        finally:
            await stream.aclose()
            await stt.aclose()
    return {"events": events}


def frames(content: bytes, rate: int) -> list[rtc.AudioFrame]:
    samples = int(rate * FRAME_SECONDS)
    pieces = [content[start : start + 2 * samples] for start in range(0, len(content), 2 * samples)]
    return [rtc.AudioFrame(piece, rate, 1, len(piece) // 2) for piece in pieces]


async def gather(stream: Any, events: list[dict[str, Any]], words: int) -> None:
    finals: list[str] = []
    usages = 0
    while len(" ".join(finals).split()) < words or usages < len(finals):
        try:
            event = await asyncio.wait_for(anext(stream), QUIET_LIMIT)
        except TimeoutError:
            return
        usages += event.type == SpeechEventType.RECOGNITION_USAGE
        told = {"type": event.type.value}
        if event.alternatives:
            told |= {"text": event.alternatives[0].text, "language": event.alternatives[0].language}
        if event.recognition_usage:
            told["seconds"] = event.recognition_usage.audio_duration
        if event.type == SpeechEventType.FINAL_TRANSCRIPT:
            finals.append(event.alternatives[0].text)
        events.append(told)


asyncio.run(main())
