"""The calls of one gateway as others may follow them, while they last and for a while after.

Owns every call's history and its followers. Knows no sockets; time comes from a clock.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.errors import CallNotFound, Unavailable
from gateway.live.call_fields import Fields, told_of
from gateway.live.call_history import HISTORY_BYTES, CallHistory, Event, Place
from gateway.live.events import Opening, SessionEnded, SessionEvent
from gateway.live.publishing import Leg

LEG_GAP = 3.0
"""Seconds after a call's last session in which a further one still belongs to it: so long a phone
system may take to transfer a call, or a client to connect again."""
MOST_FOLLOWERS = 16
"""Of one call."""
MOST_ENDED_CALLS = 256
ENDED_BYTES = 64 * 1024 * 1024
"""Kept of all ended calls together; the oldest go first."""

CallKey = tuple[str | None, str]
"""Owner and call id: what one key's clients call their calls is nothing to another's."""


@dataclass(eq=False)
class Call:
    """One call, of one session after another or several at a time."""

    key: CallKey
    history: CallHistory
    began_at: float
    offsets: dict[str, float] = field(default_factory=dict)
    """Of its open sessions, where each began, in seconds of the call."""
    followers: list["Follower"] = field(default_factory=list)
    quiet_since: float | None = None
    """When its last session ended, while none is open."""
    ended_at: float | None = None

    def tell(self, kind: str, now: float, fields: Fields, *, until: float | None = None) -> None:
        """Keep an event, and wake those who follow."""
        self.history.add(kind, {"time": self.time(now), **fields}, until=until)
        self.wake()

    def wake(self) -> None:
        """There is something to read."""
        for follower in self.followers:
            follower.changed.set()

    def time(self, now: float) -> float:
        """In seconds of the call."""
        return round(now - self.began_at, 3)


class Follower:
    """Somebody who reads a call's events at their own pace."""

    def __init__(self, call: Call, place: Place) -> None:
        self.changed = asyncio.Event()
        self._call = call
        self._place = place

    def __repr__(self) -> str:
        return f"<Follower at {self._place.sequence} of {self._call.history!r}>"

    @property
    def has_everything(self) -> bool:
        """Whether nothing will come: the call ended, and its last event was read."""
        return (
            self._call.ended_at is not None and self._place.sequence >= self._call.history.sequence
        )

    async def batches(self) -> AsyncIterator[list[Event]]:
        """What is there, then what comes, up to the call's end."""
        while not self.has_everything:
            self.changed.clear()
            events = self._call.history.take(self._place)
            if events:
                yield events
            else:
                await self.changed.wait()


