"""Memory of gateway, engine and decoder while long recordings are transcribed, and their speed.

    python -m bench.long_recordings [--minutes 10 180] [--format json]

Starts `qwen3-asr serve` with the embedded model and a folder of its own, and posts recordings made
of the bundled speech over and over, each streamed to its end. Memory is looked at ten times a
second: resident bytes of each kind of process, the highest seen. MB are 10^6 bytes.
"""

import argparse
import json
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import soundfile

from bench.cold_start import ROOT, server

RATE = 16_000
BOUNDARY = "long-recordings-boundary"
INTERVAL = 0.1
CLIPS = ("digits_british", "digits_american", "digits_flite", "digits_long")


class Watch(threading.Thread):
    """The highest resident memory of each kind of process under this one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest: dict[str, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(INTERVAL):
            seen: dict[str, int] = {}
            for process in psutil.Process().children(recursive=True):
                try:
                    kind = _kind(" ".join(process.cmdline()))
                    seen[kind] = seen.get(kind, 0) + process.memory_info().rss
                except psutil.Error:
                    continue  # it ended between two looks
            for kind, resident in seen.items():
                self.highest[kind] = max(self.highest.get(kind, 0), resident)

    def end(self) -> dict[str, int]:
        """Stop looking; what was seen."""
        self._ended.set()
        self.join()
        return self.highest


def _kind(command: str) -> str:
    match = re.match(r"qwen3-asr: (\w+)", command)
    return match[1] if match else "decoders"


def write_recording(path: Path, minutes: int) -> None:
    """The bundled clips in turn, with half a second between them, as 16-bit WAV."""
    pieces = []
    for name in CLIPS:
        samples, rate = soundfile.read(ROOT / "examples" / "speech" / f"{name}.flac", dtype="int16")
        assert rate == RATE
        pieces += [samples, np.zeros(RATE // 2, np.int16)]
    turn = np.concatenate(pieces)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        left = minutes * 60 * RATE
        while left > 0:
            file.write(turn[:left])
            left -= len(turn)


def post(base: str, recording: Path, answer_format: str) -> tuple[float, float, int]:
    """Seconds to the first byte behind the headers and to the last, and characters received."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="response_format"\r\n\r\n'
        f'{answer_format}\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="stream"\r\n\r\n'
        f"{str(answer_format == 'json').lower()}\r\n--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(head) + recording.stat().st_size + len(tail)

    def body() -> Iterator[bytes]:
        yield head
        with recording.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
        yield tail

    request = urllib.request.Request(
        f"{base}/v1/audio/transcriptions",
        data=body(),
        headers={
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Length": str(length),
        },
    )
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as answer:
        received = len(answer.read(1))
        first = time.perf_counter() - started
        while piece := answer.read(1 << 16):
            received += len(piece)
    return first, time.perf_counter() - started, received


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 180])
    parser.add_argument("--format", default="json", help="json is streamed, others are not")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        server("embedded", Path(folder) / "log") as base,
    ):
        warm_up = Path(folder) / "short.wav"
        write_recording(warm_up, 1)
        post(base, warm_up, arguments.format)
        for minutes in arguments.minutes:
            recording = Path(folder) / f"{minutes}.wav"
            write_recording(recording, minutes)
            watch = Watch()
            watch.start()
            first, whole, received = post(base, recording, arguments.format)
            highest = watch.end()
            recording.unlink()
            print(
                f"{minutes} min, {arguments.format}: first byte {first:.2f} s, whole"
                f" {whole:.1f} s ({minutes * 60 / whole:.0f} x real time),"
                f" {received / 1000:.0f} kB; highest resident MB: "
                + json.dumps({kind: round(size / 1e6, 1) for kind, size in highest.items()})
            )


if __name__ == "__main__":
    main()
