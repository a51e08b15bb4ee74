"""What it saves to begin with a recording while it is still being uploaded.

    python -m bench.paced_upload [--minutes 10] [--paces 20 60] [--rounds 3]

Starts two servers with the embedded model: one begins early, one waits for whole uploads
(EARLY_START_BYTES=0). The same WAV recording of the bundled speech goes to both in turns, sent so
many times faster than it plays. Seconds from its first and from its last byte to the answer, median
of the rounds; both must answer the same text.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.cold_start import server
from bench.long_recordings import BOUNDARY, write_recording

BYTES_PER_SECOND = 32_000
"""Of 16-bit mono at 16 kHz."""
PIECES_PER_SECOND = 20


@dataclass(frozen=True, slots=True)
class Timed:
    """One upload and its answer, in seconds."""

    upload: float
    after_upload: float
    text: str

    @property
    def total(self) -> float:
        return self.upload + self.after_upload


def paced(recording: bytes, pace: float, on_sent: Callable[[], None]) -> Iterator[bytes]:
    """The body of a request, sent `pace` times faster than its recording plays."""
    yield (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nembedded\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    ).encode()
    step = int(BYTES_PER_SECOND * pace / PIECES_PER_SECOND)
    begun = time.perf_counter()
    for number, start in enumerate(range(0, len(recording), step)):
        due = begun + number / PIECES_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))  # the pace is what is measured
        yield recording[start : start + step]
    yield f"\r\n--{BOUNDARY}--\r\n".encode()
    on_sent()


def post(base: str, recording: bytes, pace: float) -> Timed:
    """One paced upload."""
    sent: list[float] = []
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=3600)
    begun = time.perf_counter()
    connection.request(
        "POST",
        "/v1/audio/transcriptions",
        paced(recording, pace, lambda: sent.append(time.perf_counter())),
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    body = answer.read()
    ended = time.perf_counter()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"the server answered {answer.status}: {body.decode()}")
    return Timed(sent[0] - begun, ended - sent[0], json.loads(body)["text"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--paces", type=float, nargs="+", default=[20.0, 60.0])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "recording.wav"
        write_recording(path, arguments.minutes)
        recording = path.read_bytes()
        bases = {}
        for name, least in (("whole", "0"), ("early", str(256 * 1024))):
            (Path(folder) / name).mkdir()
            settings = {"EARLY_START_BYTES": least, "IDLE_TIMEOUT": "0"}
            log = Path(folder) / name / "log"
            bases[name] = stack.enter_context(server("embedded", log, **settings))
        for pace in arguments.paces:
            timed: dict[str, list[Timed]] = {name: [] for name in bases}
            for _ in range(arguments.rounds + 1):
                for name, base in bases.items():
                    timed[name].append(post(base, recording, pace))
            print(_row(arguments.minutes, pace, {name: one[1:] for name, one in timed.items()}))


def _row(minutes: int, pace: float, timed: dict[str, list[Timed]]) -> str:
    texts = {one.text for runs in timed.values() for one in runs}
    assert len(texts) == 1, "early and whole give different texts"
    after = _medians(timed, lambda one: one.after_upload)
    total = _medians(timed, lambda one: one.total)
    return (
        f"{minutes} min at {pace:g} x real time: from the last byte {after['whole']:.2f} s, early"
        f" {after['early']:.2f} s; in all {total['whole']:.1f} s, early {total['early']:.1f} s"
        f" ({100 * (1 - total['early'] / total['whole']):.0f} % less)"
    )


def _medians(timed: dict[str, list[Timed]], seconds: Callable[[Timed], float]) -> dict[str, float]:
    return {name: statistics.median(map(seconds, runs)) for name, runs in timed.items()}


if __name__ == "__main__":
    main()
