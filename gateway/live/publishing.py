"""How sessions tell others than their own client what is heard."""

from dataclasses import dataclass
from typing import Protocol

from gateway.live.events import Opening, SessionEvent


@dataclass(frozen=True, slots=True)
class Leg:
    """One session as part of a call; several may share a call, such as one for each party."""

    call_id: str
    session_id: str
    owner: str | None
    """Id of the API key that opened it; None on an open server."""


class CallEvents(Protocol):
    """Takes what every session tells, in its order. Never waits and never raises."""

    def began(self, leg: Leg, opening: Opening) -> None:
        """A session was opened."""
        ...

    def publish(self, leg: Leg, event: SessionEvent) -> None:
        """It told something; SessionEnded is the last, and always comes."""
        ...
