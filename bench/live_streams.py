"""Streams in real time through the whole server: how many at once, and beside a recording."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from bench.live_figures import Figures, together
from bench.live_server import KINDS, LiveServer, Ran, cores, live_server
from bench.live_speech import FORMATS, Talk, talk
from bench.long_recordings import post, write_recording
from bench.measuring import percentile
from bench.options import Setting, numbers
from bench.report import Cell, Table
from tests.speech import word_error_rate

MB = 10**6
BESIDE_TURNS = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this mode."""
    parser.add_argument("--streams", type=numbers, default=[1, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--talk-seconds", type=float, default=30.0, help="of each stream")
    parser.add_argument("--format", choices=(*FORMATS, "both"), default="both")
    parser.add_argument("--target-ms", type=float, default=500.0, help="ends the growing")
    parser.add_argument("--beside", type=int, default=4, help="streams beside a recording")
    parser.add_argument("--recording-minutes", type=int, default=60)


def show(chosen: Setting, options: argparse.Namespace) -> None:
    """Measure and print both tables."""
    server_cores, client_cores = cores()
    if server_cores == client_cores:
        chosen.report.note(f"server and clients share {len(server_cores)} CPUs")
    else:
        chosen.report.note(f"server on {len(server_cores)} CPUs, clients on {len(client_cores)}")
    with live_server(MODEL_ID=options.model_id, DEVICE=options.device) as server:
        chosen.report.show(growing(chosen, server, options))
        chosen.report.show(beside_a_recording(server, options))


def talks(count: int, options: argparse.Namespace) -> list[Talk]:
    """The same for the same options; the formats in turn."""
    names = list(FORMATS) if options.format == "both" else [options.format]
    return [
        talk(options.talk_seconds, number, FORMATS[names[number % len(names)]])
        for number in range(count)
    ]


# --- how many at once -----------------------------------------------------------------------------


def growing(chosen: Setting, server: LiveServer, options: argparse.Namespace) -> Table:
    """More and more streams, until their texts come too late."""
    kept = 0
    table = Table(
        f"streams of {options.talk_seconds:g} s in real time, packets of 20 ms",
        (
            *("streams", "utterances", "final p50 ms", "p95", "p99", "first p50 ms", "p95 of it"),
            *("partials a s", "unanswered", "WER %", "late %"),
            *("gateway CPU %", "engine CPU %", "streams a gateway core", "engine cores"),
            *("gateway kB a stream", "engine MB a stream"),
        ),
    )
    base = server.resident()
    for count in options.streams:
        ran = server.run(talks(count, options))
        found = ran.figures()
        rate = error_rate(ran, found) if options.model_id == "embedded" else None
        table.add(*_row(ran, found, base, rate))
        print(table.lines()[-1], flush=True)
        if not found.finals or found.unanswered:
            break
        if percentile(found.finals, 0.95) >= options.target_ms / 1000:
            break
        kept = count
    chosen.report.note(f"most streams with a p95 of finals below {options.target_ms:g} ms: {kept}")
    return table


def _row(ran: Ran, found: Figures, base: dict[str, int], rate: float | None) -> list[Cell]:
    count = len(ran.talks)
    cores_used = {kind: ran.use.cpu_seconds[kind] / ran.seconds for kind in KINDS}
    grown = {kind: max(0, ran.use.highest(kind) - base[kind]) / count for kind in KINDS}
    spoken = sum(len(one.loud) for one in ran.talks) / 100
    return [
        *(count, found.utterances),
        *_milliseconds(found.finals, 0.5, 0.95, 0.99),
        *_milliseconds(found.firsts, 0.5, 0.95),
        *(found.partials / spoken, found.unanswered),
        *(None if rate is None else 100 * rate, 100 * found.late_share),
        *(100 * cores_used[kind] / count for kind in KINDS),
        *(count / cores_used["gateway"], cores_used["engine"]),
        *(grown["gateway"] / 1000, grown["engine"] / MB),
    ]


def error_rate(ran: Ran, found: Figures) -> float:
    """Of the words of all streams, as the embedded model writes digits."""
    return word_error_rate(
        [(one.text, text) for one, text in zip(ran.talks, found.texts, strict=True)]
    )


def _milliseconds(delays: Sequence[float], *shares: float) -> list[Cell]:
    return [1000 * percentile(delays, share) if delays else None for share in shares]


# --- beside a recording ---------------------------------------------------------------------------


def beside_a_recording(server: LiveServer, options: argparse.Namespace) -> Table:
    """The same streams with and without a long recording in work, in turns."""
    table = Table(
        f"{options.beside} streams beside a recording of {options.recording_minutes} min",
        ("", "final p50 × idle", "p95 × idle", "p50 ms", "p95 ms", "p99 ms", "first p95 ms"),
    )
    path = server.folder / "recording.wav"
    write_recording(path, options.recording_minutes)
    several: dict[str, list[Figures]] = {"idle": [], "recording in work": []}
    for _ in range(BESIDE_TURNS):
        several["idle"].append(server.run(talks(options.beside, options)).figures())
        with in_work(server.base, path):
            ran = server.run(talks(options.beside, options))
        several["recording in work"].append(ran.figures())
    idle = together(several["idle"]).finals
    for name, found in several.items():
        whole = together(found)
        ratios = [percentile(whole.finals, p) / percentile(idle, p) for p in (0.5, 0.95)]
        cells = _milliseconds(whole.finals, 0.5, 0.95, 0.99)
        table.add(name, *ratios, *cells, *_milliseconds(whole.firsts, 0.95))
    return table


@contextmanager
def in_work(base: str, recording: Path) -> Iterator[None]:
    """The recording is transcribed over and over. Raises RuntimeError where it could not be."""
    is_over = threading.Event()
    failures: list[Exception] = []

    def transcribe() -> None:
        while not is_over.is_set():
            try:
                post(base, recording, "json")
            except (OSError, URLError) as error:
                failures.append(error)
                return

    thread = threading.Thread(target=transcribe, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if failures:
        raise RuntimeError(f"the recording could not be transcribed: {failures[0]}")
