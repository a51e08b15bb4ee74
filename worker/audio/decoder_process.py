"""The decoder's child process as its parent holds it: started, briefed, read, killed, reaped."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from worker.audio.decode_messages import (
    BLOCK_SAMPLES,
    FRAME_HEADER,
    MAX_TEXT_BYTES,
    READY,
    SAMPLES,
    DecodeLimits,
    DecodeWish,
    pack_request,
)
from worker.audio.errors import DecoderFailed
from worker.audio.growth import GrowingFile

_BYTES_PER_SAMPLE: Final = 4
_BROKE_THE_RULES: Final = 1  # as an exit status
_BOOT: Final = (
    "import sys; sys.path += sys.argv[1:3]; from worker.audio.decode_child import main; main()"
)


class ProcessEnded(Exception):
    """The child's end of the socket is closed; `status` as subprocess gives it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class DecoderProcess:
    """A decoder process and the socket to it; the only place that reads, kills and reaps."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._reading = threading.Lock()
        self._ending = threading.Lock()
        self._growing: GrowingFile | None = None
        self.is_closed = False

    def brief(self, file: int, limits: DecodeLimits, wish: DecodeWish) -> None:
        self._timeout = limits.stall_timeout
        self._connection.settimeout(self._timeout)
        if self.receive()[0] != READY:
            raise DecoderFailed("The decoder process did not get ready.")
        socket.send_fds(self._connection, [pack_request(limits, wish)], [file])

    def pour(self, growing: GrowingFile) -> None:
        """From now on, give the process what is there of a file whenever its answer is awaited."""
        self._growing = growing

    def receive(self) -> tuple[bytes, bytearray]:
        """The next frame. Raises TimeoutError, ProcessEnded, or what GrowingFile does."""
        with self._reading:
            try:
                kind, length = FRAME_HEADER.unpack(self._read(FRAME_HEADER.size))
                if not _is_allowed(kind, length):
                    self._kill()
                    raise ProcessEnded(_BROKE_THE_RULES)
                return kind, self._read(length)
            except TimeoutError:
                raise
            except (EOFError, OSError):
                raise ProcessEnded(self._exit_status()) from None

    def close(self) -> None:
        self.is_closed = True
        self.end()

    def end(self) -> None:
        self._kill()
        with self._reading:  # the reader has met the end of the stream, or never began
            self._connection.close()

    def _read(self, length: int) -> bytearray:
        if self.is_closed:
            raise EOFError  # its socket may be gone already
        content = bytearray(length)
        rest = memoryview(content)
        while rest:
            if self._growing is not None:
                self._growing.pour_until_answered(self._connection, self._timeout)
            count = self._connection.recv_into(rest)
            if count == 0:
                raise EOFError
            rest = rest[count:]
        return content

    def _kill(self) -> None:
        with self._ending:
            self._process.kill()
            self._process.wait()

    def _exit_status(self) -> int:
        with self._ending, contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=1.0)
        self._kill()  # it closed the socket and lives on
        return _BROKE_THE_RULES


def _is_allowed(kind: bytes, length: int) -> bool:
    if kind == SAMPLES:
        return length <= BLOCK_SAMPLES * _BYTES_PER_SAMPLE and length % _BYTES_PER_SAMPLE == 0
    return length <= MAX_TEXT_BYTES


def start_process(command: list[str]) -> DecoderProcess:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
    except OSError:
        ours.close()
        raise
    return DecoderProcess(process, ours)


def briefed(
    child: DecoderProcess, file: int, limits: DecodeLimits, wish: DecodeWish
) -> DecoderProcess:
    """Hand over the file; the caller of open() may close its own descriptor then."""
    try:
        child.brief(file, limits, wish)
    except (OSError, ProcessEnded) as error:
        child.end()
        raise DecoderFailed("The decoder process ended before it got the recording.") from error
    return child


def process_command() -> list[str]:
    """-I and -S skip the environment, the user's folder and every .pth file; the arguments say
    where PyAV and this package are, and who the parent is."""
    av = importlib.util.find_spec("av")
    if av is None or av.origin is None:
        raise ModuleNotFoundError("PyAV is missing: install the extra 'worker'.", name="av")
    folders = [str(Path(av.origin).parents[1]), str(Path(__file__).parents[2])]
    return [sys.executable, "-I", "-S", "-c", _BOOT, *folders, str(os.getpid())]
