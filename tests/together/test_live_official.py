"""Live sessions on the official engine, which keeps nothing between two texts."""

import asyncio
import json
from pathlib import Path

import soundfile

from tests import speech
from tests.together.processes import REPOSITORY, serving
from tests.together.realtime_client import SILENCE_MS, pcm, realtime

CLIPS = REPOSITORY / "examples" / "speech"
CLIP = "digits_american.flac"
SAID = {clip["file"]: clip["said"][0] for clip in json.loads((CLIPS / "clips.json").read_text())}
SILENCE = bytes(2 * speech.SAMPLE_RATE * SILENCE_MS // 1000)


def test_a_call_has_its_text_on_the_official_engine_too(short_folder: Path) -> None:
    samples, rate = soundfile.read(CLIPS / CLIP, dtype="float32")

    async def talk() -> str:
        async with realtime(server) as client:
            await client.configure(format={"type": "audio/pcm", "rate": speech.SAMPLE_RATE})
            await client.append(pcm(samples))
            await client.finish(SILENCE)
            return client.text()

    with serving("serve", short_folder, MODEL_ID="embedded", ENGINE="official") as server:
        assert rate == speech.SAMPLE_RATE
        assert asyncio.run(talk()) == SAID[CLIP]
