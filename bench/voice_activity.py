"""What it costs to find speech: in recordings, against cutting at lulls, and in live streams.

    python -m bench.voice_activity [--seconds 600]

CPU time per second of audio (median of five turns each) and memory, of one core: the buzz of a
voice in syllables and pauses. Live streams come in packets of 20 ms, and are judged together.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import psutil

from worker.audio import SAMPLE_RATE
from worker.audio.chunking import Chunker
from worker.audio.endpointing import Endpointer
from worker.audio.endpoints import EndpointRules
from worker.audio.live_vad import LiveVad, LiveVoiceActivity
from worker.audio.telephony import LiveDecoder
from worker.audio.vad import SpeechModel, VoiceActivity

TURNS = 5
BLOCK = 10 * SAMPLE_RATE
LIVE_STREAMS = (1, 8, 64, 512)
LIVE_SECONDS = 60.0
"""Of all streams together."""


def voice(seconds: float) -> npt.NDArray[np.float32]:
    """Four syllables a second, and two seconds without after every six."""
    moments = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(110 + 20 * np.sin(2 * np.pi * 0.7 * moments)) / SAMPLE_RATE
    buzz = np.sum([np.sin(number * phase) / number for number in range(1, 12)], axis=0)
    syllables = np.clip(np.sin(2 * np.pi * 4 * moments), 0, 1) * (moments % 8 < 6)
    samples: npt.NDArray[np.float32] = (0.1 * buzz * syllables).astype(np.float32)
    return samples


def cpu_seconds(samples: npt.NDArray[np.float32], new_chunker: Callable[[], Chunker]) -> float:
    """Of one recording, cut from beginning to end."""
    chunker, start = new_chunker(), time.process_time()
    for position in range(0, len(samples), BLOCK):
        chunker.push(samples[position : position + BLOCK])
    chunker.finish()
    return time.process_time() - start


def live_cpu_seconds(vad: LiveVad, streams: int) -> dict[str, float]:
    """Of LIVE_SECONDS, in as many streams, as 8 kHz mu-law; step by step of the way."""
    bytes_each = round(LIVE_SECONDS / streams * 8_000)
    content = np.random.default_rng(0).integers(0, 256, bytes_each, np.uint8).tobytes()
    decoders = [LiveDecoder("mulaw", 8_000) for _ in range(streams)]
    activities = [LiveVoiceActivity() for _ in range(streams)]
    endpointers = [Endpointer(EndpointRules()) for _ in range(streams)]
    spent = dict.fromkeys(("decoded", "judged", "endpointed"), 0.0)
    for position in range(0, bytes_each, 160):
        moments = [time.process_time()]
        packet = content[position : position + 160]
        heard = [decoder.feed(packet)[0] for decoder in decoders]
        moments.append(time.process_time())
        judged = vad.judge(list(zip(activities, heard, strict=True)))
        moments.append(time.process_time())
        for endpointer, steps in zip(endpointers, judged, strict=True):
            endpointer.push(steps.probabilities, steps.levels)
        moments.append(time.process_time())
        for name, (start, end) in zip(spent, pairwise(moments), strict=True):
            spent[name] += end - start
    return spent


def print_live() -> None:
    """One line for each number of streams."""
    vad = LiveVad()
    for streams in LIVE_STREAMS:
        turns = [live_cpu_seconds(vad, streams) for _ in range(TURNS)]
        costs = ", ".join(
            f"{name} {1000 * statistics.median(turn[name] for turn in turns) / LIVE_SECONDS:.2f}"
            for name in turns[0]
        )
        print(f"{streams} live streams: {costs} ms per second of audio")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    seconds = parser.parse_args().seconds
    samples = voice(seconds)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    model = SpeechModel()
    model.load()
    loading = time.perf_counter() - start
    added = psutil.Process().memory_info().rss - before
    cases: dict[str, Callable[[], Chunker]] = {
        "at lulls": Chunker,
        "at pauses": lambda: Chunker(new_detector=lambda: VoiceActivity(model)),
    }
    timings: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(TURNS):
        for name, new_chunker in cases.items():
            timings[name].append(cpu_seconds(samples, new_chunker))
    print(f"model loaded in {loading:.2f} s, {added / 2**20:.0f} MB")
    for name, found in timings.items():
        print(f"{name}: {1000 * statistics.median(found) / seconds:.2f} ms per second of audio")
    print_live()


if __name__ == "__main__":
    main()
