"""What one client was told, checked event by event against what clients rely on."""

from collections import Counter

from gateway.live.events import (
    SessionEnded,
    SessionEvent,
    TextChanged,
    TurnCommitted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
)


class Recorder:
    """Takes the events of one session; raises AssertionError at the first that breaks a promise."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.committed: list[str] = []
        """Item ids in order."""
        self.transcripts: dict[str, str] = {}
        self.channels: dict[str, int] = {}
        self.failed: set[str] = set()
        self._deltas: dict[str, str] = {}
        self._told: Counter[tuple[type, str]] = Counter()
        self.ended: SessionEnded | None = None

    def __call__(self, event: SessionEvent) -> None:
        assert self.ended is None, "an event behind the last"
        self.events.append(event)
        if isinstance(event, SessionEnded):
            self.ended = event
        item_id = getattr(event, "item_id", None)
        if item_id is None:
            return
        if isinstance(event, TextChanged):
            told = self._deltas[item_id] = self._deltas.get(item_id, "") + event.delta
            assert told == event.stable
        else:
            self._told[type(event), item_id] += 1
            assert self._told[type(event), item_id] == 1, f"{event} was told twice"
        assert not self.is_done(item_id), f"{event} behind its item's end"
        self._follow(event, item_id)

    def _follow(self, event: SessionEvent, item_id: str) -> None:
        if isinstance(event, TurnStopped):
            assert self._told[TurnStarted, item_id]
        elif isinstance(event, TurnCommitted):
            assert event.previous_item_id == (self.committed[-1] if self.committed else None)
            self.committed.append(item_id)
            self.channels[item_id] = event.channel
        elif isinstance(event, TurnCompleted):
            assert item_id in self.committed
            whole = self._deltas.get(item_id, "") + event.delta
            assert event.transcript == whole or not event.delta
            assert event.end_ms > event.start_ms
            self.transcripts[item_id] = event.transcript
        elif isinstance(event, TurnFailed):
            assert item_id in self.committed
            self.failed.add(item_id)

    def is_done(self, item_id: str) -> bool:
        """Whether its outcome was told."""
        return item_id in self.transcripts or item_id in self.failed

    @property
    def unanswered(self) -> list[str]:
        """Items that were committed and have no outcome."""
        return [item_id for item_id in self.committed if not self.is_done(item_id)]

    def text(self, channel: int = 0) -> str:
        """Of all items of a channel, in the order of their commits."""
        ids = [item_id for item_id in self.committed if self.channels[item_id] == channel]
        return "".join(self.transcripts.get(item_id, "") for item_id in ids)
