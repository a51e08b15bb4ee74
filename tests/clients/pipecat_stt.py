"""Runs in an environment with pipecat-ai: see drivers.py.

A call's file has 16-bit samples of the rate in its fields, one turn. They go through a pipeline in
frames of 20 ms; with `local_vad` the turn's frames are between those of a voice activity detector.
"""

import asyncio
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.workers.runner import WorkerRunner

FRAME_SECONDS = 0.02
ANSWER_LIMIT = 30.0
"""Seconds after which the text will not come."""
TOLD = {
    "InterimTranscriptionFrame",
    "ProposedUserStartedSpeakingFrame",
    "ProposedUserStoppedSpeakingFrame",
    "TranscriptionFrame",
    "ErrorFrame",
}


class Listener(FrameProcessor):
    """Behind the service: notes what it makes of the audio."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.has_all = asyncio.Event()
        self._words = words

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.note(frame)
        await self.push_frame(frame, direction)

    def note(self, frame: Frame) -> None:
        if type(frame).__name__ not in TOLD:
            return
        told = {"type": type(frame).__name__}
        if isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            told["text"] = frame.text
        if isinstance(frame, ErrorFrame):
            told["text"] = frame.error
        self.events.append(told)
        finals = [each["text"] for each in self.events if each["type"] == "TranscriptionFrame"]
        if len(" ".join(finals).split()) >= self._words or isinstance(frame, ErrorFrame):
            self.has_all.set()


class Ears(FrameProcessor):
    """Before the service: errors travel up."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM and isinstance(frame, ErrorFrame):
            self._listener.note(frame)
        await self.push_frame(frame, direction)


async def main() -> None:
    logger.remove()
    logger.add(sys.stderr, level="INFO")
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
    is_local = fields["local_vad"]
    service = OpenAIRealtimeSTTService(
        api_key=server["key"],
        base_url=server["url"].replace("http", "ws", 1) + "/realtime",
        turn_detection=False if is_local else {"type": "server_vad"},
        settings=OpenAIRealtimeSTTService.Settings(model=fields["model"]),
    )
    listener = Listener(fields["words"])
    rate = fields["rate"]
    worker = PipelineWorker(
        Pipeline([Ears(listener), service, listener]),
        params=PipelineParams(audio_in_sample_rate=rate),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    frames = [VADUserStartedSpeakingFrame()] if is_local else []
    size = int(rate * FRAME_SECONDS) * 2
    frames += [
        InputAudioRawFrame(audio=content[start : start + size], sample_rate=rate, num_channels=1)
        for start in range(0, len(content), size)
    ]
    frames += [VADUserStoppedSpeakingFrame()] if is_local else []
    await worker.queue_frames(frames)
    try:
        await asyncio.wait_for(listener.has_all.wait(), ANSWER_LIMIT)
    except TimeoutError:
        listener.events.append({"type": "nothing more"})
    await worker.queue_frame(EndFrame())
    await running
    return {"events": listener.events}


asyncio.run(main())
