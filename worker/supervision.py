"""When an engine process is started, ended, given up and tried again. Pure: no clock, no process.

Events go in with the time, actions come out; supervisor.py carries them out. Times are seconds
of any monotonic clock.
"""

from collections import deque
from dataclasses import replace

from protocol.control import EngineState, EngineStatus
from protocol.limits import HEARTBEAT_INTERVAL, HEARTBEATS_MISSED
from worker.engine_status import Beat, EngineReport, Failure, Loading, Ready
from worker.value import Value


class Timing(Value):
    """How patient the supervisor is, in seconds."""

    beat_interval: float = HEARTBEAT_INTERVAL
    beats_missed: int = HEARTBEATS_MISSED
    load_stall: float = 300.0
    """Longest loading without a change of stage or bytes."""
    step: float = 120.0
    """Longest work without a finished step."""
    stop_grace: float = 10.0
    """From SIGTERM to SIGKILL."""
    first_back_off: float = 1.0
    longest_back_off: float = 30.0
    failures_until_failed: int = 5
    failure_window: float = 600.0
    failed_retry: float = 60.0
    progress_interval: float = 1.0
    """Least time between two statuses that differ in bytes only."""


class StartWanted(Value):
    """The gateway has work. Holds until StopWanted or GatewayLost."""


class StopWanted(Value):
    """The gateway has no more use for the engine of this epoch."""

    epoch: int


class Reported(Value):
    """The engine process said something."""

    epoch: int
    report: EngineReport


class Misspoke(Value):
    """The engine process said something that nobody can read."""

    epoch: int


class Exited(Value):
    """The engine process and its children are gone and reaped; code is None after a signal."""

    epoch: int
    code: int | None = None
    signal: int | None = None


class SpawnFailed(Value):
    """No engine process could be made."""

    epoch: int
    reason: str


class WorkFinished(Value):
    """The engine of this epoch finished a unit of work."""

    epoch: int


class GatewayLost(Value):
    """The gateway fell silent: nobody is left to want the engine."""


class GatewayReplaced(Value):
    """Another gateway is there. What runs may serve it; what the first one wanted is void."""


class Shutdown(Value):
    """This supervisor is to end with this code; the second time, at once."""

    code: int = 0


class Tick(Value):
    """Time passed."""


Event = (
    StartWanted
    | StopWanted
    | Reported
    | Misspoke
    | Exited
    | SpawnFailed
    | WorkFinished
    | GatewayLost
    | GatewayReplaced
    | Shutdown
    | Tick
)


class Spawn(Value):
    """Make the engine process of this epoch; answered by Reported, Exited or SpawnFailed."""

    epoch: int


class Terminate(Value):
    """SIGTERM to the process."""

    epoch: int


class Kill(Value):
    """SIGKILL to the whole process group."""

    epoch: int


class Report(Value):
    """Tell the gateway; resident_bytes is left for the caller to fill in."""

    status: EngineStatus


class Exit(Value):
    """End the supervisor; no engine process is left."""

    code: int


Action = Spawn | Terminate | Kill | Report | Exit

RUNNING = (EngineState.STARTING, EngineState.READY)
RETRYING = (EngineState.BACKING_OFF, EngineState.FAILED)


