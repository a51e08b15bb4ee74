"""Which final answers which flush of /ws/transcribe: each is answered once, in its place. Pure.

A flush takes in the turns that ended before it and have no text yet: its final has their text too,
for its client reads one final and takes it for the answer. With two channels finals say their
channel, and each turn has a final of its own.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.live.items import joined

Message = dict[str, Any]
MOST_OWED = 64
"""Answers a client may wait for."""


@dataclass(eq=False)
class _Flush:
    """One that is not answered yet."""

    items: list[str] = field(default_factory=list)
    """In the order of their commits."""
    finals: dict[str, Message] = field(default_factory=dict)
    """By item."""
    is_committed: bool = False
    """All its items are known."""

    @property
    def is_answered(self) -> bool:
        return self.is_committed and all(item in self.finals for item in self.items)


class Answers:
    """Of one client with one channel. Methods give what it is told now."""

    def __init__(self) -> None:
        self._open: list[str] = []
        """Items that ended by themselves and have no text yet."""
        self._forgotten: set[str] = set()
        """Items whose finals the client does not want any more."""
        self._owed: deque[_Flush | Message] = deque()

    def __repr__(self) -> str:
        return f"<Answers {len(self._owed)} owed, {len(self._open)} open>"

    @property
    def is_full(self) -> bool:
        """Whether the client must not ask for more before it was answered."""
        return len(self._owed) >= MOST_OWED

    def flush(self) -> None:
        """The client asks for what was heard."""
        self._owed.append(_Flush(items=self._open))
        self._open = []

    def reset(self) -> None:
        """What ended before is not wanted any more; flushes are answered all the same."""
        self._forgotten.update(self._open)
        self._open = []

    def say(self, message: Message) -> list[Message]:
        """An answer to another action, behind those before it."""
        self._owed.append(message)
        return list(self._ready())

    def committed(self, item_id: str, *, by_client: bool) -> list[Message]:
        """A turn ended."""
        flush = next((f for f in self._flushes() if not f.is_committed), None)
        if flush is None:
            self._open.append(item_id)
        else:
            flush.items.append(item_id)
            flush.is_committed = by_client
        return list(self._ready())

    def final(self, item_id: str, message: Message) -> list[Message]:
        """The text of a turn."""
        if item_id in self._forgotten:
            self._forgotten.remove(item_id)
            return []
        if item_id in self._open:
            self._open.remove(item_id)
        else:
            for flush in self._flushes():
                if item_id in flush.items:
                    flush.finals[item_id] = message
                    return list(self._ready())
        return [message] if message["text"] else []

    def give_up(self) -> list[Message]:
        """The session is over: what is owed is answered with what there is."""
        for flush in self._flushes():
            flush.is_committed = True
            flush.items = [item for item in flush.items if item in flush.finals]
        return list(self._ready())

    def _flushes(self) -> Iterator[_Flush]:
        return (owed for owed in self._owed if isinstance(owed, _Flush))

    def _ready(self) -> Iterator[Message]:
        while self._owed:
            owed = self._owed[0]
            if isinstance(owed, _Flush):
                if not owed.is_answered:
                    return
                owed_message = _together([owed.finals[item] for item in owed.items])
            else:
                owed_message = owed
            self._owed.popleft()
            yield owed_message


class AnswersByChannel:
    """The same for a client with two channels: what it asked for is answered as it comes."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        """Items that ended by themselves and have no text yet."""
        self._asked: set[str] = set()
        """Those that a flush ended."""
        self._flushes = 0
        """That have ended none yet."""
        self._forgotten: set[str] = set()

    def __repr__(self) -> str:
        return f"<AnswersByChannel {len(self._asked)} asked for, {len(self._open)} open>"

    @property
    def is_full(self) -> bool:
        """See Answers."""
        return self._flushes + len(self._asked) >= MOST_OWED

    def flush(self) -> None:
        """See Answers."""
        self._flushes += 1

    def reset(self) -> None:
        """See Answers."""
        self._forgotten |= self._open
        self._open.clear()

    def say(self, message: Message) -> list[Message]:
        """See Answers."""
        return [message]

    def committed(self, item_id: str, *, by_client: bool) -> list[Message]:
        """See Answers."""
        if by_client:
            self._flushes = max(self._flushes - 1, 0)  # two items may be of one
        (self._asked if by_client else self._open).add(item_id)
        return []

    def final(self, item_id: str, message: Message) -> list[Message]:
        """See Answers."""
        is_wanted = item_id in self._asked or bool(message["text"])
        is_forgotten = item_id in self._forgotten
        for items in (self._asked, self._open, self._forgotten):
            items.discard(item_id)
        return [message] if is_wanted and not is_forgotten else []

    def give_up(self) -> list[Message]:
        """See Answers."""
        return []


def _together(finals: list[Message]) -> Message:
    """One final of several; what else it says is the last one's."""
    text = ""
    for final in finals:
        text = joined(text, final["text"])
    together = {**(finals[-1] if finals else {}), "text": text, "is_partial": False}
    if finals and "start_ms" in finals[0]:
        together["start_ms"] = finals[0]["start_ms"]
    return {**together, "is_final": True}