class Calls:
    """CallEvents that can be followed."""

    def __init__(
        self,
        *,
        keep_seconds: float,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        is_draining: Callable[[], bool],
        history_bytes: int = HISTORY_BYTES,
        ended_bytes: int = ENDED_BYTES,
    ) -> None:
        """`keep_seconds`: how long ended calls can be read; `call_at` as an event loop's."""
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._call_at = call_at
        self._is_draining = is_draining
        self._history_bytes = history_bytes
        self._ended_bytes = ended_bytes
        self._calls: dict[CallKey, Call] = {}
        """Ended ones in the order in which they ended."""
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        ended = sum(call.ended_at is not None for call in self._calls.values())
        return f"<Calls {len(self._calls) - ended} open, {ended} ended>"

    # --- sessions ---------------------------------------------------------------------------

    def began(self, leg: Leg, opening: Opening) -> None:
        """See CallEvents."""
        now = self._clock()
        self._tidy()
        key = (leg.owner, leg.call_id)
        call = self._calls.get(key)
        if call is None or call.ended_at is not None:
            call = self._new_call(key, now)
        offset = call.offsets[leg.session_id] = call.time(now)
        call.quiet_since = None
        format = opening.format
        about: Fields = {
            "session_id": leg.session_id,
            "offset": offset,
            "channels": format.channels,
            "encoding": str(format.encoding),
            "sample_rate": format.sample_rate,
        }
        call.tell("session.started", now, about)

    def publish(self, leg: Leg, event: SessionEvent) -> None:
        """See CallEvents."""
        call = self._calls.get((leg.owner, leg.call_id))
        if call is None or leg.session_id not in call.offsets:
            return  # a session that ended before it began
        self._tell(call, leg.session_id, event)
        if isinstance(event, SessionEnded):
            del call.offsets[leg.session_id]
            if not call.offsets:
                call.quiet_since = self._clock()
                self._tidy()

    def _new_call(self, key: CallKey, now: float) -> Call:
        self._calls.pop(key, None)
        history = CallHistory(key[1], secrets.token_hex(4), most_bytes=self._history_bytes)
        call = self._calls[key] = Call(key, history, now)
        call.tell("call.started", now, {"started_at": round(time.time(), 3)})
        return call

    def _tell(self, call: Call, session_id: str, event: SessionEvent) -> None:
        now = self._clock()
        told = told_of(event, call.offsets[session_id], call.time(now))
        if told is None:
            return
        fields: Fields = {"session_id": session_id, **told.fields}
        item = None if told.item_id is None else (session_id, told.item_id)
        if told.kind == "text.partial" and item is not None:
            call.history.add_partial(told.kind, {"time": call.time(now), **fields}, item)
            call.wake()
            return
        if told.until is not None and item is not None:
            call.history.close_item(item)
        elif told.kind in ("speech.cleared", "session.ended"):
            call.history.close_session(session_id)
        call.tell(told.kind, now, fields, until=told.until)

    # --- followers --------------------------------------------------------------------------

    @contextmanager
    def follow(
        self, owner: str | None, call_id: str, last_event_id: str = ""
    ) -> Iterator[Follower]:
        """Read a call from its start, or behind an event. Raises CallNotFound, Unavailable."""
        self._tidy()
        call = self._calls.get((owner, call_id))
        if call is None:
            raise CallNotFound(
                "No call of this id is under way, and none has just ended. Open a live session "
                "with this call_id first."
            )
        if len(call.followers) >= MOST_FOLLOWERS:
            text = f"{MOST_FOLLOWERS} clients follow this call already. Try again later."
            raise Unavailable(text, code="queue_full")
        follower = Follower(call, call.history.place_after(last_event_id))
        call.followers.append(follower)
        try:
            yield follower
        finally:
            call.followers.remove(follower)

    # --- time -------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """End calls without sessions, forget those that ended long ago, and plan to do so again."""
        now = self._clock()
        gap = 0.0 if self._is_draining() else LEG_GAP
        for call in list(self._calls.values()):
            quiet_since = call.quiet_since if call.ended_at is None else None
            if quiet_since is not None and now - quiet_since >= gap:
                self._end(call, now)
        for call in self._outdated(now):
            del self._calls[call.key]
        self._plan(now)

    def _end(self, call: Call, now: float) -> None:
        call.ended_at = now
        self._calls[call.key] = self._calls.pop(call.key)
        call.tell("call.ended", now, {"finals": call.history.finals})
        call.history.close()

    def _outdated(self, now: float) -> list[Call]:
        ended = [call for call in self._calls.values() if call.ended_at is not None]
        kept_bytes, most = 0, MOST_ENDED_CALLS
        for number, call in enumerate(reversed(ended)):
            assert call.ended_at is not None
            kept_bytes += call.history.kept_bytes
            is_old = now - call.ended_at >= self._keep_seconds
            if is_old or number >= most or kept_bytes > self._ended_bytes:
                return ended[: len(ended) - number]
        return []

    def _plan(self, now: float) -> None:
        """Come back when the next call ends or is forgotten."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dues = [due for call in self._calls.values() if (due := self._due(call)) is not None]
        if dues:
            self._timer = self._call_at(max(min(dues), now), self._tidy)

    def _due(self, call: Call) -> float | None:
        """When something becomes of a call by itself."""
        if call.ended_at is not None:
            return call.ended_at + self._keep_seconds
        return None if call.quiet_since is None else call.quiet_since + LEG_GAP
