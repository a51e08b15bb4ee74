"""What an engine process tells its supervisor through the status pipe: msgpack maps, one after
another, without lengths. Torch-free. The engine writes, the supervisor reads.
"""

import os
import threading
from typing import Any

import msgpack

from worker.value import Value

MAX_TEXT = 1000
"""Characters of a stage or failure that travel; a report stays below PIPE_BUF (4096 bytes) so
that writes are atomic."""
MAX_BUFFER_BYTES = 256 * 1024
"""Most unread bytes the reader holds: more than a pipe does."""


class Loading(Value):
    """The engine is being made ready; a change of stage or bytes is progress."""

    stage: str
    done_bytes: int
    total_bytes: int | None


class Ready(Value):
    """The warm-up inference succeeded."""


class Beat(Value):
    """The engine process lives; sent every HEARTBEAT_INTERVAL from the start."""

    steps: int
    """Steps finished since the process began."""
    busy: bool
    """Whether work is being done, so that steps ought to move."""


class Failure(Value):
    """The engine is about to end, and why: words for the operator, without traces or paths."""

    message: str


EngineReport = Loading | Ready | Beat | Failure


class BadReport(ValueError):
    """The status pipe carried something that is no report."""


class SupervisorGone(Exception):
    """Nobody reads the status pipe any more: the engine must end."""


class StatusWriter:
    """The engine's end of the pipe; any thread may call it. Every method raises SupervisorGone."""

    def __init__(self, descriptor: int) -> None:
        """Takes over the descriptor and keeps it from the engine's own children."""
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def loading(self, stage: str, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        """Progress before ready()."""
        self._write({"loading": stage[:MAX_TEXT], "done": done_bytes, "total": total_bytes})

    def ready(self) -> None:
        """Once, after the warm-up inference."""
        self._write({"ready": True})

    def beat(self, steps: int, busy: bool) -> None:
        """Every HEARTBEAT_INTERVAL."""
        self._write({"beat": steps, "busy": busy})

    def failed(self, message: str) -> None:
        """Before an exit that something is to blame for."""
        self._write({"failure": message[:MAX_TEXT]})

    def _write(self, report: dict[str, Any]) -> None:
        packed = msgpack.packb(report, unicode_errors="replace")
        try:
            with self._lock:
                os.write(self._descriptor, packed)
        except BrokenPipeError as error:
            raise SupervisorGone from error


class StatusReader:
    """The supervisor's end: bytes as they come in, whole reports out."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            strict_map_key=True, max_buffer_size=MAX_BUFFER_BYTES, max_ext_len=0
        )

    def feed(self, received: bytes) -> list[EngineReport]:
        """The reports completed by these bytes; raises BadReport, after which the pipe is lost."""
        try:
            self._unpacker.feed(received)
            return [_parse(report) for report in self._unpacker]
        except (ValueError, msgpack.UnpackException) as error:
            raise BadReport("the status pipe carried no report") from error


def _parse(report: Any) -> EngineReport:
    match report:
        case {"loading": str(stage), "done": int(done), "total": int() | None as total}:
            return Loading(stage, _count(done), None if total is None else _count(total))
        case {"ready": True}:
            return Ready()
        case {"beat": int(steps), "busy": bool(busy)}:
            return Beat(_count(steps), busy)
        case {"failure": str(message)}:
            return Failure(message)
    raise BadReport("unknown report")


def _count(value: int) -> int:
    if isinstance(value, bool) or not 0 <= value <= 2**53:
        raise BadReport("not a count")
    return value
