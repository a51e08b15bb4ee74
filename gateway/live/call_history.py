"""What one call told so far, and what each follower of it is told next. Pure.

Followers read at their own pace from what is kept once for all of them: whoever is slow costs
nothing. Kept are all events but partials, up to HISTORY_BYTES, and the latest few partials.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from gateway.formats.json_pieces import encoded

HISTORY_BYTES = 8 * 1024 * 1024
"""Of one call; beyond it the oldest events go. An utterance, with its beginning and end, takes
some 1.6 KB."""
RECENT_PARTIALS = 64
"""So many a follower may be behind before it loses any."""
EVENT_BYTES = 300
"""What an event takes in memory besides its JSON."""

ItemKey = tuple[str, str]
"""Session id and item id."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as followers get it."""

    sequence: int
    event_id: str | None
    """None for what is told to one follower alone."""
    content: bytes
    """JSON, in one line."""
    until: float | None = None
    """Of a final: where it ends, in seconds of the call."""
    partial: int = 0
    """Of a partial: its number among the call's partials, counted from 1."""


@dataclass(eq=False, slots=True)
class Place:
    """How far a follower has read."""

    sequence: int
    partials: int | None = None
    """So many were published when it last read; None where it has not read yet."""


class CallHistory:
    """Of one call. Sequence numbers count from 1; the first event is never given up."""

    def __init__(self, call_id: str, serial: str, *, most_bytes: int = HISTORY_BYTES) -> None:
        """`serial` tells calls apart that follow each other under one id."""
        self.kept_bytes = 0
        self.sequence = 0
        """Of the latest event."""
        self.finals = 0
        self._call_id = call_id
        self._serial = serial
        self._most_bytes = most_bytes
        self._opening: Event | None = None
        self._events: deque[Event] = deque()
        self._open: dict[ItemKey, Event] = {}
        """The latest partial of each item without a final."""
        self._recent: deque[Event] = deque(maxlen=RECENT_PARTIALS)
        self._partials = 0
        self._lost_finals = 0
        self._lost_sequence = 0
        """Of the last final that is no longer kept."""
        self._lost_until = 0.0

    def __repr__(self) -> str:
        return f"<CallHistory {self.sequence} events, {self.kept_bytes} bytes kept>"

    # --- telling ----------------------------------------------------------------------------

    def add(self, kind: str, fields: Mapping[str, object], *, until: float | None = None) -> None:
        """An event that is kept; with `until` one that has text, or says why there is none."""
        event = self._event(kind, fields, until=until)
        if self._opening is None:
            self._opening = event
            return
        self._events.append(event)
        self.kept_bytes += _size(event)
        self.finals += until is not None
        while self.kept_bytes > self._most_bytes and len(self._events) > 1:
            self._give_up(self._events.popleft())

    def add_partial(self, kind: str, fields: Mapping[str, object], item: ItemKey) -> None:
        """Text that takes the place of what was told of this item before."""
        self._partials += 1
        event = self._event(kind, fields, partial=self._partials)
        self._open[item] = event
        self._recent.append(event)

    def close_item(self, item: ItemKey) -> None:
        """No partial of it counts any more."""
        self._open.pop(item, None)

    def close_session(self, session_id: str) -> None:
        """No partial of it counts any more."""
        for item in [item for item in self._open if item[0] == session_id]:
            del self._open[item]

    def close(self) -> None:
        """Nothing more will be told."""
        self._open.clear()
        self._recent.clear()

    def _event(
        self,
        kind: str,
        fields: Mapping[str, object],
        *,
        until: float | None = None,
        partial: int = 0,
    ) -> Event:
        self.sequence += 1
        event_id = f"{self._serial}-{self.sequence}"
        whole = {
            "type": kind,
            "id": event_id,
            "sequence": self.sequence,
            "call_id": self._call_id,
            **fields,
        }
        return Event(self.sequence, event_id, encoded(whole), until, partial)

    def _give_up(self, event: Event) -> None:
        self.kept_bytes -= _size(event)
        if event.until is not None:
            self._lost_finals += 1
            self._lost_sequence = event.sequence
            self._lost_until = max(self._lost_until, event.until)

    # --- reading ----------------------------------------------------------------------------

    def place_after(self, event_id: str) -> Place:
        """Behind this event; at the beginning where the id is none of this call."""
        serial, _, number = event_id.partition("-")
        is_known = serial == self._serial and number.isascii() and number.isdigit()
        if not is_known or len(number) > 12 or int(number) > self.sequence:
            return Place(0)
        return Place(int(number))

    def take(self, place: Place) -> list[Event]:
        """What a follower has not been told; its place moves on."""
        partials, dropped = self._partials_for(place)
        behind = takewhile(lambda event: event.sequence > place.sequence, reversed(self._events))
        told = sorted((*behind, *partials), key=lambda event: event.sequence)
        if dropped:
            told.insert(0, self._notice("partials.dropped", {"count": dropped}))
        if place.sequence < self._lost_sequence:
            told.insert(0, self._truncation())
        if self._opening is not None and not place.sequence:
            told.insert(0, self._opening)
        place.sequence, place.partials = self.sequence, self._partials
        return told

    def _partials_for(self, place: Place) -> tuple[list[Event], int]:
        """Those a follower has not seen, and how many it never will. Whoever comes late, or is far
        behind, gets the latest of each open item alone."""
        latest = [event for event in self._open.values() if event.sequence > place.sequence]
        if place.partials is None:
            return latest, 0
        unseen = self._partials - place.partials
        recent = [event for event in self._recent if event.partial > self._partials - unseen]
        told = recent if len(recent) == unseen else latest
        return told, unseen - len(told)

    def _truncation(self) -> Event:
        fields = {"finals": self._lost_finals, "until": round(self._lost_until, 3)}
        return self._notice("history.truncated", fields)

    def _notice(self, kind: str, fields: Mapping[str, object]) -> Event:
        whole = {"type": kind, "call_id": self._call_id, **fields}
        return Event(self.sequence, None, encoded(whole))


def _size(event: Event) -> int:
    return len(event.content) + EVENT_BYTES