class Supervision:
    """The life of one worker's engine processes, one at a time, counted by epoch."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._state = EngineState.STOPPED
        self._epoch = 0
        self._wanted = False
        self._failure: str | None = None
        self._fault: str | None = None
        """What the current process did wrong; None while its end would be a clean one."""
        self._finished_work = False
        self._stage = ""
        self._bytes: tuple[int, int | None] = (0, None)
        """Done and in total, of the current stage."""
        self._moved_at = 0.0
        """When loading, or the work of a ready engine, last got further."""
        self._beat_at = 0.0
        self._steps = 0
        self._is_busy = False
        self._kill_at: float | None = None
        self._retry_at = 0.0
        self._exit_code: int | None = None
        # As many as the longest back-off needs; a list of all of them could grow for ever.
        self._failures: deque[tuple[int, float]] = deque(maxlen=timing.failures_until_failed + 1)
        """Epoch and time of each death before the first finished work."""
        self._last_event_at: float | None = None
        self._told: EngineStatus | None = None
        self._told_at = 0.0

    def __repr__(self) -> str:
        wanted = "wanted" if self._wanted else "not wanted"
        return (
            f"<Supervision epoch {self._epoch} {self._state}, {wanted}, "
            f"{len(self._failures)} failures>"
        )

    @property
    def epoch(self) -> int:
        """The current or last engine process; 0 before the first."""
        return self._epoch

    def status(self, now: float) -> EngineStatus:
        """What a gateway that asks is told."""
        starting = self._state == EngineState.STARTING
        retrying = self._state in RETRYING
        return EngineStatus(
            state=self._state,
            epoch=self._epoch,
            stage=self._stage if starting else "",
            done_bytes=self._bytes[0] if starting else 0,
            total_bytes=self._bytes[1] if starting else None,
            failure=self._failure,
            retry_after=max(0.0, self._retry_at - now) if retrying else None,
            resident_bytes=None,
        )

    def deadline(self) -> float | None:
        """When Tick is next worth sending, if nothing else happens before."""
        timing = self._timing
        if self._state == EngineState.STARTING:
            stalled_at = self._moved_at + timing.load_stall
            untold = self._told is not None and _bytes(self._told) != self._bytes
            return (
                min(stalled_at, self._told_at + timing.progress_interval) if untold else stalled_at
            )
        if self._state == EngineState.READY:
            silent_at = self._beat_at + timing.beat_interval * timing.beats_missed
            return min(silent_at, self._moved_at + timing.step) if self._is_busy else silent_at
        if self._state == EngineState.STOPPING:
            return self._kill_at
        is_told = self._told is not None and self._told.retry_after == 0.0
        return self._retry_at if self._state in RETRYING and not is_told else None

    def on(self, event: Event, now: float) -> list[Action]:
        """What to do about one event, in order."""
        self._forgive_own_absence(now)
        actions = self._decide(event, now) + self._changes(now)
        return sorted(actions, key=lambda action: isinstance(action, Exit))

    def _forgive_own_absence(self, now: float) -> None:
        """A supervisor that was itself paused heard no beats, whoever sent them."""
        last, self._last_event_at = self._last_event_at, now
        if last is None or now - last < self._timing.beat_interval * self._timing.beats_missed:
            return
        self._beat_at += now - last
        self._moved_at += now - last

    def _decide(self, event: Event, now: float) -> list[Action]:
        match event:
            case StartWanted():
                return self._start_wanted(now)
            case StopWanted(epoch):
                return self._not_wanted(now) if epoch == self._epoch else []
            case Reported(epoch, report):
                return self._heard(report, now) if epoch == self._epoch else []
            case Misspoke(epoch):
                fault = "the engine process sent a status that cannot be read"
                return self._end_faulty(fault) if epoch == self._epoch else []
            case Exited(epoch, code, signal):
                return self._exited(_how_it_ended(code, signal), now) if self._is(epoch) else []
            case SpawnFailed(epoch, reason):
                return self._exited(reason, now) if self._is(epoch) else []
            case WorkFinished(epoch):
                return self._forgive(epoch, now)
            case GatewayLost():
                return self._not_wanted(now)
            case GatewayReplaced():
                self._wanted = False
                return []
            case Shutdown(code):
                return self._shut_down(code, now)
            case Tick():
                return self._tick(now)

    def _is(self, epoch: int) -> bool:
        return epoch == self._epoch and self._state in (*RUNNING, EngineState.STOPPING)

    def _start_wanted(self, now: float) -> list[Action]:
        if self._exit_code is not None:
            return []
        self._wanted = True
        due = self._state in RETRYING and now >= self._retry_at
        return self._spawn(now) if due or self._state == EngineState.STOPPED else []

    def _spawn(self, now: float) -> list[Action]:
        self._epoch += 1
        self._state = EngineState.STARTING
        self._stage, self._bytes = "spawn", (0, None)
        self._moved_at = self._beat_at = now
        self._steps, self._is_busy = 0, False
        self._fault, self._finished_work, self._kill_at = None, False, None
        return [Spawn(self._epoch)]

    def _not_wanted(self, now: float) -> list[Action]:
        self._wanted = False
        return self._terminate(now) if self._state in RUNNING else []

    def _terminate(self, now: float) -> list[Action]:
        self._state = EngineState.STOPPING
        self._kill_at = now + self._timing.stop_grace
        return [Terminate(self._epoch)]

    def _end_faulty(self, fault: str) -> list[Action]:
        """No SIGTERM: a process that is stuck or out of its mind will not heed one."""
        if self._state not in RUNNING:
            return []
        self._state, self._fault, self._kill_at = EngineState.STOPPING, fault, None
        return [Kill(self._epoch)]

    def _heard(self, report: EngineReport, now: float) -> list[Action]:
        self._beat_at = now
        match report:
            case Failure(message):
                return self._await_end(message, now)
            case Loading(stage, done_bytes, total_bytes):
                if (stage, done_bytes) != (self._stage, self._bytes[0]):
                    self._moved_at = now
                self._stage, self._bytes = stage, (done_bytes, total_bytes)
            case Ready() if self._state == EngineState.STARTING:
                self._state, self._moved_at = EngineState.READY, now
            case Beat(steps, busy):
                is_stuck = steps == self._steps and busy and self._is_busy
                if self._state == EngineState.READY and not is_stuck:
                    self._moved_at = now
                self._steps, self._is_busy = steps, busy
        return []

    def _await_end(self, fault: str, now: float) -> list[Action]:
        """The engine ends itself; only one that does not is ended."""
        if self._state in RUNNING:
            self._state, self._fault = EngineState.STOPPING, fault
            self._kill_at = now + self._timing.stop_grace
        return []

    def _exited(self, how: str, now: float) -> list[Action]:
        was_asked_to = self._state == EngineState.STOPPING and self._fault is None
        self._failure = None if was_asked_to else self._fault or how
        if self._failure is not None and not self._finished_work:
            self._failures.append((self._epoch, now))
        self._state, self._kill_at = EngineState.STOPPED, None
        if self._exit_code is not None:
            return [Exit(self._exit_code)]
        if self._failure is not None and not self._finished_work:
            self._back_off(now)
            return []
        return self._spawn(now) if self._wanted else []

    def _back_off(self, now: float) -> None:
        timing = self._timing
        recent = [at for _, at in self._failures if now - at < timing.failure_window]
        if len(recent) >= timing.failures_until_failed:
            self._state, self._retry_at = EngineState.FAILED, now + timing.failed_retry
            return
        delay = timing.first_back_off * 2 ** (len(self._failures) - 1)
        self._state = EngineState.BACKING_OFF
        self._retry_at = now + min(delay, timing.longest_back_off)

    def _forgive(self, epoch: int, now: float) -> list[Action]:
        """Also for an epoch that has died meanwhile: the news of its work was only late."""
        if epoch > self._epoch:
            return []
        self._finished_work = self._finished_work or epoch == self._epoch
        while self._failures and self._failures[0][0] <= epoch:
            self._failures.popleft()
        if self._failures or self._state not in RETRYING:
            return []
        self._state = EngineState.STOPPED
        return self._spawn(now) if self._wanted else []

    def _shut_down(self, code: int, now: float) -> list[Action]:
        self._wanted = False
        is_second = self._exit_code is not None
        self._exit_code = code if self._exit_code is None else self._exit_code
        if self._state in RUNNING and not is_second:
            return self._terminate(now)
        if self._state in (*RUNNING, EngineState.STOPPING):
            return self._kill_now() if is_second else []
        return [Exit(self._exit_code)]

    def _kill_now(self) -> list[Action]:
        self._kill_at = None
        return [Kill(self._epoch)]

    def _tick(self, now: float) -> list[Action]:
        timing = self._timing
        if self._state == EngineState.STARTING and now - self._moved_at >= timing.load_stall:
            return self._end_faulty(
                f"loading made no progress for {timing.load_stall:g} s (stage {self._stage})"
            )
        if self._state == EngineState.READY:
            return self._tick_ready(now)
        if self._state == EngineState.STOPPING and self._kill_at is not None:
            return self._kill_now() if now >= self._kill_at else []
        if self._state in RETRYING and now >= self._retry_at:
            return self._retry(now)
        return []

    def _tick_ready(self, now: float) -> list[Action]:
        silence = self._timing.beat_interval * self._timing.beats_missed
        if now - self._beat_at >= silence:
            return self._end_faulty(f"the engine process gave no sign of life for {silence:g} s")
        if self._is_busy and now - self._moved_at >= self._timing.step:
            return self._end_faulty(f"no step of work finished for {self._timing.step:g} s")
        return []

    def _retry(self, now: float) -> list[Action]:
        """Nobody wants it: BACKING_OFF is over; FAILED stays, for nothing has disproved it, and
        the next StartWanted tries again at once."""
        if self._wanted:
            return self._spawn(now)
        if self._state == EngineState.BACKING_OFF:
            self._state = EngineState.STOPPED
        return []

    def _changes(self, now: float) -> list[Action]:
        status = self.status(now)
        told = self._told
        if told is not None and _unchanged(told, status):
            if _bytes(told) == _bytes(status):
                return []
            if now - self._told_at < self._timing.progress_interval:
                return []
        self._told, self._told_at = status, now
        return [Report(status)]


def _unchanged(told: EngineStatus, status: EngineStatus) -> bool:
    """Equal but for what changes all the time, and for whether a retry is due."""

    def lasting(one: EngineStatus) -> tuple[EngineStatus, bool]:
        is_due = one.retry_after == 0.0
        return replace(one, done_bytes=0, total_bytes=None, retry_after=None), is_due

    return lasting(told) == lasting(status)


def _bytes(status: EngineStatus) -> tuple[int, int | None]:
    return status.done_bytes, status.total_bytes


def _how_it_ended(code: int | None, signal: int | None) -> str:
    if signal is not None:
        return f"the engine process ended with signal {signal}"
    return f"the engine process ended with exit status {code}"
