"""The supervisor's part of the conversation on the control link. Pure: no clock, no socket.

Messages go in with the time; messages to send and events for the supervision come out.
"""

from enum import IntEnum
from typing import Any

from protocol.control import (
    EngineFinishedWork,
    Heartbeat,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
    Welcome,
)
from protocol.limits import HEARTBEAT_INTERVAL
from worker.supervision import (
    Event,
    GatewayLost,
    GatewayReplaced,
    Shutdown,
    StartWanted,
    StopWanted,
    WorkFinished,
)
from worker.value import Value


class ExitStatus(IntEnum):
    """How the supervisor process ends, for whoever started it."""

    ASKED = 0
    WORKER_ID_TAKEN = 3
    PROTOCOL_VERSION = 4


class SessionTiming(Value):
    """Seconds."""

    beat_interval: float = HEARTBEAT_INTERVAL
    gateway_silence: float = 10.0
    """After this long without a message, the gateway is given up."""
    refusal_patience: float = 10.0
    """How long a taken worker id is tried again: after a restart, the gateway holds on to the
    earlier session until it has missed its heartbeats."""


class Say(Value):
    """Send this message."""

    message: Heartbeat | SupervisorHello


class SayStatus(Value):
    """Send the status as it is now."""


class Unexpected(Value):
    """The message has no place on this link: count it."""


Reaction = Say | SayStatus | Unexpected | Event


class ControlSession:
    """Introductions, heartbeats and orders, from one gateway at a time."""

    def __init__(self, hello: SupervisorHello, timing: SessionTiming, now: float) -> None:
        self._hello = hello
        self._timing = timing
        self._gateway_id: str | None = None
        self._is_welcome = False
        self._refusal: Refused | None = None
        self._refused_at = 0.0
        self._heard_at = now
        self._is_lost = False
        self._beat_at = now
        self._ticked_at = now

    def __repr__(self) -> str:
        standing = "welcome" if self._is_welcome else "refused" if self._refusal else "unknown"
        return f"<ControlSession with gateway {self._gateway_id}, {standing}>"

    @property
    def is_welcome(self) -> bool:
        """Whether the gateway listens to statuses."""
        return self._is_welcome

    @property
    def refusal(self) -> str | None:
        """The gateway's words while it refuses this worker."""
        return self._refusal.message if self._refusal else None

    def deadline(self) -> float:
        """When tick is next worth calling."""
        return self._beat_at

    def beat_at_once(self) -> None:
        """A gateway has just been connected: do not let it wait."""
        self._beat_at = self._ticked_at

    def heard(self, message: Any, now: float) -> list[Reaction]:
        """What one message from the gateway brings about."""
        self._heard_at, self._is_lost = now, False
        match message:
            case Heartbeat():
                return []
            case Introduce(gateway_id):
                return self._introduced(gateway_id)
            case Welcome():
                self._is_welcome, self._refusal = True, None
                return [SayStatus()]
            case Refused():
                return self._refused(message, now)
        order = _order(message)
        if order is None:
            return [Unexpected()]
        return [order] if self._is_welcome else []

    def tick(self, now: float) -> list[Reaction]:
        """Beats that are due, and whether the gateway is still there."""
        reactions: list[Reaction] = []
        if now >= self._beat_at:
            reactions.append(Say(self._hello if self._refusal else Heartbeat()))
            self._beat_at = now + self._timing.beat_interval
        absence = now - self._ticked_at
        if absence >= self._timing.gateway_silence:
            self._heard_at += absence  # it was this process that was paused
        self._ticked_at = now
        if not self._is_lost and now - self._heard_at >= self._timing.gateway_silence:
            self._is_lost = True  # still welcome: a gateway that forgot us introduces itself again
            reactions.append(GatewayLost())
        return reactions

    def _introduced(self, gateway_id: str) -> list[Reaction]:
        is_other = self._gateway_id not in (None, gateway_id)
        if is_other:
            self._refusal = None
        self._gateway_id, self._is_welcome = gateway_id, False
        hello: list[Reaction] = [Say(self._hello)]
        return [GatewayReplaced(), *hello] if is_other else hello

    def _refused(self, refusal: Refused, now: float) -> list[Reaction]:
        self._is_welcome = False
        if self._refusal is None:
            self._refused_at = now
        self._refusal = refusal
        if refusal.code == "protocol_version":
            return [Shutdown(ExitStatus.PROTOCOL_VERSION)]
        if now - self._refused_at < self._timing.refusal_patience:
            return []
        return [Shutdown(ExitStatus.WORKER_ID_TAKEN)]


def _order(message: Any) -> StartWanted | StopWanted | WorkFinished | None:
    match message:
        case StartEngine():
            return StartWanted()
        case StopEngine(epoch):
            return StopWanted(epoch)
        case EngineFinishedWork(epoch):
            return WorkFinished(epoch)
    return None
