"""The gateway's end of the worker links: sockets, peers and their greetings.

What the messages mean for callers is the dispatcher's matter, what they mean for workers
lifecycle's.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import zmq

from gateway.telemetry import event
from gateway.worker_client.dispatcher import Dispatcher, EngineId
from gateway.worker_client.interface import (
    ClientSnapshot,
    TranscriptionRequest,
    WorkerSnapshot,
)
from gateway.worker_client.lifecycle import Lifecycle, Worker
from gateway.worker_client.live_calls import LiveCall
from gateway.worker_client.peers import SILENCE_LIMIT, Peers
from gateway.worker_client.router import Router
from protocol import sockets
from protocol.control import (
    EngineState,
    EngineStatus,
    Heartbeat,
    Introduce,
    Refused,
    SupervisorHello,
    Welcome,
)
from protocol.limits import HEARTBEAT_INTERVAL
from protocol.live import LiveEvent
from protocol.transcription import ChunkDone, Failed, Final, Hello, Partial, Progress, PullUpload

if TYPE_CHECKING:
    from gateway.settings import Settings

logger = logging.getLogger(__name__)


class WorkerLink:
    """A WorkerClient over ZeroMQ, used as an async context manager. Raises LinkError on entry."""

    def __init__(self, settings: "Settings", spool_folder: Path, gateway_id: str) -> None:
        self._settings = settings
        self._introduction = Introduce(gateway_id, f"{gateway_id}/probe", os.urandom(16).hex())
        self._probe = spool_folder / self._introduction.probe_file
        self._lifecycle = Lifecycle(idle_timeout=settings.idle_timeout)
        self._supervisors: Peers[str] = Peers()
        self._engines: Peers[EngineId] = Peers()
        self._zap: zmq.Socket[bytes] | None = None
        self._allowed_keys: frozenset[bytes] = frozenset()
        self._last_tick = 0.0
        self._refusal: str | None = None
        """Why the last worker that was turned away was."""

    def __repr__(self) -> str:
        return f"<WorkerLink {self._dispatcher!r}, {self._lifecycle!r}>"

    # --- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher(self._settings, self._lifecycle, self, self._loop.time)
        self._probe.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._probe.write_text(self._introduction.probe_text)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._bind()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._clock = self._tasks.create_task(self._keep_time(), name="worker link clock")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_all()
        self._clock.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._supervisors, self._engines = Peers(), Peers()  # nothing is sent from here on
        self._work.close()
        self._control.close()
        if self._zap is not None:
            self._loop.remove_reader(self._zap.FD)
            self._zap.close()
        self._context.term()
        self._probe.unlink(missing_ok=True)

    def end_all(self) -> None:
        """Answer every open call at once: the gateway ends."""
        self._dispatcher.end_all()

    def _bind(self) -> None:
        sockets.make_link_folder(self._settings.data_dir)
        addresses = sockets.link_addresses(self._settings.worker_link, self._settings.data_dir)
        keys = self._load_keys()
        if keys is not None:
            self._zap = sockets.bind_zap(self._context)
            self._loop.add_reader(self._zap.FD, self._answer_zap)
        work = sockets.bind_router(self._context, addresses.work, keys)
        control = sockets.bind_router(self._context, addresses.control, keys)
        self._work = Router(work, "work", self._on_work)
        self._control = Router(control, "control", self._on_control)

    def _load_keys(self) -> sockets.CurveKeys | None:
        if self._settings.worker_link == "ipc":
            return None
        from protocol.keys import load_allowed_workers, load_gateway_keys

        folder = self._settings.worker_link_keys
        if folder is None:
            raise sockets.LinkError("WORKER_LINK_KEYS must name the folder of the link's keys")
        self._allowed_keys = load_allowed_workers(folder)
        return load_gateway_keys(folder)

    def _answer_zap(self) -> None:
        assert self._zap is not None
        while int(self._zap.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            question = self._zap.recv_multipart()
            self._zap.send_multipart(sockets.zap_answer(question, self._allowed_keys))

    # --- WorkerClient -----------------------------------------------------------------------

    async def transcribe(
        self, request: TranscriptionRequest
    ) -> AsyncGenerator[ChunkDone | Partial | Progress | Final, None]:
        """See WorkerClient.transcribe."""
        call = self._dispatcher.open(request)
        try:
            async with aclosing(call.events()) as events:
                async for event in events:
                    yield event
        finally:
            self._dispatcher.leave(call)

    def upload_grew(self, request_id: str, upload_bytes: int, *, is_whole: bool) -> None:
        """See WorkerClient.upload_grew."""
        self._dispatcher.upload_grew(request_id, upload_bytes, is_whole=is_whole)

    def open_session(self, session_id: str) -> LiveCall:
        """See WorkerClient.open_session."""
        return self._dispatcher.open_session(session_id)

    def warm(self, seconds: float) -> None:
        """See WorkerClient.warm."""
        self._lifecycle.want_until(self._loop.time() + seconds)
        self._dispatcher.move()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """See WorkerClient.expecting."""
        self._lifecycle.expected += 1
        try:
            yield
        finally:
            self._lifecycle.expected -= 1

    def snapshot(self) -> ClientSnapshot:
        """See WorkerClient.snapshot."""
        workers = tuple(_snapshot(worker) for worker in self._lifecycle.workers)
        reason = self._lifecycle.why_not()
        if not workers and self._refusal is not None:
            reason = self._refusal
        return ClientSnapshot(
            workers=workers,
            waiting_requests=self._dispatcher.waiting_calls,
            live_sessions=len(self._dispatcher.live),
            live_totals=self._dispatcher.live.totals,
            can_serve=reason is None,
            reason=reason,
        )

    # --- Post -------------------------------------------------------------------------------

    def to_engine(self, engine: EngineId, message: object) -> bool:
        """See Post."""
        route = self._engines.route(engine)
        return route is not None and self._work.send(route, message)

    def to_supervisor(self, worker_id: str, message: object) -> bool:
        """See Post."""
        route = self._supervisors.route(worker_id)
        return route is not None and self._control.send(route, message)

    # --- time -------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            self._last_tick = self._loop.time()
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            try:
                self._tick()
            except Exception:
                logger.exception("a turn of the worker link failed")

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._last_tick > SILENCE_LIMIT - HEARTBEAT_INTERVAL:
            self._supervisors.forgive(now)
            self._engines.forgive(now)
        for peer in self._supervisors:
            self._control.send(peer, Heartbeat())
        for peer in self._engines:
            self._work.send(peer, Heartbeat())
        for peer in self._supervisors.silent(now):
            self._supervisor_lost(peer)
        for peer in self._engines.silent(now):
            if (engine := self._engines.leave(peer)) is not None:
                self._dispatcher.engine_fell_silent(engine)
        self._dispatcher.check_deadlines()
        self._dispatcher.move()

    # --- control link -----------------------------------------------------------------------

    def _on_control(self, peer: bytes, message: Any) -> None:
        worker_id = self._supervisors.heard(peer, self._loop.time())
        if isinstance(message, SupervisorHello):
            self._welcome_supervisor(peer, message)
        elif worker_id is None:
            if self._supervisors.should_ask(peer, self._loop.time()):
                self._control.send(peer, self._introduction)
        elif isinstance(message, EngineStatus):
            self._on_status(worker_id, message)
        elif not isinstance(message, Heartbeat):
            logger.warning("unexpected %s on the control link", type(message).__name__)

    def _welcome_supervisor(self, peer: bytes, hello: SupervisorHello) -> None:
        if (refusal := self._refuse_supervisor(peer, hello)) is not None:
            self._control.send(peer, refusal)
            self._refusal = refusal.message
            return
        now = self._loop.time()
        before = self._supervisors.route(hello.worker_id)
        if before is not None and before != peer:
            self._supervisors.leave(before)
        self._supervisors.join(peer, hello.worker_id, now)
        lost = self._lifecycle.supervisor_joined(hello.worker_id, hello.instance, now)
        if before is None:
            logger.info(event("worker joined", {"worker": hello.worker_id}))
        self._refusal = None
        self._control.send(peer, Welcome())
        self._dispatcher.requeue(lost)
        self._dispatcher.move()

    def _refuse_supervisor(self, peer: bytes, hello: SupervisorHello) -> Refused | None:
        worker = self._lifecycle.worker(hello.worker_id)
        is_taken = self._supervisors.route(hello.worker_id) not in (None, peer)
        if is_taken and worker is not None and worker.instance != hello.instance:
            text = f"a worker with id {hello.worker_id} is connected already: set WORKER_ID"
            return Refused("worker_id_taken", text)
        if hello.model_id == self._settings.model_id:
            return None
        text = (
            f"the worker serves {hello.model_id}, the gateway {self._settings.model_id}: "
            "set the same MODEL_ID on both"
        )
        fields = {"worker": hello.worker_id, "reason": text}
        logger.error(event("worker was refused", fields))
        return Refused("other_model", text)

    def _on_status(self, worker_id: str, status: EngineStatus) -> None:
        worker = self._lifecycle.worker(worker_id)
        if worker is None or worker.state != status.state:
            # A supervisor repeats its last failure until an engine has shown that it works.
            failure = None if status.state is EngineState.READY else status.failure
            fields = {"worker": worker_id, "epoch": status.epoch, "failure": failure}
            logger.info(event(f"engine is {status.state}", fields))
        lost = self._lifecycle.status_changed(worker_id, status, self._loop.time())
        if lost or status.state in (EngineState.STOPPED, EngineState.FAILED):
            self._forget_engine((worker_id, status.epoch))
        for name, epoch in self._engines.names:
            if name == worker_id and epoch < status.epoch:  # gone: it will not fall silent
                self._forget_engine((name, epoch))
        self._dispatcher.engine_died(lost)
        self._dispatcher.move()

    def _supervisor_lost(self, peer: bytes) -> None:
        worker_id = self._supervisors.leave(peer)
        if worker_id is not None:
            logger.warning(event("supervisor fell silent", {"worker": worker_id}))
            self._dispatcher.worker_left(worker_id)

    def _forget_engine(self, engine: EngineId) -> None:
        route = self._engines.route(engine)
        if route is not None:
            self._engines.leave(route)

    # --- work link --------------------------------------------------------------------------

    def _on_work(self, peer: bytes, message: Any) -> None:
        engine = self._engines.heard(peer, self._loop.time())
        if isinstance(message, Hello):
            self._welcome_engine(peer, message)
        elif engine is None:
            if self._engines.should_ask(peer, self._loop.time()):
                self._work.send(peer, self._introduction)
        elif isinstance(message, PullUpload):
            self._dispatcher.upload_wanted(engine, message)
        elif isinstance(message, Progress | Partial | ChunkDone | Final | Failed):
            self._dispatcher.answered(engine, message)
        elif isinstance(message, LiveEvent):
            self._dispatcher.session_answered(engine, message)
        elif not isinstance(message, Heartbeat):
            logger.warning("unexpected %s on the work link", type(message).__name__)

    def _welcome_engine(self, peer: bytes, hello: Hello) -> None:
        if hello.capacity < 1:
            self._work.send(peer, Refused("no_capacity", "an engine must take at least a request"))
            return
        joined = self._lifecycle.engine_joined(hello, self._loop.time())
        if joined is None:
            return  # asked again at its next heartbeat, when its supervisor is known
        engine = (hello.worker_id, hello.epoch)
        self._forget_engine(engine)
        self._engines.join(peer, engine, self._loop.time())
        self._work.send(peer, Welcome())
        fields = {
            "worker": hello.worker_id,
            "epoch": hello.epoch,
            "capacity": hello.capacity,
            "sees_spool": hello.sees_spool,
        }
        logger.info(event("engine joined", fields))
        if joined.is_same_engine:
            self._dispatcher.requeue(joined.lost)
        else:
            self._dispatcher.engine_died(joined.lost)
        self._dispatcher.move()


def _snapshot(worker: Worker) -> WorkerSnapshot:
    status = worker.status
    return WorkerSnapshot(
        worker_id=worker.worker_id,
        state=worker.state,
        stage=status.stage if status else "",
        done_bytes=status.done_bytes if status else 0,
        total_bytes=status.total_bytes if status else None,
        failure=status.failure if status else None,
        resident_bytes=status.resident_bytes if status else None,
        running_requests=worker.running_requests,
    )
