"""What one client has sent and the app has not taken yet, bounded by asking the client to wait."""

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.websockets.frames import Close

PAUSE_ABOVE = 256 * 1024
"""Bytes; 8 s of 16 kHz PCM16. Until then pings behind the audio are answered, however busy the app
is; beyond it TCP makes the client wait."""
RESUME_BELOW = 128 * 1024
MESSAGE_OVERHEAD = 64
"""Bytes that Python and the queue take for a message beside its payload."""


class Inbox:
    """Messages in order, then the close, forever."""

    def __init__(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """`pause` and `resume` stop and go on reading from the client."""
        self._pause = pause
        self._resume = resume
        self._messages: deque[str | bytes] = deque()
        self._close: Close | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.held_bytes = 0
        """What waits here, overhead included."""
        self.is_paused = False
        """Whether the client waits until the app has taken some of it."""

    def put(self, message: str | bytes) -> None:
        """Add one; nothing is added after the close."""
        if self._close is not None:
            return
        self._messages.append(message)
        self.held_bytes += _cost(message)
        if self.held_bytes > PAUSE_ABOVE and not self.is_paused:
            self.is_paused = True
            self._pause()
        self._wake()

    def close(self, close: Close) -> None:
        """Nothing more will come; the first close counts."""
        if self._close is None:
            self._close = close
            self._wake()

    def discard(self) -> None:
        """Throw away what waits: nobody will take it."""
        self._messages.clear()
        self.held_bytes = 0
        self._resume_if_paused()

    async def get(self) -> str | bytes | Close:
        """The next message; the close once all are taken. For one task at a time."""
        while not self._messages:
            if self._close is not None:
                return self._close
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        message = self._messages.popleft()
        self.held_bytes -= _cost(message)
        if self.held_bytes < RESUME_BELOW:
            self._resume_if_paused()
        return message

    def _resume_if_paused(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._resume()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _cost(message: str | bytes) -> int:
    # A character takes up to four bytes; JSON with base64 is ASCII.
    return len(message) + MESSAGE_OVERHEAD
