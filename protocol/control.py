"""Messages of the control link (gateway and supervisor), and those both links share."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Both ways, on both links, every HEARTBEAT_INTERVAL. Also the first message of a peer."""


@dataclass(frozen=True, slots=True)
class Introduce:
    """Gateway -> peer it does not know: say hello again, and forget earlier requests."""

    gateway_id: str
    """New with every start of the gateway."""
    probe_file: str
    """Name of a file in the spool folder; a peer that reads probe_text there shares the spool."""
    probe_text: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """Gateway -> peer: the hello was accepted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Gateway -> peer: the hello was not accepted; message says why and what to do."""

    code: str
    """worker_id_taken, other_model, no_capacity, protocol_version."""
    message: str


@dataclass(frozen=True, slots=True)
class SupervisorHello:
    """Supervisor -> gateway, after every Introduce."""

    worker_id: str
    instance: str
    """New with every start of the supervisor: tells one that reconnects from a second one."""
    model_id: str


class EngineState(StrEnum):
    """Where the engine process of one worker stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    """Died while starting; started again, if still wanted, after retry_after seconds."""
    FAILED = "failed"
    """Died too often; tried again only after retry_after seconds."""


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Gateway -> supervisor: there is work. Without effect while one starts or runs."""


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Gateway -> supervisor: end the engine process of this epoch (idle, or found stuck)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EngineFinishedWork:
    """Gateway -> supervisor: the engine of this epoch finished a unit of work, so deaths before
    it are forgiven."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Supervisor -> gateway: on every change, on progress while starting, and after Welcome."""

    state: EngineState
    epoch: int
    """The engine process this is about; 0 before the first."""
    stage: str
    """While starting: spawn, imports, download, weights, warm_up; else empty."""
    done_bytes: int
    total_bytes: int | None
    failure: str | None
    """Why the last engine process ended, in words for the operator; None after a clean end."""
    retry_after: float | None
    """Seconds until the next start is tried, while backing off or failed."""
    resident_bytes: int | None
    """Resident memory of the engine process, where it runs and the platform tells."""
