"""From no engine to the first text, and what the time goes to.

    python -m bench.cold_start [--runs 3] [--model embedded] [FILE]

Starts `qwen3-asr serve` with a folder of its own, waits until it listens, and posts one recording;
then has the engine ended and posts again, so that the second start finds warm caches. Seconds are
wall clock; the parts are what the engine process logs of itself.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "examples" / "speech" / "digits_american.flac"
LOADED = re.compile(r"engine was loaded (.*)")
NO_ENGINE = re.compile(r"worker joined|engine is stopped")
BOUNDARY = "cold-start-boundary"
TIMEOUT = 900.0
IDLE_SECONDS = 1
"""IDLE_TIMEOUT of the server, so that every run begins without an engine."""


@contextmanager
def server(model_id: str, log: Path, **settings: str) -> Iterator[str]:
    """A running server with these settings beside our own; yields its base address."""
    environment = {
        **os.environ,
        "MODEL_ID": model_id,
        "PORT": "0",
        "DATA_DIR": str(log.parent),
        "IDLE_TIMEOUT": str(IDLE_SECONDS),
        "WORKER_START_TIMEOUT": str(TIMEOUT),
        **settings,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            stdout=output,
            stderr=output,
            env=environment,
            cwd=ROOT,
        )
    try:
        port = first_match(log, re.compile(r"gateway listening .*port=(\d+)"), 1)
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def first_match(log: Path, pattern: re.Pattern[str], count: int) -> list[str]:
    """The first `count` matches in a log that is being written; raises TimeoutError."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        matches = pattern.findall(log.read_text(errors="replace"))
        if len(matches) >= count:
            return [str(match) for match in matches]
        time.sleep(0.01)  # another process writes the file
    raise TimeoutError(f"{pattern.pattern} never came")


def post(base: str, clip: Path) -> tuple[float, str]:
    """Seconds until the text is there, and the text."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=response_format\r\n\r\ntext\r\n"
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
    )
    request = urllib.request.Request(
        f"{base}/v1/audio/transcriptions",
        data=head.encode() + clip.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        text = response.read().decode().strip()
    return time.perf_counter() - begun, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("file", nargs="?", type=Path, default=CLIP)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        log = Path(folder) / "log"
        with server(arguments.model, log) as base:
            for run in range(1, arguments.runs + 1):
                first_match(log, NO_ENGINE, run)
                seconds, text = post(base, arguments.file)
                parts = first_match(log, LOADED, run)[run - 1]
                print(f"start {run}: first text after {seconds:.2f} s ({parts}): {text}")
                again, _ = post(base, arguments.file)
                print(f"         next text after {again:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
