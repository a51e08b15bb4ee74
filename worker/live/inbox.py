"""Which of the gateway's messages are for the listener, and which for the main thread."""

from collections.abc import Callable
from typing import Any

from protocol.control import Introduce
from protocol.live import AudioPacket, Clear, CloseSession, Commit, Configure, OpenSession
from worker.live.listener import ForgetAll


class LiveInbox:
    """Called from the mailbox's thread."""

    def __init__(
        self, *, loop: Callable[[object], None], listener: Callable[[object], None]
    ) -> None:
        self._loop = loop
        self._listener = listener

    def deliver(self, message: Any) -> None:
        """Hand a message on. The main thread knows of a session before there is news of it."""
        if isinstance(message, AudioPacket | Commit | Clear | Configure | CloseSession):
            self._listener(message)
            return
        self._loop(message)
        if isinstance(message, OpenSession):
            self._listener(message)
        elif isinstance(message, Introduce):
            self._listener(ForgetAll())
