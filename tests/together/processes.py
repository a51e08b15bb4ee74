"""Real gateways and workers as child processes, and looking at them from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
"""Seconds after which something expected has failed to happen."""


class NeverHappened(AssertionError):
    """What was waited for did not come."""


def eventually(look: Callable[[], object], what: str, deadline: float = DEADLINE) -> object:
    """The first truthy answer of `look`, which observes another process."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if answer := look():
            return answer
        time.sleep(0.02)  # the observed process has no way to call us
    raise NeverHappened(what)


@dataclass
class Running:
    """One process of ours and what it has logged."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """Its living descendants."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
            return [child for child in family if child.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def titled(self, name: str) -> list[psutil.Process]:
        """Its living descendants called `qwen3-asr: name`; not their own children, which have
        that name too until they run another program."""
        named = [child for child in self.children() if title(child) == f"qwen3-asr: {name}"]
        pids = {child.pid for child in named}
        return [child for child in named if parent(child) not in pids]


@contextmanager
def running(
    *command: str, log: Path, environment: dict[str, str], folder: Path = REPOSITORY
) -> Iterator[Running]:
    """The command until the block ends; then SIGTERM, and SIGKILL where that fails."""
    ours = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**ours, **environment},
            cwd=folder,
        )
    try:
        yield Running(process, log)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


@dataclass
class Server:
    """A gateway that answers on a port of its own."""

    running: Running
    port: int
    data_dir: Path
    client: httpx2.Client = field(repr=False)

    def transcribe(self, content: bytes, **fields: str) -> httpx2.Response:
        """One upload through the OpenAI route."""
        return self.client.post(
            "/v1/audio/transcriptions", files={"file": ("a.wav", content)}, data=fields
        )

    def spool_files(self) -> list[Path]:
        """Uploads and chunk files, the probe apart."""
        return [
            path
            for path in (self.data_dir / "spool").rglob("*")
            if path.is_file() and path.name != "probe"
        ]


def title(process: psutil.Process) -> str:
    """What `ps` shows for a process."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def parent(process: psutil.Process) -> int | None:
    """Process id of its parent, None where it is gone."""
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


@contextmanager
def serving(
    mode: str, data_dir: Path, *, folder: Path = REPOSITORY, **environment: str
) -> Iterator[Server]:
    """`qwen3-asr MODE` on a free port, run in a folder, once it listens."""
    log = data_dir / "gateway.log"
    settings = {"DATA_DIR": str(data_dir), "PORT": "0", **environment}
    command = (str(Path(sys.executable).parent / "qwen3-asr"), mode)
    with running(*command, log=log, environment=settings, folder=folder) as process:
        port = eventually(lambda: _port(log, process), "the gateway never listened")
        assert isinstance(port, int)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
            yield Server(process, port, data_dir, client)


def _port(log: Path, process: Running) -> int | None:
    assert process.process.poll() is None, log.read_text()
    for line in log.read_text().splitlines():
        if "gateway listening" in line:
            return int(line.split("port=")[1].split()[0])
    return None
