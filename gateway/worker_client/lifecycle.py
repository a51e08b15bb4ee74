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
CROWDED = 16
"""Requests of one engine beyond which a further one has another worker start its engine."""
START_PATIENCE = 15.0
"""Seconds an engine may take to start before requests that wait have another worker start one."""


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
    suspect: str | None = None
    """The one request of them that runs alone until it has shown itself harmless."""
    last_busy: float = 0.0
    is_ending: bool = False
    """It has said so itself."""
    sessions: set[str] = field(default_factory=set)
    """Live sessions it holds; they take no places of requests."""
    has_died: bool = False
    """Its process is known to have ended."""

    @property
    def free(self) -> int:
        """How many more requests it takes."""
        return 0 if self.is_ending else self.hello.capacity - len(self.running)


@dataclass(slots=True)
class Worker:
    """A connected worker: what its supervisor last said, and what was asked of it."""

    worker_id: str
    instance: str
    is_supervised: bool = True
    """Whether its supervisor is there; an engine is used as long as its own link lives."""
    status: EngineStatus | None = None
    engine: Engine | None = None
    asked_at: float | None = None
    """When StartEngine was sent, while no engine has become ready since."""
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
    def free(self) -> int:
        """How many more requests its engine takes now."""
        return self.engine.free if self.engine is not None and self.takes_work else 0

    @property
    def takes_work(self) -> bool:
        """Whether its engine is there and stays."""
        if self.engine is None or self.engine.is_ending or self.stop_sent is not None:
            return False
        return self.state is not EngineState.STOPPING

    def is_coming_up(self, now: float) -> bool:
        """Whether an engine will soon be there without asking anybody."""
        if self.engine is not None or self.stop_sent is not None or not self.is_supervised:
            return False
        if self.state in (EngineState.BACKING_OFF, EngineState.FAILED):
            return False
        if self.asked_at is not None:
            return now - self.asked_at < START_PATIENCE
        return self.state in (EngineState.STARTING, EngineState.READY)


@dataclass(frozen=True, slots=True)
class Joined:
    """An engine was taken in."""

    lost: frozenset[str]
    """Requests of the engine in its place so far."""
    is_same_engine: bool
    """Whether it is that engine, over a new connection."""


