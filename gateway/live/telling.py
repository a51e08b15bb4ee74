"""What a client is told of items: each thing once, in an order that clients rely on. Pure."""

from gateway.live.events import (
    SessionEvent,
    TextChanged,
    TurnCommitted,
    TurnStarted,
    TurnStopped,
)
from gateway.live.items import Item, milliseconds
from protocol.live import Hypothesis, StreamFormat


class Telling:
    """Of one session."""

    def __init__(self, format: StreamFormat) -> None:
        self.contradictions = 0
        """Items of which something was told that turned out wrong."""
        self._format = format
        self._last_committed: str | None = None

    def started(self, item: Item) -> list[SessionEvent]:
        """Somebody speaks."""
        item.is_started = True
        return [TurnStarted(item.item_id, item.channel, self._start_ms(item))]

    def stopped(self, item: Item) -> list[SessionEvent]:
        """They were silent."""
        item.is_stopped = True
        end_ms = max(milliseconds(item.end or 0, self._format), self._start_ms(item) + 1)
        return [TurnStopped(item.item_id, item.channel, end_ms)]

    def committed(self, item: Item, *, by_client: bool) -> list[SessionEvent]:
        """It is complete; nothing where that was told before."""
        if item.is_committed:
            return []
        item.is_committed = True
        previous, self._last_committed = self._last_committed, item.item_id
        return [TurnCommitted(item.item_id, item.channel, previous, by_client)]

    def grown(self, item: Item, hypothesis: Hypothesis) -> list[TextChanged]:
        """Its text changed; nothing where what was told is wrong."""
        was_contradicted = item.is_contradicted
        changed = item.grow(hypothesis)
        self.contradictions += item.is_contradicted and not was_contradicted
        return [changed] if changed is not None else []

    def outcome(self, item: Item) -> list[SessionEvent]:
        """Its text, or its failure; nothing of one that nobody has heard of."""
        if not item.is_worth_telling:
            item.is_done = True
            return []
        was_contradicted = item.is_contradicted
        told = [*self.committed(item, by_client=False), item.outcome(self._format)]
        self.contradictions += item.is_contradicted and not was_contradicted
        return told

    def _start_ms(self, item: Item) -> int:
        return milliseconds(item.start or 0, self._format)
