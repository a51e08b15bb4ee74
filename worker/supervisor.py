"""Starts, watches and ends the engine process of this worker, as the gateway asks.

One thread, one poll loop. What to do is decided in supervision.py and control_session.py; this
module owns the socket, the process and the signals. Imports neither asyncio nor torch.
"""

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import zmq

from protocol import codec
from protocol.control import EngineState, EngineStatus, SupervisorHello
from protocol.limits import MAX_PARTS
from protocol.sockets import CurveKeys, connect_dealer
from worker.control_session import (
    ControlSession,
    ExitStatus,
    Reaction,
    Say,
    SayStatus,
    SessionTiming,
    Unexpected,
)
from worker.engine_process import EngineProcess
from worker.engine_status import BadReport
from worker.launch import ENGINE_COMMAND
from worker.supervision import (
    Action,
    Event,
    Exit,
    Exited,
    Kill,
    Misspoke,
    Report,
    Reported,
    Shutdown,
    Spawn,
    SpawnFailed,
    Supervision,
    Terminate,
    Tick,
    Timing,
)
from worker.value import Value

logger = logging.getLogger(__name__)

MESSAGES_A_TURN = 100
"""Most messages read before everything else gets its turn."""
LAST_WORDS_MS = 200
"""How long the end waits for the last status to leave."""
RESIDENT_INTERVAL = 10.0
"""Seconds between two looks at the engine's memory."""
PARENT_DESCRIPTOR = 0
"""Standard input: its end means that the parent is gone."""


class Post(Value):
    """Who this supervisor is and where its gateway is."""

    worker_id: str
    model_id: str
    control_address: str
    keys: CurveKeys | None = None


class Conduct(Value):
    """What tests replace."""

    command: Sequence[str] = ENGINE_COMMAND
    timing: Timing = Timing()
    session_timing: SessionTiming = SessionTiming()
    clock: Callable[[], float] = time.monotonic


