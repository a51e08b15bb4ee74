"""The gateway's end of the worker links: owns which callers wait for what.

Moves requests between callers, the waiting queue and engines. When engines start and end is decided
in lifecycle.py, how often a request is retried in attempts.py; this module carries it out.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import zmq

from gateway.worker_client.call import Call
from gateway.worker_client.chunk_file import ChunkFile
from gateway.worker_client.interface import (
    ClientSnapshot,
    TranscriptionFailed,
    TranscriptionRequest,
    WorkerSnapshot,
)
from gateway.worker_client.lifecycle import WORKER_GRACE, Lifecycle, Start, Stop, Worker
from gateway.worker_client.peers import Peers
from gateway.worker_client.router import Router
from protocol import sockets
from protocol.control import (
    EngineFinishedWork,
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
from protocol.failures import FailureCode
from protocol.limits import HEARTBEAT_INTERVAL, UPLOAD_PIECE_BYTES
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Hello,
    Progress,
    PullUpload,
    Transcribe,
    UploadPiece,
)

if TYPE_CHECKING:
    from gateway.settings import Settings

logger = logging.getLogger(__name__)

CANCEL_GRACE = 10.0
"""Seconds an engine has to answer a Cancel before it counts as stuck."""
MAX_PIECES = 8
"""Most credit one PullUpload is given."""
RETRY_AFTER = 5.0
"""Seconds after which a caller may try again, where nothing better is known."""


class WorkerLink:
    """A WorkerClient over ZeroMQ, used as an async context manager. Raises LinkError on entry."""

    def __init__(self, settings: "Settings", spool_folder: Path, gateway_id: str) -> None:
        self._settings = settings
        self._spool_folder = spool_folder
        self._introduction = Introduce(gateway_id, f"{gateway_id}/probe", os.urandom(16).hex())
        self._lifecycle = Lifecycle(idle_timeout=settings.idle_timeout)
        self._supervisors: Peers[str] = Peers()
        self._engines: Peers[tuple[str, int]] = Peers()
        self._calls: dict[str, Call] = {}
        self._waiting: deque[Call] = deque()
        self._cancelling: dict[str, tuple[str, int, float]] = {}
        """Requests nobody waits for but an engine still holds: worker, epoch, deadline."""
        self._finished_epochs: set[tuple[str, int]] = set()
        self._is_draining = False
        self._is_closed = False
        self._absent_since = 0.0
        """When the last engine went."""
        self._lonely_since = 0.0
        """When the last worker went."""

    def __repr__(self) -> str:
        return f"<WorkerLink {len(self._waiting)} waiting, {self._lifecycle!r}>"

    # --- life of the link -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._absent_since = self._lonely_since = self._now
        probe = self._spool_folder / self._introduction.probe_file
        probe.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.write_text(self._introduction.probe_text)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._bind()
        self._empty = asyncio.Event()
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
        self._is_draining = True
        self._end_all_calls()
        self._clock.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._is_closed = True
        self._work.close()
        self._control.close()
        if self._zap is not None:
            self._loop.remove_reader(self._zap.FD)
            self._zap.close()
        self._context.term()
        (self._spool_folder / self._introduction.probe_file).unlink(missing_ok=True)

    async def drain(self, grace: float) -> None:
        """Take no new requests and wait at most `grace` seconds until those here are answered."""
        self._is_draining = True
        if not self._calls:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("requests were left unfinished requests=%d", len(self._calls))
            self._end_all_calls()

    def _bind(self) -> None:
        sockets.make_link_folder(self._settings.data_dir)
        addresses = sockets.link_addresses(self._settings.worker_link, self._settings.data_dir)
        keys, allowed = self._load_keys()
        self._zap: zmq.Socket[bytes] | None = None
        if keys is not None:
            self._zap = sockets.bind_zap(self._context)
            self._allowed_keys = allowed
            self._loop.add_reader(self._zap.FD, self._answer_zap)
        self._work = Router(
            sockets.bind_router(self._context, addresses.work, keys), "work", self._on_work
        )
        self._control = Router(
            sockets.bind_router(self._context, addresses.control, keys), "control", self._on_control
        )

    def _load_keys(self) -> tuple[sockets.CurveKeys | None, frozenset[bytes]]:
        if self._settings.worker_link == "ipc":
            return None, frozenset()
        from protocol.keys import load_allowed_workers, load_gateway_keys

        folder = self._settings.worker_link_keys
        if folder is None:
            raise sockets.LinkError("WORKER_LINK_KEYS must name the folder of the link's keys")
        return load_gateway_keys(folder), load_allowed_workers(folder)

    def _answer_zap(self) -> None:
        assert self._zap is not None
        while int(self._zap.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            question = self._zap.recv_multipart()
            self._zap.send_multipart(sockets.zap_answer(question, self._allowed_keys))

    @property
    def _now(self) -> float:
        return self._loop.time()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            try:
                self._tick()
            except Exception:
                logger.exception("a turn of the worker link failed")

    def _tick(self) -> None:
        now = self._now
        for peer in self._supervisors:
            self._control.send(peer, Heartbeat())
        for peer in self._engines:
            self._work.send(peer, Heartbeat())
        for peer in self._supervisors.silent(now):
            self._supervisor_lost(peer)
        for peer in self._engines.silent(now):
            self._engine_unlinked(peer)
        for call in [call for call in self._calls.values() if call.worker_id is not None]:
            if now - call.last_progress > self._settings.request_timeout:
                self._time_out(call)
        for request_id, (worker_id, epoch, deadline) in tuple(self._cancelling.items()):
            if now > deadline:
                del self._cancelling[request_id]
                logger.error("engine did not let go of a cancelled request worker=%s", worker_id)
                self._act(self._lifecycle.end_engine(worker_id, epoch))
        self._move()

    # --- the caller's side ------------------------------------------------------------------

    async def transcribe(
        self, request: TranscriptionRequest
    ) -> AsyncGenerator[ChunkDone | Progress | Final, None]:
        """See WorkerClient.transcribe."""
        if self._is_draining:
            raise _shutting_down()
        if len(self._waiting) >= self._settings.max_waiting_requests:
            raise TranscriptionFailed(
                FailureCode.QUEUE_FULL,
                "Too many recordings are waiting. Try again in a moment.",
                retry_after=RETRY_AFTER,
            )
        with _open_chunk_file(request) as chunks:
            call = Call(request, chunks, self._now)
            self._calls[request.request_id] = call
            self._waiting.append(call)
            self._move()
            try:
                async with aclosing(call.events()) as events:
                    async for event in events:
                        yield event
            finally:
                self._forget(call)

    def snapshot(self) -> ClientSnapshot:
        """See WorkerClient.snapshot."""
        reason = "the server is shutting down" if self._is_draining else self._lifecycle.why_not()
        return ClientSnapshot(
            workers=tuple(_snapshot(worker) for worker in self._lifecycle.workers),
            waiting_requests=len(self._waiting),
            can_serve=reason is None,
            reason=reason,
        )

    def _forget(self, call: Call) -> None:
        del self._calls[call.request.request_id]
        if not call.has_ended:
            self._take_back(call)
        if not self._calls:
            self._empty.set()
        self._move()

    def _take_back(self, call: Call) -> None:
        """Nobody waits for this call: out of the queue, or out of its engine."""
        if call.worker_id is None:
            if call in self._waiting:
                self._waiting.remove(call)
            return
        request_id, worker_id = call.request.request_id, call.worker_id
        worker = self._lifecycle.worker(worker_id)
        if worker is not None and worker.engine is not None:
            epoch = worker.engine.hello.epoch
            self._cancelling[request_id] = (worker_id, epoch, self._now + CANCEL_GRACE)
            self._send_to_engine(worker, Cancel(request_id))
        call.worker_id = None

    def _end(self, call: Call, outcome: Final | TranscriptionFailed) -> None:
        if call.worker_id is None and call in self._waiting:
            self._waiting.remove(call)
        call.worker_id = None
        call.end(outcome)

    def _end_all_calls(self) -> None:
        for call in tuple(self._calls.values()):
            self._take_back(call)
            self._end(call, _shutting_down())

    def _time_out(self, call: Call) -> None:
        logger.error("request made no progress request_id=%s", call.request.request_id)
        self._take_back(call)
        self._end(
            call,
            TranscriptionFailed(
                FailureCode.TIMED_OUT,
                "The recording made no progress for too long. Try again.",
                retry_after=RETRY_AFTER,
            ),
        )

    # --- moving requests and engines --------------------------------------------------------

    def _move(self) -> None:
        """Give waiting calls to engines, fail those that cannot be served, start and end engines.

        Every event ends here, so there is one place where requests and engines meet.
        """
        if self._is_closed:
            return
        now = self._now
        while self._waiting:
            call = self._waiting[0]
            alone = call.attempts.is_suspect
            worker = self._lifecycle.roomiest(alone=alone)
            if worker is None or not self._hand_over(call, worker, alone=alone):
                break
        self._act(self._lifecycle.decide(now, len(self._waiting)))
        self._fail_hopeless(now)

    def _hand_over(self, call: Call, worker: Worker, *, alone: bool) -> bool:
        self._waiting.popleft()
        engine = self._lifecycle.assign(worker, call.request.request_id, alone=alone)
        call.worker_id, call.last_progress = worker.worker_id, self._now
        if self._send_to_engine(worker, call.opening_message()):
            return True
        route = self._engines.route((worker.worker_id, engine.hello.epoch))
        if route is not None:
            self._engine_unlinked(route)
        return False

    def _send_to_engine(self, worker: Worker, message: Transcribe | Cancel | UploadPiece) -> bool:
        assert worker.engine is not None
        route = self._engines.route((worker.worker_id, worker.engine.hello.epoch))
        return route is not None and self._work.send(route, message)

    def _act(self, actions: Iterable[Start | Stop]) -> None:
        for action in actions:
            route = self._supervisors.route(action.worker_id)
            if route is None:
                continue
            if isinstance(action, Start):
                logger.info("engine was asked for worker=%s", action.worker_id)
                self._control.send(route, StartEngine())
            else:
                logger.info(
                    "engine was dismissed worker=%s epoch=%d", action.worker_id, action.epoch
                )
                self._control.send(route, StopEngine(action.epoch))

    def _fail_hopeless(self, now: float) -> None:
        """Answer callers for whom no engine will be there in time."""
        if not self._waiting:
            return
        workers = list(self._lifecycle.workers)
        if any(worker.engine is not None for worker in workers):
            return
        for call in tuple(self._waiting):
            waited = now - max(call.waiting_since, self._absent_since)
            lonely = now - max(call.waiting_since, self._lonely_since)
            if workers and (reason := self._lifecycle.why_not()) is not None:
                message = f"Speech recognition is not available: {reason}."
                self._end(call, _unavailable(message, self._lifecycle.retry_after()))
            elif not workers and lonely > WORKER_GRACE:
                message = "Speech recognition is not available: no worker is connected."
                self._end(call, _unavailable(message, RETRY_AFTER))
            elif waited > self._settings.worker_start_timeout:
                message = "The speech engine is still starting. Try again in a moment."
                self._end(call, _unavailable(message, RETRY_AFTER))

    def _orphans(self, request_ids: set[str], worker_id: str) -> list[Call]:
        """The calls an engine held when it was lost, latest first."""
        self._absent_since = self._now
        for request_id in request_ids:
            self._cancelling.pop(request_id, None)
        calls = [call for call in self._calls.values() if call.request.request_id in request_ids]
        return [call for call in reversed(calls) if call.worker_id == worker_id]

    def _engine_died(self, request_ids: set[str], worker_id: str) -> None:
        """Give the requests of a dead engine back to the queue, or convict one."""
        for call in self._orphans(request_ids, worker_id):
            call.attempts.engine_died()
            if call.attempts.is_poison:
                logger.error("request ended engines alone request_id=%s", call.request.request_id)
                self._end(
                    call,
                    TranscriptionFailed(
                        FailureCode.WORKER_FAILED,
                        "This recording ended the speech engine several times and is not tried "
                        "again.",
                    ),
                )
            else:
                self._requeue(call)

    def _requeue(self, call: Call) -> None:
        call.worker_id, call.waiting_since = None, self._now
        self._waiting.appendleft(call)

    # --- control link -----------------------------------------------------------------------

    def _on_control(self, peer: bytes, message: Any) -> None:
        worker_id = self._supervisors.heard(peer, self._now)
        if isinstance(message, SupervisorHello):
            self._welcome_supervisor(peer, message)
        elif worker_id is None:
            self._control.send(peer, self._introduction)
        elif isinstance(message, EngineStatus):
            self._on_status(worker_id, message)
        elif not isinstance(message, Heartbeat):
            logger.warning("unexpected %s on the control link", type(message).__name__)

    def _welcome_supervisor(self, peer: bytes, hello: SupervisorHello) -> None:
        if not self._supervisors.join(peer, hello.worker_id, self._now):
            text = f"a worker with id {hello.worker_id} is connected already: set WORKER_ID"
            self._control.send(peer, Refused("worker_id_taken", text))
            return
        if hello.model_id != self._settings.model_id:
            logger.warning(
                "worker serves another model than the gateway says worker=%s model=%s",
                hello.worker_id,
                hello.model_id,
            )
        logger.info("worker joined worker=%s model=%s", hello.worker_id, hello.model_id)
        self._lifecycle.supervisor_joined(hello.worker_id, hello.model_id)
        self._control.send(peer, Welcome())
        self._move()

    def _on_status(self, worker_id: str, status: EngineStatus) -> None:
        worker = self._lifecycle.worker(worker_id)
        before = worker.state if worker else None
        if before != status.state:
            logger.info(
                "engine is %s worker=%s epoch=%d%s",
                status.state,
                worker_id,
                status.epoch,
                f" failure={status.failure!r}" if status.failure else "",
            )
        lost = self._lifecycle.status_changed(worker_id, status, self._now)
        if lost or status.state in (EngineState.STOPPED, EngineState.FAILED):
            route = self._engines.route((worker_id, status.epoch))
            if route is not None:
                self._engines.leave(route)
        self._engine_died(lost, worker_id)
        self._move()

    def _supervisor_lost(self, peer: bytes) -> None:
        worker_id = self._supervisors.leave(peer)
        if worker_id is None:
            return
        logger.warning("worker was lost worker=%s", worker_id)
        self._lonely_since = self._now
        self._engine_died(self._lifecycle.supervisor_left(worker_id), worker_id)

    # --- work link --------------------------------------------------------------------------

    def _on_work(self, peer: bytes, message: Any) -> None:
        engine = self._engines.heard(peer, self._now)
        if isinstance(message, Hello):
            self._welcome_engine(peer, message)
        elif engine is None:
            self._work.send(peer, self._introduction)
        elif isinstance(message, PullUpload):
            self._send_pieces(engine, message)
        elif isinstance(message, Progress | ChunkDone | Final | Failed):
            self._on_answer(engine, message)
        elif not isinstance(message, Heartbeat):
            logger.warning("unexpected %s on the work link", type(message).__name__)

    def _welcome_engine(self, peer: bytes, hello: Hello) -> None:
        lost = self._lifecycle.engine_joined(hello, self._now)
        if lost is None:
            return  # asked again at its next heartbeat, when its supervisor is known
        self._engines.leave(peer)
        stale = self._engines.route((hello.worker_id, hello.epoch))
        if stale is not None:
            self._engines.leave(stale)
        self._engines.join(peer, (hello.worker_id, hello.epoch), self._now)
        self._work.send(peer, Welcome())
        self._engine_died(lost, hello.worker_id)
        logger.info(
            "engine joined worker=%s epoch=%d capacity=%d sees_spool=%s",
            hello.worker_id,
            hello.epoch,
            hello.capacity,
            hello.sees_spool,
        )
        self._move()

    def _engine_unlinked(self, peer: bytes) -> None:
        engine = self._engines.leave(peer)
        if engine is None:
            return
        worker_id, epoch = engine
        logger.warning("engine fell silent worker=%s epoch=%d", worker_id, epoch)
        lost = self._lifecycle.engine_left(worker_id, epoch, self._now)
        for call in self._orphans(lost, worker_id):
            self._requeue(call)

    def _on_answer(
        self, engine: tuple[str, int], message: Progress | ChunkDone | Final | Failed
    ) -> None:
        worker_id = engine[0]
        if isinstance(message, Final | Failed):
            self._cancelling.pop(message.request_id, None)
            self._lifecycle.finished(worker_id, message.request_id, self._now)
        call = self._calls.get(message.request_id)
        is_current = (
            call is not None
            and call.worker_id == worker_id
            and call.attempts.count == message.attempt
        )
        if call is not None and is_current:
            self._apply(call, engine, message)
        self._move()

    def _apply(
        self, call: Call, engine: tuple[str, int], message: Progress | ChunkDone | Final | Failed
    ) -> None:
        if isinstance(message, Progress):
            call.note_progress(message, self._now)
            return
        if isinstance(message, Failed):
            self._apply_failure(call, message)
            return
        self._note_finished_work(engine)
        if isinstance(message, Final):
            self._end(call, message)
            return
        self._lifecycle.release_reservation(engine[0])
        try:
            call.add_chunk(message, self._now)
        except OSError as error:
            logger.error("finished chunk could not be stored error=%s", error.strerror)
            self._take_back(call)
            self._end(call, _storage_full())

    def _apply_failure(self, call: Call, failed: Failed) -> None:
        if failed.code is FailureCode.SHUTTING_DOWN:
            self._requeue(call)
            return
        is_ours = failed.code in (FailureCode.INFERENCE_FAILED, FailureCode.INPUT_LOST)
        self._end(
            call,
            TranscriptionFailed(
                failed.code, failed.message, retry_after=RETRY_AFTER if is_ours else None
            ),
        )

    def _note_finished_work(self, engine: tuple[str, int]) -> None:
        if engine in self._finished_epochs:
            return
        route = self._supervisors.route(engine[0])
        if route is not None and self._control.send(route, EngineFinishedWork(engine[1])):
            self._finished_epochs = {
                known for known in self._finished_epochs if known[0] != engine[0]
            } | {engine}

    def _send_pieces(self, engine: tuple[str, int], pull: PullUpload) -> None:
        """Send what was asked for of a request this engine holds; nothing for any other."""
        call = self._calls.get(pull.request_id)
        worker = self._lifecycle.worker(engine[0])
        if call is None or call.worker_id != engine[0] or worker is None or worker.engine is None:
            return
        call.last_progress = self._now
        with call.request.upload_path.open("rb", buffering=0) as upload:
            for number in range(min(pull.pieces, MAX_PIECES)):
                offset = pull.offset + number * UPLOAD_PIECE_BYTES
                content = os.pread(upload.fileno(), UPLOAD_PIECE_BYTES, offset)
                is_last = offset + len(content) >= call.request.upload_bytes
                piece = UploadPiece(pull.request_id, offset, content, is_last)
                if not self._send_to_engine(worker, piece) or is_last:
                    return


def _open_chunk_file(request: TranscriptionRequest) -> ChunkFile:
    try:
        return ChunkFile(request.chunks_path, request_id=request.request_id, owner=request.owner)
    except OSError as error:
        logger.error("chunk file could not be created error=%s", error.strerror)
        raise _storage_full() from error


def _storage_full() -> TranscriptionFailed:
    return TranscriptionFailed(
        FailureCode.STORAGE_FULL,
        "The server has no disk space left. Try again later.",
        retry_after=RETRY_AFTER,
    )


def _shutting_down() -> TranscriptionFailed:
    return TranscriptionFailed(
        FailureCode.SHUTTING_DOWN,
        "The server is shutting down. Try again in a moment.",
        retry_after=RETRY_AFTER,
    )


def _unavailable(message: str, retry_after: float | None) -> TranscriptionFailed:
    return TranscriptionFailed(
        FailureCode.WORKER_UNAVAILABLE, message, retry_after=retry_after or RETRY_AFTER
    )


def _snapshot(worker: Worker) -> WorkerSnapshot:
    status = worker.status
    return WorkerSnapshot(
        worker_id=worker.worker_id,
        state=worker.state,
        model_id=worker.model_id,
        stage=status.stage if status else "",
        done_bytes=status.done_bytes if status else 0,
        total_bytes=status.total_bytes if status else None,
        failure=status.failure if status else None,
        resident_bytes=status.resident_bytes if status else None,
        running_requests=worker.running_requests,
    )
