"""Resident memory of the real gateway: idle, during concurrent uploads, and five seconds later.

    python -m bench.gateway_memory [--uploads 200] [--megabytes 25]

Starts `qwen3-asr gateway` with a folder of its own and no worker: uploads are received whole, then
refused, so what is measured is the gateway alone. MB are 10^6 bytes. Exits with 1 over the budget.
"""

import argparse
import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MB = 10**6
IDLE_BUDGET = 30 * MB
UPLOADS_BUDGET = 60 * MB
AFTERWARDS_BUDGET = 40 * MB
SETTLING = 5.0
"""Seconds after the last upload at which memory must be back."""
START_TIMEOUT = 30.0
PIECE = bytes(64 * 1024)


@dataclass(frozen=True)
class Memory:
    """Bytes, from the kernel's account of one process."""

    resident: int
    private: int
    """What would be freed if the process ended (USS)."""
    peak: int
    """Highest resident memory since the start or the last reset."""


@dataclass(frozen=True)
class Measurement:
    """One run; the budgets are compared with these."""

    idle: Memory
    during: Memory
    afterwards: Memory
    wall_seconds: float
    statuses: Mapping[int, int]
    """How many uploads ended with each HTTP status."""


def memory_of(process_id: int) -> Memory:
    """Read from /proc."""
    rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text("ascii")
    status = Path(f"/proc/{process_id}/status").read_text("ascii")
    return Memory(
        resident=_kilobytes(rollup, "Rss"),
        private=_kilobytes(rollup, "Private_Clean") + _kilobytes(rollup, "Private_Dirty"),
        peak=_kilobytes(status, "VmHWM"),
    )


def reset_peak(process_id: int) -> None:
    """Let the peak begin anew at the present size (proc(5), clear_refs)."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5", "ascii")


def _kilobytes(text: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None, f"no {name} in /proc"
    return int(match[1]) * 1024


@contextlib.contextmanager
def running_gateway(data_dir: Path, **settings: str) -> Iterator[tuple[int, int]]:
    """A gateway in a process of its own; gives its process id and port."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    environment |= {"DATA_DIR": str(data_dir), "PORT": "0", "LOG_LEVEL": "info", **settings}
    # Compiled files cached, as an installation has them.
    compiling = [sys.executable, "-m", "compileall", "-q", "gateway", "protocol"]
    subprocess.run(compiling, cwd=ROOT, env=environment, check=True)
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "gateway"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            port = _port_of(process)
            assert process.stderr is not None
            reader = threading.Thread(target=process.stderr.read)  # else the pipe would fill
            reader.start()
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


def _port_of(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if match := re.search(r"gateway listening .*\bport=(\d+)", line):
            return int(match[1])
    raise RuntimeError("the gateway did not start:\n" + "".join(lines))


def measure(data_dir: Path, *, uploads: int, megabytes: int) -> Measurement:
    """Start a gateway, send it `uploads` recordings of `megabytes` MB at once, watch its memory."""
    settings = {"WORKER_START_TIMEOUT": "1", "MAX_WAITING_REQUESTS": str(uploads + 1)}
    with running_gateway(data_dir, **settings) as (process_id, port):
        asyncio.run(_get(port, "/livez"))
        idle = memory_of(process_id)
        reset_peak(process_id)
        started = time.monotonic()
        statuses = asyncio.run(_upload_all(port, uploads, megabytes * MB))
        wall_seconds = time.monotonic() - started
        during = memory_of(process_id)
        time.sleep(SETTLING)
        afterwards = memory_of(process_id)
    return Measurement(idle, during, afterwards, wall_seconds, statuses)


async def _upload_all(port: int, uploads: int, size: int) -> dict[int, int]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_upload(port, size)) for _ in range(uploads)]
    statuses: dict[int, int] = {}
    for task in running:
        statuses[task.result()] = statuses.get(task.result(), 0) + 1
    return statuses


async def _upload(port: int, size: int) -> int:
    head = (
        b"--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n"
        b"Content-Type: audio/wav\r\n\r\n"
    )
    tail = b"\r\n--b--\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: %d\r\n\r\n" % (len(head) + size + len(tail)) + head
        )
        for start in range(0, size, len(PIECE)):
            writer.write(PIECE[: size - start])
            await writer.drain()
        writer.write(tail)
        return await _status(reader)
    finally:
        writer.close()


async def _get(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return await _status(reader)
    finally:
        writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    status_line = await reader.readline()
    return int(status_line.split()[1])


def report(measurement: Measurement) -> bool:
    """Print the figures beside their budgets; whether all are kept."""
    rows = (
        ("idle", measurement.idle.resident, measurement.idle.private, IDLE_BUDGET),
        ("peak during uploads", measurement.during.peak, None, UPLOADS_BUDGET),
        (
            "five seconds later",
            measurement.afterwards.resident,
            measurement.afterwards.private,
            AFTERWARDS_BUDGET,
        ),
    )
    print(f"uploads by status: {measurement.statuses}, {measurement.wall_seconds:.1f} s")
    print(f"{'':22}{'RSS MB':>8}{'USS MB':>8}{'budget':>8}")
    for name, resident, private, budget in rows:
        uss = f"{private / MB:8.1f}" if private is not None else f"{'':8}"
        print(f"{name:22}{resident / MB:8.1f}{uss}{budget / MB:8.0f}")
    return all(resident <= budget for _, resident, _, budget in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measurement = measure(
            Path(folder), uploads=arguments.uploads, megabytes=arguments.megabytes
        )
    return 0 if report(measurement) else 1


if __name__ == "__main__":
    sys.exit(main())
