"""How much audio sessions may keep, each and together. Who has no room left is not read from."""

import asyncio

LEAST_BYTES = 16 * 1024**2
"""What every session may keep: 80 s of the densest format. Less could be more than an engine needs
to get any further."""


class Rooms:
    """All sessions'."""

    def __init__(self, *, each: int, together: int, most_sessions: int) -> None:
        self._each = max(each, LEAST_BYTES)
        self._together = together
        self._share = max(together // most_sessions, LEAST_BYTES)
        self._rooms: set[Room] = set()
        self.kept_bytes = 0

    def __repr__(self) -> str:
        return f"<Rooms {len(self._rooms)} sessions keep {self.kept_bytes} bytes>"

    def enter(self) -> "Room":
        """One session's room; it leaves it in the end."""
        room = Room(self)
        self._rooms.add(room)
        return room

    def most(self) -> int:
        """Bytes a session may keep now."""
        return self._share if self.kept_bytes > self._together else self._each

    def changed(self, room: "Room", difference: int) -> None:
        """A session keeps more or less than before."""
        was_short = self.kept_bytes > self._together
        self.kept_bytes += difference
        is_relieved = was_short and self.kept_bytes <= self._together
        for each in self._rooms if is_relieved else (room,):
            each.look()

    def left(self, room: "Room") -> None:
        """A session keeps nothing any more."""
        self.changed(room, -room.kept_bytes)
        self._rooms.discard(room)


class Room:
    """One session's; made by Rooms.enter."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._has_left = False
        self.kept_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the session must not be given more for now."""
        return self.kept_bytes >= self._rooms.most()

    def keeps(self, kept_bytes: int) -> None:
        """The session keeps so much now."""
        difference, self.kept_bytes = kept_bytes - self.kept_bytes, kept_bytes
        self._rooms.changed(self, difference)

    def look(self) -> None:
        """Let the reader go on, or not."""
        if self.is_full and not self._has_left:
            self._is_open.clear()
        else:
            self._is_open.set()

    async def wait(self) -> None:
        """Until there is room."""
        await self._is_open.wait()

    def leave(self) -> None:
        """The session keeps nothing any more; once."""
        if not self._has_left:
            self._has_left = True
            self._rooms.left(self)
