"""How fast recordings of common formats are decoded to 16 kHz mono in the confined child.

    python -m bench.decoding [--seconds 600]

Makes stereo files of noise bursts with PyAV, decodes each three times and prints the median as
seconds of audio per second: by wall clock, and by the child's own CPU time.
"""

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from worker.audio.decoding import AudioDecoder, DecodeLimits

RUNS = 3


@dataclass(frozen=True)
class Format:
    """A container, a codec and how it is encoded."""

    name: str
    suffix: str
    codec: str
    sample_rate: int
    bit_rate: int | None = None


FORMATS = (
    Format("WAV 16 kHz", "wav", "pcm_s16le", 16_000),
    Format("WAV 44.1 kHz", "wav", "pcm_s16le", 44_100),
    Format("FLAC 44.1 kHz", "flac", "flac", 44_100),
    Format("MP3 44.1 kHz, 128 kb/s", "mp3", "libmp3lame", 44_100, 128_000),
    Format("AAC in M4A, 44.1 kHz, 128 kb/s", "m4a", "aac", 44_100, 128_000),
    Format("Opus in Ogg, 48 kHz, 32 kb/s", "ogg", "libopus", 48_000, 32_000),
)


def encode(path: Path, form: Format, seconds: float) -> None:
    """Stereo bursts of noise with pauses, the same in every run."""
    random = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(form.codec, rate=form.sample_rate, layout="stereo")
        if form.bit_rate:
            stream.bit_rate = form.bit_rate
        for second in range(int(seconds)):
            loudness = 0.0 if second % 4 == 3 else 3000.0
            samples = random.normal(scale=loudness, size=(1, 2 * form.sample_rate))
            frame = av.AudioFrame.from_ndarray(samples.astype(np.int16), "s16", "stereo")
            frame.sample_rate = form.sample_rate
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def decode(decoder: AudioDecoder, path: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of children, and seconds of audio."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    with decoder.open(path, DecodeLimits()) as decoded:
        samples = sum(len(block) for block in decoded)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, samples / 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    print(f"{'format':32} {'× wall':>8} {'× CPU':>8}")
    with tempfile.TemporaryDirectory() as folder, AudioDecoder(spare_children=0) as decoder:
        for form in FORMATS:
            path = Path(folder) / f"clip.{form.suffix}"
            encode(path, form, seconds)
            runs = [decode(decoder, path) for _ in range(RUNS)]
            wall = statistics.median(audio / taken for taken, _, audio in runs)
            cpu = statistics.median(audio / taken for _, taken, audio in runs)
            print(f"{form.name:32} {wall:8.0f} {cpu:8.0f}")


if __name__ == "__main__":
    main()
