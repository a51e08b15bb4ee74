"""Which workers exist, what their engines can take, and when one is started or ended.

Pure: time comes in as an argument, decisions go out as values. Owns no request and no socket.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from protocol.control import EngineState, EngineStatus
from protocol.transcription import Hello

WORKER_GRACE = 10.0
"""Seconds a request waits for a first worker to connect before it is told that there is none."""
LINK_GRACE = 30.0
"""Seconds an engine may be ready without having said Hello; then it is ended as unreachable."""


@dataclass(frozen=True, slots=True)
class Start:
    """Ask this worker's supervisor for an engine."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask this worker's supervisor to end the engine of this epoch."""

    worker_id: str
    epoch: int


@dataclass(slots=True)
class Engine:
    """A connected engine process and the requests it holds."""

    hello: Hello
    running: set[str] = field(default_factory=set)
    is_reserved: bool = False
    """Runs one suspect request and takes no other until that one has shown itself harmless."""
    last_busy: float = 0.0

    @property
    def free(self) -> int:
        """How many more requests it takes."""
        return 0 if self.is_reserved else self.hello.capacity - len(self.running)


@dataclass(slots=True)
class Worker:
    """A connected supervisor, what it last said of its engine, and what was asked of it."""

    worker_id: str
    model_id: str
    status: EngineStatus | None = None
    engine: Engine | None = None
    is_wanted: bool = False
    """StartEngine was sent and no engine has become ready since."""
    stop_sent: int | None = None
    """Epoch whose end was asked for and has not been confirmed."""
    withdrawn: EngineState | None = None
    """State in which the supervisor was told that nobody waits for the engine it tries to start."""
    unlinked_since: float = 0.0

    @property
    def state(self) -> EngineState:
        return self.status.state if self.status else EngineState.STOPPED

    @property
    def running_requests(self) -> int:
        return len(self.engine.running) if self.engine else 0

    @property
    def is_coming_up(self) -> bool:
        """Whether an engine will be there without asking again."""
        if self.engine is not None or self.stop_sent is not None:
            return False
        if self.is_wanted:
            return self.state is not EngineState.FAILED
        return self.state in (EngineState.STARTING, EngineState.READY)


class Lifecycle:
    """The fleet of workers of one gateway."""

    def __init__(self, *, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._workers: dict[str, Worker] = {}

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{worker.worker_id} {worker.state} running {worker.running_requests}"
            for worker in self._workers.values()
        )
        return f"<Lifecycle {parts or 'no workers'}>"

    @property
    def workers(self) -> Iterator[Worker]:
        """Every connected worker, in the order they said hello."""
        yield from self._workers.values()

    def worker(self, worker_id: str) -> Worker | None:
        """The worker of that id, if it is connected."""
        return self._workers.get(worker_id)

    def supervisor_joined(self, worker_id: str, model_id: str) -> None:
        """A supervisor said hello (again); what its engine does follows in EngineStatus."""
        known = self._workers.get(worker_id)
        if known is None:
            self._workers[worker_id] = Worker(worker_id, model_id)
        else:
            known.model_id, known.is_wanted, known.stop_sent = model_id, False, None

    def supervisor_left(self, worker_id: str) -> set[str]:
        """A supervisor is gone; the requests its engine held are returned."""
        worker = self._workers.pop(worker_id, None)
        return worker.engine.running if worker and worker.engine else set()

    def status_changed(self, worker_id: str, status: EngineStatus, now: float) -> set[str]:
        """Note what a supervisor says; returns the requests of an engine it declares dead."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return set()
        previous, worker.status = worker.status, status
        if worker.withdrawn is not status.state:
            worker.withdrawn = None
        if status.state is EngineState.READY:
            worker.is_wanted = False
            if previous is None or previous.state is not EngineState.READY:
                worker.unlinked_since = now
        if worker.stop_sent is not None and _has_ended(status, worker.stop_sent):
            worker.stop_sent = None
        if worker.engine is not None and _has_ended(status, worker.engine.hello.epoch):
            return self._drop_engine(worker, now)
        return set()

    def engine_joined(self, hello: Hello, now: float) -> set[str] | None:
        """An engine said Hello; returns requests of the engine it replaces.

        None where it does not belong: its supervisor is unknown yet, or it is of an ended epoch.
        """
        worker = self._workers.get(hello.worker_id)
        if worker is None or (worker.status and _has_ended(worker.status, hello.epoch)):
            return None
        lost = worker.engine.running if worker.engine else set()
        worker.engine = Engine(hello, last_busy=now)
        worker.is_wanted = False
        return lost

    def engine_left(self, worker_id: str, epoch: int, now: float) -> set[str]:
        """The work link to an engine broke; returns the requests it held."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.engine is None or worker.engine.hello.epoch != epoch:
            return set()
        return self._drop_engine(worker, now)

    def roomiest(self, *, alone: bool) -> Worker | None:
        """The worker whose engine takes the next request; for a suspect one, an empty engine."""
        candidates = [
            worker
            for worker in self._workers.values()
            if worker.engine is not None
            and worker.stop_sent is None
            and (not worker.engine.running if alone else worker.engine.free > 0)
        ]
        return max(candidates, key=lambda worker: _free(worker), default=None)

    def assign(self, worker: Worker, request_id: str, *, alone: bool) -> Engine:
        """Note that this worker's engine now holds the request."""
        engine = worker.engine
        assert engine is not None
        engine.running.add(request_id)
        engine.is_reserved = alone
        return engine

    def release_reservation(self, worker_id: str) -> None:
        """The suspect request has shown itself harmless: others may join it."""
        worker = self._workers.get(worker_id)
        if worker and worker.engine:
            worker.engine.is_reserved = False

    def finished(self, worker_id: str, request_id: str, now: float) -> None:
        """An engine holds this request no longer."""
        worker = self._workers.get(worker_id)
        if worker and worker.engine and request_id in worker.engine.running:
            worker.engine.running.discard(request_id)
            worker.engine.is_reserved = worker.engine.is_reserved and bool(worker.engine.running)
            worker.engine.last_busy = now

    def decide(self, now: float, waiting: int) -> list[Start | Stop]:
        """What to ask of supervisors now; asking is noted, so it is not asked twice."""
        actions: list[Start | Stop] = []
        if waiting > sum(_free(worker) for worker in self._workers.values()):
            actions += self._start_one()
        for worker in self._workers.values():
            if not waiting and (withdrawal := _withdraw(worker)) is not None:
                actions.append(withdrawal)
            epoch = self._epoch_to_end(worker, now, waiting)
            if epoch is not None:
                worker.stop_sent, worker.is_wanted = epoch, False
                actions.append(Stop(worker.worker_id, epoch))
        return actions

    def end_engine(self, worker_id: str, epoch: int) -> list[Start | Stop]:
        """End an engine found stuck."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.stop_sent == epoch:
            return []
        worker.stop_sent = epoch
        return [Stop(worker_id, epoch)]

    def why_not(self) -> str | None:
        """Why a request sent now would not be served, for the operator; None if it would."""
        if not self._workers:
            return "no worker is connected"
        if any(worker.state is not EngineState.FAILED for worker in self._workers.values()):
            return None
        faults = {
            worker.status.failure or "unknown reason"
            for worker in self._workers.values()
            if worker.status
        }
        return "the engine cannot be started: " + "; ".join(sorted(faults))

    def retry_after(self) -> float | None:
        """Seconds until some failed worker is tried again."""
        times = [
            worker.status.retry_after
            for worker in self._workers.values()
            if worker.status and worker.status.retry_after is not None
        ]
        return min(times, default=None)

    def _start_one(self) -> list[Start | Stop]:
        """One start at a time: its engine's capacity is unknown until it is there."""
        if any(worker.is_coming_up for worker in self._workers.values()):
            return []
        for worker in sorted(self._workers.values(), key=_start_preference):
            if worker.engine is None and worker.stop_sent is None and not worker.is_wanted:
                worker.is_wanted, worker.withdrawn = True, None
                return [Start(worker.worker_id)]
        return []

    def _epoch_to_end(self, worker: Worker, now: float, waiting: int) -> int | None:
        if worker.stop_sent is not None:
            return None
        engine = worker.engine
        if engine is None:
            is_lost = (
                worker.state is EngineState.READY and now - worker.unlinked_since >= LINK_GRACE
            )
            return worker.status.epoch if is_lost and worker.status else None
        is_idle = not engine.running and not waiting and self._idle_timeout > 0
        if is_idle and now - engine.last_busy >= self._idle_timeout:
            return engine.hello.epoch
        return None

    def _drop_engine(self, worker: Worker, now: float) -> set[str]:
        engine, worker.engine = worker.engine, None
        worker.unlinked_since = now
        return engine.running if engine else set()


def _free(worker: Worker) -> int:
    return worker.engine.free if worker.engine and worker.stop_sent is None else 0


def _withdraw(worker: Worker) -> Stop | None:
    """Nobody waits: a supervisor whose engine does not start need not go on trying."""
    if worker.state not in (EngineState.BACKING_OFF, EngineState.FAILED) or worker.status is None:
        return None
    if worker.withdrawn is worker.state:
        return None
    worker.is_wanted, worker.withdrawn = False, worker.state
    return Stop(worker.worker_id, worker.status.epoch)


def _has_ended(status: EngineStatus, epoch: int) -> bool:
    """Whether a status says that the engine of that epoch is no more."""
    if status.epoch != epoch:
        return status.epoch > epoch
    return status.state in (EngineState.STOPPED, EngineState.BACKING_OFF, EngineState.FAILED)


def _start_preference(worker: Worker) -> bool:
    """Workers without a failure first."""
    return worker.state in (EngineState.BACKING_OFF, EngineState.FAILED)