class Supervisor:
    """One worker's supervisor. Run it in the main thread of its own process."""

    def __init__(
        self,
        post: Post,
        environment: Mapping[str, str],
        *,
        with_parent: bool = False,
        conduct: Conduct | None = None,
    ) -> None:
        """`environment` is the engine's. `with_parent` ends everything with standard input."""
        self._post = post
        self._environment = environment
        self._with_parent = with_parent
        self._conduct = conduct or Conduct()
        self._clock = self._conduct.clock
        self._supervision = Supervision(self._conduct.timing)
        self._session = ControlSession(
            SupervisorHello(post.worker_id, os.urandom(8).hex(), post.model_id),
            self._conduct.session_timing,
            self._clock(),
        )
        self._engine: EngineProcess | None = None
        self._how_engine_ended: Exited | None = None
        """Set from the engine's death until the rest of its process group is gone as well."""
        self._events: deque[Event] = deque()  # emptied every turn
        self._exit_code: int | None = None
        self._resident_at = 0.0
        self._owes_beat = False
        """A beat could not be sent: nobody is connected, or nobody reads."""
        self.dropped_frames = 0
        """Frames from the gateway that were no message of this link."""

    def __repr__(self) -> str:
        return f"<Supervisor {self._post.worker_id}, {self._supervision!r}>"

    def run(self) -> int:
        """Serve until told to end; returns the exit status. Leaves no engine process behind.

        The process is PID 1 or has called adopt_orphans(), so that children of a dead engine are
        reaped.
        """
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wakeup, wakeup_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Ctrl-C reaches parent and child alike, and it is the parent's to end us after its
            # requests.
            _watch_signals(wakeup_end, but_not=signal.SIGINT if self._with_parent else None)
            self._socket = connect_dealer(context, self._post.control_address, self._post.keys)
            logger.info("supervisor started worker_id=%s", self._post.worker_id)
            while self._exit_code is None:
                self._turn()
        finally:
            self._end_engine_at_once()
            context.destroy(linger=LAST_WORDS_MS)
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup)
            os.close(wakeup_end)
        logger.info("supervisor ended exit_status=%d", self._exit_code)
        return self._exit_code

    def _turn(self) -> None:
        ready = self._wait()
        if self._wakeup in ready:
            self._read_signals()
        if self._with_parent and PARENT_DESCRIPTOR in ready:
            self._read_parent()
        if self._engine is not None and self._engine.descriptors & ready.keys():
            self._read_engine(self._engine)
        self._read_gateway()
        # Everything that was said is heard before time is looked at, so a late supervisor does
        # not take its own delay for the silence of others.
        self._reap()
        if self._owes_beat and ready.get(self._socket, 0) & zmq.POLLOUT:
            self._session.beat_at_once()
        self._react(self._session.tick(self._clock()))
        self._events.append(Tick())
        while self._events:
            self._carry_out(self._supervision.on(self._events.popleft(), self._clock()))
        self._look_at_memory()

    def _wait(self) -> dict[Any, int]:
        deadlines = [self._session.deadline(), self._supervision.deadline()]
        earliest = min(deadline for deadline in deadlines if deadline is not None)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN | (zmq.POLLOUT if self._owes_beat else 0))
        poller.register(self._wakeup, zmq.POLLIN)
        if self._with_parent:
            poller.register(PARENT_DESCRIPTOR, zmq.POLLIN)
        for descriptor in self._engine.descriptors if self._engine else ():
            poller.register(descriptor, zmq.POLLIN)
        # Rounded up: waking a moment early would only mean to poll again and again.
        seconds = max(0.0, earliest - self._clock())
        return dict(poller.poll(int(seconds * 1000) + 1))

    # --- what comes in ----------------------------------------------------------------------

    def _read_signals(self) -> None:
        for number in os.read(self._wakeup, 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                logger.info("asked to end signal=%d", number)
                self._events.append(Shutdown(ExitStatus.ASKED))

    def _read_parent(self) -> None:
        if os.read(PARENT_DESCRIPTOR, 4096):
            return
        self._with_parent = False
        logger.info("the gateway that started this supervisor is gone")
        self._events.append(Shutdown(ExitStatus.ASKED))

    def _read_engine(self, engine: EngineProcess) -> None:
        engine.forward_output()
        try:
            reports = engine.reports()
        except BadReport:
            logger.exception("engine process sent an unreadable status epoch=%d", engine.epoch)
            self._events.append(Misspoke(engine.epoch))
            return
        self._events.extend(Reported(engine.epoch, report) for report in reports)

    def _read_gateway(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(frames)

    def _take(self, frames: list[bytes]) -> None:
        try:
            if len(frames) != MAX_PARTS:
                raise codec.BadMessage("wrong number of parts")
            message = codec.decode(frames[0])
        except codec.WrongVersion as error:
            logger.error("%.200s: install the same version of gateway and worker", error)
            self._events.append(Shutdown(ExitStatus.PROTOCOL_VERSION))
            return
        except codec.BadMessage as error:
            self._drop(str(error))
            return
        logger.debug("control < %s", type(message).__name__)
        self._react(self._session.heard(message, self._clock()))

    def _drop(self, why: str) -> None:
        self.dropped_frames += 1
        logger.warning("dropped a frame on the control link: %s (%d)", why, self.dropped_frames)

    def _react(self, reactions: list[Reaction]) -> None:
        for reaction in reactions:
            match reaction:
                case Say(message):
                    self._owes_beat = not self._send(message)
                case SayStatus():
                    self._send_status()
                case Unexpected():
                    self._drop("a message of the other link")
                case Shutdown(code):
                    logger.error("refused by the gateway: %s", self._session.refusal)
                    self._events.append(Shutdown(code))
                case _:
                    self._events.append(reaction)

    def _reap(self) -> None:
        """Reap every dead child; as PID 1 and as subreaper, strangers are among them."""
        while (dead := _next_dead_child()) is not None:
            engine = self._engine
            if engine is not None and dead.si_pid == engine.pid and not self._how_engine_ended:
                engine.kill_group()  # before its number is free for another
                self._how_engine_ended = _exited(engine.epoch, dead)
            os.waitpid(dead.si_pid, 0)
        if self._engine is not None and self._how_engine_ended is not None:
            self._finish_engine(self._engine, self._how_engine_ended)

    def _finish_engine(self, engine: EngineProcess, ended: Exited) -> None:
        if engine.kill_group():
            return  # its children hold memory until they are gone
        self._read_engine(engine)
        engine.close()
        logger.info(
            "engine process ended epoch=%d pid=%d exit_status=%s signal=%s last_line=%r",
            engine.epoch,
            engine.pid,
            ended.code,
            ended.signal,
            engine.last_line(),
        )
        self._engine, self._how_engine_ended = None, None
        self._events.append(ended)

    # --- what goes out ----------------------------------------------------------------------

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(epoch):
                    self._spawn(epoch)
                case Terminate() if self._engine is not None:
                    self._engine.terminate()
                case Kill() if self._engine is not None:
                    logger.warning("killing the engine process epoch=%d", self._engine.epoch)
                    self._engine.kill_group()
                case Report(status):
                    self._log_status(status)
                    self._send_status()
                case Exit(code):
                    self._exit_code = code

    def _spawn(self, epoch: int) -> None:
        try:
            self._engine = EngineProcess(self._conduct.command, epoch, self._environment)
        except OSError as error:
            logger.error("no engine process could be started epoch=%d: %s", epoch, error)
            reason = f"no engine process could be started: {os.strerror(error.errno or 0)}"
            self._events.append(SpawnFailed(epoch, reason))
            return
        logger.info("engine process spawned epoch=%d pid=%d", epoch, self._engine.pid)

    def _send_status(self) -> None:
        if not self._session.is_welcome:
            return
        resident_bytes = self._engine.resident_bytes() if self._engine else None
        status = self._supervision.status(self._clock())
        self._send(replace(status, resident_bytes=resident_bytes))

    def _send(self, message: object) -> bool:
        """False where nobody is connected or nobody reads: then the message is void."""
        try:
            self._socket.send(codec.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        logger.debug("control > %s", type(message).__name__)
        return True

    def _log_status(self, status: EngineStatus) -> None:
        level = logging.ERROR if status.state is EngineState.FAILED else logging.INFO
        logger.log(
            level,
            "engine %s epoch=%d stage=%s failure=%s",
            status.state,
            status.epoch,
            status.stage or "-",
            status.failure or "-",
        )

    def _look_at_memory(self) -> None:
        now = self._clock()
        if self._engine is not None and now - self._resident_at >= RESIDENT_INTERVAL:
            self._resident_at = now
            self._send_status()

    def _end_engine_at_once(self) -> None:
        if self._engine is None:
            return
        if self._how_engine_ended is None:
            self._engine.kill_group()
            os.waitpid(self._engine.pid, 0)
        self._engine.close()


def _watch_signals(wakeup_end: int, *, but_not: int | None) -> None:
    """Let signals wake the poll loop, which reads their numbers from the pipe."""

    def note(number: int, frame: object) -> None:
        """The number is in the pipe already; without a handler Python would not put it there."""

    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if number == but_not else note)


def _next_dead_child() -> Any:
    """A child that has ended, not reaped yet; None where there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _exited(epoch: int, dead: Any) -> Exited:
    if dead.si_code == os.CLD_EXITED:
        return Exited(epoch, code=dead.si_status)
    return Exited(epoch, signal=dead.si_status)