class Lifecycle:
    """The fleet of workers of one gateway."""

    def __init__(self, *, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._workers: dict[str, Worker] = {}
        self.expected = 0
        """Requests on their way in: a reason to keep an engine, none to start one."""
        self._wanted_until = float("-inf")
        self._is_crowded = False
        """Whether a request went to a crowded engine since the last decision."""

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

    def want_until(self, moment: float) -> None:
        """Somebody will need an engine: until then one is started where none runs, and kept."""
        self._wanted_until = max(self._wanted_until, moment)

    def supervisor_joined(self, worker_id: str, instance: str, now: float) -> set[str]:
        """A supervisor said hello; what its engine does follows in EngineStatus.

        Returns the requests of the engine of an earlier instance, which ended with it.
        """
        known = self._workers.get(worker_id)
        if known is None or known.instance != instance:
            self._workers[worker_id] = Worker(worker_id, instance, unlinked_since=now)
            return known.engine.running if known and known.engine else set()
        # Orders may have been lost with its old connection: they are given again.
        known.is_supervised = True
        known.asked_at = known.stop_sent = known.withdrawn = None
        return set()

    def supervisor_left(self, worker_id: str) -> None:
        """A supervisor fell silent. Its engine, if it has one, speaks for itself."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.is_supervised = False
            self._remove_if_gone(worker)

    def status_changed(self, worker_id: str, status: EngineStatus, now: float) -> set[str]:
        """Note what a supervisor says; returns the requests of an engine it declares dead."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return set()
        previous, worker.status = worker.status, status
        if worker.withdrawn is not status.state:
            worker.withdrawn = None
        if status.state is EngineState.READY:
            worker.asked_at = None
            if previous is None or previous.state is not EngineState.READY:
                worker.unlinked_since = now
        if worker.stop_sent is not None and _has_ended(status, worker.stop_sent):
            worker.stop_sent = None
        if worker.engine is not None and _has_ended(status, worker.engine.hello.epoch):
            worker.engine.has_died = True
            return self._drop_engine(worker, now)
        return set()

    def engine_joined(self, hello: Hello, now: float) -> Joined | None:
        """An engine said Hello.

        None where it does not belong: its supervisor is unknown yet, or it is of an ended epoch.
        """
        worker = self._workers.get(hello.worker_id)
        if worker is None or (worker.status and _has_ended(worker.status, hello.epoch)):
            return None
        before, worker.engine = worker.engine, Engine(hello, last_busy=now)
        worker.asked_at = None
        if before is None:
            return Joined(frozenset(), is_same_engine=False)
        before.has_died = before.hello.epoch != hello.epoch
        return Joined(frozenset(before.running), before.hello.epoch == hello.epoch)

    def engine_left(self, worker_id: str, epoch: int, now: float) -> set[str]:
        """The work link to an engine broke; returns the requests it held."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.engine is None or worker.engine.hello.epoch != epoch:
            return set()
        return self._drop_engine(worker, now)

    def roomiest(self, *, is_suspect: bool) -> Worker | None:
        """The worker whose engine takes the next request; an engine takes one suspect at a time."""
        takers = [worker for worker in self._workers.values() if worker.free > 0]
        if is_suspect:
            takers = [worker for worker in takers if worker.engine and not worker.engine.suspect]
        return max(takers, key=lambda worker: worker.free, default=None)

    def assign(self, worker: Worker, request_id: str, *, is_suspect: bool) -> Engine:
        """Note that this worker's engine now holds the request."""
        engine = worker.engine
        assert engine is not None
        self._is_crowded = self._is_crowded or len(engine.running) >= CROWDED
        engine.running.add(request_id)
        if is_suspect:
            engine.suspect = request_id
        return engine

    def quietest(self) -> Worker | None:
        """The worker whose engine takes the next live session: that with the fewest."""
        takers = [
            (len(worker.engine.sessions), number, worker)
            for number, worker in enumerate(self._workers.values())
            if worker.takes_work and worker.engine is not None
        ]
        return min(takers)[2] if takers else None

    def hold(self, worker: Worker, session_id: str) -> Engine:
        """Note that this worker's engine now holds the live session."""
        assert worker.engine is not None
        worker.engine.sessions.add(session_id)
        return worker.engine

    def released(self, engine: Engine, session_id: str, now: float) -> None:
        """An engine holds this live session no longer."""
        engine.sessions.discard(session_id)
        engine.last_busy = now

    def cleared(self, worker_id: str, request_id: str) -> None:
        """A request has shown itself harmless."""
        worker = self._workers.get(worker_id)
        if worker and worker.engine and worker.engine.suspect == request_id:
            worker.engine.suspect = None

    def finished(self, worker_id: str, request_id: str, now: float) -> None:
        """An engine holds this request no longer."""
        worker = self._workers.get(worker_id)
        if worker and worker.engine and request_id in worker.engine.running:
            worker.engine.running.discard(request_id)
            worker.engine.last_busy = now
            self.cleared(worker_id, request_id)

    def engine_is_ending(self, worker_id: str, epoch: int) -> None:
        """An engine gave a request back because it ends: it gets nothing more."""
        worker = self._workers.get(worker_id)
        if worker and worker.engine and worker.engine.hello.epoch == epoch:
            worker.engine.is_ending = True

    def decide(self, now: float, waiting: int, waiting_sessions: int = 0) -> list[Start | Stop]:
        """What to ask of supervisors now; asking is noted, so it is not asked twice. Sessions wait
        only where no engine takes any."""
        actions: list[Start | Stop] = []
        lacks_places = waiting > sum(worker.free for worker in self._workers.values())
        is_wanted = now < self._wanted_until
        lacks_engine = is_wanted and not any(each.takes_work for each in self._workers.values())
        if lacks_places or waiting_sessions or self._is_crowded or lacks_engine:
            actions += self._start_one(now)
        waiting += waiting_sessions + is_wanted
        self._is_crowded = False
        for worker in self._workers.values():
            if not worker.is_supervised:
                continue
            if not waiting and (withdrawal := _withdraw(worker)) is not None:
                actions.append(withdrawal)
            epoch = self._epoch_to_end(worker, now, waiting)
            if epoch is not None:
                worker.stop_sent, worker.asked_at = epoch, None
                actions.append(Stop(worker.worker_id, epoch))
        return actions

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

    def _start_one(self, now: float) -> list[Start | Stop]:
        """One start at a time: its engine's capacity is unknown until it is there."""
        if any(worker.is_coming_up(now) for worker in self._workers.values()):
            return []
        for worker in sorted(self._workers.values(), key=_start_preference):
            is_idle = worker.engine is None and worker.stop_sent is None
            if worker.is_supervised and is_idle and worker.asked_at is None:
                worker.asked_at, worker.withdrawn = now, None
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
        is_wanted = engine.running or engine.sessions or waiting or self.expected
        is_idle = not is_wanted and self._idle_timeout > 0
        if is_idle and now - engine.last_busy >= self._idle_timeout:
            return engine.hello.epoch
        return None

    def _drop_engine(self, worker: Worker, now: float) -> set[str]:
        engine, worker.engine = worker.engine, None
        worker.unlinked_since = now
        self._remove_if_gone(worker)
        return engine.running if engine else set()

    def _remove_if_gone(self, worker: Worker) -> None:
        if not worker.is_supervised and worker.engine is None:
            del self._workers[worker.worker_id]


def _withdraw(worker: Worker) -> Stop | None:
    """Nobody waits: a supervisor whose engine does not start need not go on trying."""
    if worker.state not in (EngineState.BACKING_OFF, EngineState.FAILED) or worker.status is None:
        return None
    if worker.withdrawn is worker.state:
        return None
    worker.asked_at, worker.withdrawn = None, worker.state
    return Stop(worker.worker_id, worker.status.epoch)


def _has_ended(status: EngineStatus, epoch: int) -> bool:
    """Whether a status says that the engine of that epoch is no more."""
    if status.epoch != epoch:
        return status.epoch > epoch
    return status.state in (EngineState.STOPPED, EngineState.BACKING_OFF, EngineState.FAILED)


def _start_preference(worker: Worker) -> bool:
    """Workers without a failure first."""
    return worker.state in (EngineState.BACKING_OFF, EngineState.FAILED)
