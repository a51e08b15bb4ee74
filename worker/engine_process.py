"""One engine process as its supervisor holds it: spawned, listened to, signalled, reaped."""

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence

from worker.engine_status import EngineReport, StatusReader
from worker.launch import Launch

logger = logging.getLogger(__name__)

READ_BYTES = 65_536
STATUS_DESCRIPTOR = 3
"""Where the engine process finds its status pipe."""
KEPT_LINES = 20
KEPT_LINE_BYTES = 2000


class EngineProcess:
    """A session leader with a status pipe and an output pipe. Spawn from the main thread only:
    the engine dies with the thread that made it."""

    def __init__(self, command: Sequence[str], epoch: int, environment: Mapping[str, str]) -> None:
        """Raises OSError."""
        self.epoch = epoch
        self._reader = StatusReader()
        self._tail: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._line = b""
        self._status, status_end = os.pipe()
        self._output, output_end = os.pipe()
        self._open = {self._status, self._output}
        try:
            self.pid = _spawn(command, epoch, environment, status_end, output_end)
        except OSError:
            self.close()
            raise
        finally:
            os.close(status_end)
            os.close(output_end)
        os.set_blocking(self._status, False)
        os.set_blocking(self._output, False)

    def __repr__(self) -> str:
        return f"<EngineProcess {self.epoch}, pid {self.pid}>"

    @property
    def descriptors(self) -> frozenset[int]:
        """What to poll for reading before calling reports() and forward_output()."""
        return frozenset(self._open)

    def terminate(self) -> None:
        """Ask the process to end; its children are its own to end."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            logger.debug("engine process was gone already epoch=%d", self.epoch)

    def kill_group(self) -> bool:
        """SIGKILL to the process and all children in its group; False where none is left.

        Only before the process is reaped, or while the group is known to live: afterwards its
        number may be another's.
        """
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def reports(self) -> list[EngineReport]:
        """What the process said since the last call; raises BadReport."""
        return self._reader.feed(self._read(self._status))

    def forward_output(self) -> None:
        """Pass on what the process printed to our own standard error, and keep the last lines."""
        printed = self._read(self._output)
        *lines, self._line = (self._line + printed).split(b"\n")
        self._line = self._line[-KEPT_LINE_BYTES:]
        self._tail.extend(line[-KEPT_LINE_BYTES:] for line in lines)
        try:
            sys.stderr.buffer.write(printed)
            sys.stderr.buffer.flush()
        except (OSError, ValueError):  # closed, or its disk is full: the server goes on
            logger.debug("engine output could not be passed on")

    def last_line(self) -> str:
        """The last thing it printed, which usually names the trouble; for the log only."""
        lines = [line for line in (*self._tail, self._line) if line.strip()]
        return lines[-1].decode("utf-8", "replace").strip() if lines else ""

    def resident_bytes(self) -> int | None:
        """Resident memory, None where the process is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    def close(self) -> None:
        """Close our ends of the pipes."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()

    def _read(self, descriptor: int) -> bytes:
        """What is there now; a pipe that has ended is closed."""
        if descriptor not in self._open:
            return b""
        try:
            received = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return b""
        if not received:
            self._open.discard(descriptor)
            os.close(descriptor)
        return received


def _spawn(
    command: Sequence[str],
    epoch: int,
    environment: Mapping[str, str],
    status_end: int,
    output_end: int,
) -> int:
    arguments = Launch(epoch, STATUS_DESCRIPTOR, os.getpid()).arguments()
    # Every descriptor of ours is closed by exec but these. The status pipe comes last, since it
    # lands on a number that one of the others may have.
    moves = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output_end, 1),
        (os.POSIX_SPAWN_DUP2, output_end, 2),
        (os.POSIX_SPAWN_DUP2, status_end, STATUS_DESCRIPTOR),
    ]
    return os.posix_spawn(
        command[0],
        [*command, *arguments],
        environment,
        file_actions=moves,
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD],
    )
