"""Who is connected to one link and when it was last heard. Pure: time comes in as an argument."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from protocol.limits import HEARTBEAT_INTERVAL, HEARTBEATS_MISSED

SILENCE_LIMIT = HEARTBEAT_INTERVAL * HEARTBEATS_MISSED

Name = TypeVar("Name")


class Peers(Generic[Name]):
    """Routing ids and the names behind them, one living routing id a name."""

    def __init__(self) -> None:
        self._heard: dict[bytes, float] = {}
        self._names: dict[bytes, Name] = {}
        self._routes: dict[Name, bytes] = {}
        self._asked: dict[bytes, float] = {}
        """Strangers that were asked who they are; forgotten a heartbeat later."""

    def __repr__(self) -> str:
        return f"<Peers {list(self._names.values())}>"

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._names))

    def heard(self, peer: bytes, now: float) -> Name | None:
        """A message came; returns the peer's name if it said hello."""
        if peer not in self._names:
            return None
        self._heard[peer] = now
        return self._names[peer]

    def should_ask(self, stranger: bytes, now: float) -> bool:
        """Whether to ask a stranger for its name: once a heartbeat, however much it sends."""
        self._asked = {
            peer: asked
            for peer, asked in self._asked.items()
            if now - asked < HEARTBEAT_INTERVAL / 2
        }
        if stranger in self._asked:
            return False
        self._asked[stranger] = now
        return True

    def join(self, peer: bytes, name: Name, now: float) -> bool:
        """A hello came; False where another living peer has that name."""
        if self._routes.get(name, peer) != peer:
            return False
        self.leave(peer)
        self._names[peer], self._routes[name], self._heard[peer] = name, peer, now
        return True

    def leave(self, peer: bytes) -> Name | None:
        """Forget a peer; returns its name."""
        name = self._names.pop(peer, None)
        self._heard.pop(peer, None)
        if name is not None:
            self._routes.pop(name, None)
        return name

    @property
    def names(self) -> tuple[Name, ...]:
        """Of the living."""
        return tuple(self._routes)

    def route(self, name: Name) -> bytes | None:
        """The routing id of the living peer of that name."""
        return self._routes.get(name)

    def forgive(self, now: float) -> None:
        """We were away ourselves: nobody is to blame for what was not heard."""
        self._heard = dict.fromkeys(self._heard, now)

    def silent(self, now: float) -> list[bytes]:
        """Peers that missed their heartbeats."""
        return [peer for peer, heard in self._heard.items() if now - heard > SILENCE_LIMIT]
