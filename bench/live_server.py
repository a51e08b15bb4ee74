"""A server for live streams, its processes, and clients in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from bench.cold_start import ROOT, server
from bench.live_client import Log, Plan
from bench.live_figures import Figures, figures_of, together
from bench.live_speech import FORMATS, Talk, talk

PACKET_SECONDS = 0.02
STREAMS_A_PROCESS = 64
LOOK_SECONDS = 0.5
KINDS = ("gateway", "engine")
CORES_TO_PART = 4
"""From so many on clients get cores of their own."""


@dataclass(slots=True)
class Use:
    """What processes used while streams ran, by kind."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    resident: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """Bytes at moments of time.monotonic."""

    def highest(self, kind: str) -> int:
        return max(found[kind] for _, found in self.resident)


@dataclass(frozen=True, slots=True)
class Ran:
    """Streams that ran at the same time."""

    talks: Sequence[Talk]
    logs: Sequence[Log]
    use: Use
    seconds: float
    """From the first packet to the last text."""

    def figures(self) -> Figures:
        pairs = zip(self.logs, self.talks, strict=True)
        return together(figures_of(log, one.loud) for log, one in pairs)


class LiveServer:
    """`qwen3-asr serve` with an engine that is ready."""

    def __init__(self, base: str, folder: Path, processes: dict[str, psutil.Process]) -> None:
        self.base = base
        self.folder = folder
        self._processes = processes

    def resident(self) -> dict[str, int]:
        """Bytes of each process, now."""
        return {kind: found.memory_info().rss for kind, found in self._processes.items()}

    def cpu_seconds(self) -> dict[str, float]:
        """Of each process since its start."""
        times = {kind: found.cpu_times() for kind, found in self._processes.items()}
        return {kind: each.user + each.system for kind, each in times.items()}

    def run(self, talks: Sequence[Talk], *, pace: float = 1.0) -> Ran:
        """All of them at the same time, to their last texts."""
        plans = [self._plan(number, one, pace) for number, one in enumerate(talks)]
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for plan, one in zip(plans, talks, strict=True):
                (Path(folder) / plan.path).write_bytes(one.content)
            clients = [
                _Clients(Path(folder), plans[start : start + STREAMS_A_PROCESS])
                for start in range(0, len(plans), STREAMS_A_PROCESS)
            ]
            try:
                return self._measured(clients, talks)
            finally:
                for each in clients:
                    each.end()

    def _measured(self, clients: Sequence[_Clients], talks: Sequence[Talk]) -> Ran:
        for each in clients:
            each.await_connected()
        use = Use()
        looking = _Looking(self, use)
        before = self.cpu_seconds()
        begin = time.monotonic() + 0.2
        looking.start()
        for each in clients:
            each.begin(begin)
        logs = [log for each in clients for log in each.logs()]
        seconds = time.monotonic() - begin
        looking.end()
        after = self.cpu_seconds()
        use.cpu_seconds = {kind: after[kind] - before[kind] for kind in after}
        return Ran(talks, logs, use, seconds)

    def _plan(self, number: int, one: Talk, pace: float) -> Plan:
        base = self.base.replace("http://", "ws://")
        return Plan(
            f"{base}/ws/transcribe?events=1&use_server_vad=true&{one.format.query}",
            f"{number}.raw",
            round(one.format.bytes_per_second * PACKET_SECONDS),
            PACKET_SECONDS,
            pace,
            delay=PACKET_SECONDS * (number * 0.618 % 1),
        )


class _Clients:
    """One process of them."""

    def __init__(self, folder: Path, plans: Sequence[Plan]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.live_client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        psutil.Process(self._process.pid).cpu_affinity(cores()[1])
        made = [asdict(plan) | {"path": str(folder / plan.path)} for plan in plans]
        self._to.write(json.dumps(made) + "\n")
        self._to.flush()

    def await_connected(self) -> None:
        if self._from.readline().strip() != "connected":
            raise RuntimeError("clients could not connect; see above")

    def begin(self, moment: float) -> None:
        self._to.write(f"{moment}\n")
        self._to.flush()

    def logs(self) -> list[Log]:
        return [Log(**each) for each in json.loads(self._from.readline())]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._to.close()
        self._from.close()


class _Looking(threading.Thread):
    """Looks at memory now and then."""

    def __init__(self, server: LiveServer, use: Use) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._use = use
        self._ended = threading.Event()

    def run(self) -> None:
        while True:
            self._use.resident.append((time.monotonic(), self._server.resident()))
            if self._ended.wait(LOOK_SECONDS):
                return

    def end(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def live_server(**settings: str) -> Iterator[LiveServer]:
    """Started and warmed up by one short call."""
    with tempfile.TemporaryDirectory(prefix="q") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        chosen = {"IDLE_TIMEOUT": "0", "MAX_LIVE_SESSIONS": "10000", **settings}
        with server(chosen.pop("MODEL_ID", "embedded"), folder / "data" / "log", **chosen) as base:
            own = psutil.Process().children()
            first = LiveServer(base, folder, {})
            first.run([talk(6.0, 0, FORMATS["pcm16"])])
            processes = _processes(own)
            for process in processes.values():
                process.cpu_affinity(cores()[0])
            yield LiveServer(base, folder, processes)


def _processes(own: Sequence[psutil.Process]) -> dict[str, psutil.Process]:
    found: dict[str, psutil.Process] = {}
    for process in [*own, *(child for one in own for child in one.children(recursive=True))]:
        title = " ".join(process.cmdline()).strip()
        for kind in KINDS:
            if title == f"qwen3-asr: {kind}":
                found.setdefault(kind, process)
    missing = set(KINDS) - set(found)
    if missing:
        raise RuntimeError(f"no process of the server is called: {', '.join(missing)}")
    return found


def cores() -> tuple[list[int], list[int]]:
    """Those of the server and those of the clients; the same ones where there are few."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < CORES_TO_PART:
        return usable, usable
    parted = len(usable) - len(usable) // 4
    return usable[:parted], usable[parted:]
