"""A hand-written gateway for one supervisor: real sockets, and waiting for events with a limit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from protocol import codec
from protocol.control import (
    EngineState,
    EngineStatus,
    Heartbeat,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
    Welcome,
)
from protocol.sockets import bind_router, link_addresses, make_link_folder

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing here takes more than one or two."""

Message = TypeVar("Message")
FAST: dict[str, Any] = {
    "timing": {
        "beats_missed": 20,
        "stop_grace": 0.3,
        "first_back_off": 0.05,
        "progress_interval": 0.0,
    },
    "session": {"beat_interval": 0.05},
}
"""Timings that make a test fast; beats are not missed unless a test wants it."""


class GatewayEnd:
    """Plays the gateway and holds the supervisor process it talks to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_link_folder(folder)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = bind_router(self._context, link_addresses("ipc", folder).control, None)
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.peer = b""
        self.status: EngineStatus | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait()
            if self.supervisor.stdin is not None:
                self.supervisor.stdin.close()
        self._context.destroy(linger=0)

    @property
    def log(self) -> str:
        """Everything supervisor and engine have printed so far."""
        return (self.folder / "log").read_text()

    def start(
        self, engine: str, chosen: dict[str, Any] | None = None, **environment: str
    ) -> "subprocess.Popen[bytes]":
        """Start a supervisor whose engines follow the script."""
        command = [sys.executable, "-m", "tests.worker.supervisor_program"]
        chosen_environment = {
            **os.environ,
            "DATA_DIR": str(self.folder),
            "WORKER_ID": "gpu-1",
            "MODEL_ID": "embedded",
            "FAKE_ENGINE": engine,
            **environment,
        }
        return self.start_command([*command, json.dumps(chosen or FAST)], chosen_environment)

    def start_command(
        self, command: list[str], environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a supervisor by this command; what it prints goes to the log."""
        with open(self.folder / "log", "wb") as log:
            self.supervisor = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stderr=log
            )
        return self.supervisor

    def welcome(self, model_id: str = "embedded") -> None:
        """Introduce ourselves as a gateway does, and take the supervisor in."""
        self.receive(Heartbeat)
        self.send(Introduce("gateway-1", "gateway-1/probe", "secret"))
        hello = self.receive(SupervisorHello)
        assert (hello.worker_id, hello.model_id) == ("gpu-1", model_id)
        self.send_welcome()
        self.await_state(EngineState.STOPPED)

    def send_welcome(self) -> None:
        self.send(Welcome())

    def send(self, message: object) -> None:
        self.send_frame(codec.encode(message))

    def send_frame(self, frame: bytes) -> None:
        self._socket.send_multipart((self.peer, frame))

    def receive(self, message_type: type[Message]) -> Message:
        """The next message of that type; others are passed over."""
        limit = time.monotonic() + PATIENCE
        while self._socket.poll(max(0, int((limit - time.monotonic()) * 1000))):
            self.peer, frame = self._socket.recv_multipart()
            message = codec.decode(frame)
            if isinstance(message, EngineStatus):
                self.status = message
            else:
                self._answer(Heartbeat())
            if isinstance(message, message_type):
                return message
        raise AssertionError(f"no {message_type.__name__}; the log:\n{self.log}")

    def refuse_until_end(self, refusal: Refused) -> int:
        """Answer every hello by a refusal; returns how many there were."""
        assert self.supervisor is not None
        refusals = 0
        while self.supervisor.poll() is None:
            if not self._socket.poll(20):
                continue
            self.peer, frame = self._socket.recv_multipart()
            if isinstance(codec.decode(frame), SupervisorHello):
                refusals += 1
                self._answer(refusal)
        return refusals

    def _answer(self, message: object) -> None:
        """To a peer that may have ended meanwhile."""
        with contextlib.suppress(zmq.ZMQError):
            self.send(message)

    def await_state(self, state: EngineState) -> EngineStatus:
        return self.await_status(lambda status: status.state is state)

    def await_status(self, is_wanted: Callable[[EngineStatus], bool]) -> EngineStatus:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            if is_wanted(status := self.receive(EngineStatus)):
                return status
        raise AssertionError(f"the last status is {self.status}; the log:\n{self.log}")

    def start_engine(self, state: EngineState = EngineState.READY) -> EngineStatus:
        self.send(StartEngine())
        return self.await_state(state)

    def stop_engine(self, epoch: int) -> None:
        self.send(StopEngine(epoch))
        self.await_state(EngineState.STOPPED)

    def engine_pid(self, epoch: int) -> int:
        """From the log line that names it."""
        line = self.await_log(f"engine process spawned epoch={epoch} ")
        return int(line.rpartition("pid=")[2])

    def await_log(self, words: str) -> str:
        """The first line with these words, which may still be on its way."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            for line in self.log.splitlines():
                if words in line:
                    return line
            self._socket.poll(10)
        raise AssertionError(f"{words!r} is not in the log:\n{self.log}")

    def await_end(self) -> int:
        """The supervisor's exit status."""
        assert self.supervisor is not None
        return self.supervisor.wait(PATIENCE)


def await_gone(pid: int) -> None:
    """Until no process has that id, also no zombie."""
    descriptor = _pidfd(pid)
    if descriptor is None:
        return
    try:
        poller = zmq.Poller()
        poller.register(descriptor, zmq.POLLIN)
        assert poller.poll(int(PATIENCE * 1000)), f"process {pid} lives on"
    finally:
        os.close(descriptor)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def is_alive(pid: int) -> bool:
    try:
        signal.pidfd_send_signal(descriptor := os.pidfd_open(pid), 0)
    except ProcessLookupError:
        return False
    os.close(descriptor)
    return True
