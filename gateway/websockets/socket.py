"""The WebSocket of one live session: receives, and sends without ever making the session wait.

A client that reads slowly first loses what may be dropped, and in the end the connection.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from gateway.websockets import frames
from gateway.websockets.handshake import chosen_subprotocol
from gateway.websockets.upgrade import DRAINING_KEY
from gateway.websockets.wire import SocketGone

DROP_ABOVE = 64 * 1024
"""Unsent bytes beyond which messages that may be dropped are."""
CLOSE_ABOVE = 1024 * 1024
"""Unsent bytes beyond which the client is given up."""
LAST_WORDS_TIMEOUT = 5.0
"""Seconds a client gets to read what is unsent when its session is over."""
TOO_SLOW = "The client does not read what it is sent. Connect again and read faster."


class ClientSocket:
    """One accepted WebSocket, for one session; made by `client_socket`."""

    def __init__(
        self, receive: Receive, send: Send, draining: asyncio.Event, tasks: asyncio.TaskGroup
    ) -> None:
        self.draining = draining
        """Set when the server begins to end: send what is left to say, then close with 1001."""
        self.dropped = 0
        """Messages that the client was too slow for."""
        self.unsent_bytes = 0
        """What was sent here and the kernel has not taken."""
        self._receive = receive
        self._send = send
        self._tasks = tasks
        self._outbox: deque[tuple[str, int]] = deque()
        """Each with its bytes."""
        self._close: tuple[int, str] | None = None
        self._is_over = False
        """Whether nothing more will be sent."""
        self._has_work = asyncio.Event()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "over"
        return f"<ClientSocket {state}, {self.unsent_bytes} bytes unsent, {self.dropped} dropped>"

    @property
    def is_open(self) -> bool:
        """Whether what is sent now may still go out."""
        return not self._is_over

    async def receive(self) -> str | bytes | None:
        """The next message; None once the connection is over, whichever side ended it. What came
        before a hang-up is given first. For one task at a time."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._give_up()
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    def send(self, text: str, *, may_drop: bool = False) -> bool:
        """Send after everything sent before; False where that is not done, because the client reads
        too slowly or is gone. A client too slow even for what must not be dropped is closed on,
        with 1013.
        """
        if self._is_over:
            return False
        if may_drop and self.unsent_bytes > DROP_ABOVE:
            self.dropped += 1
            return False
        size = len(text.encode("utf-8"))
        if self.unsent_bytes + size > CLOSE_ABOVE and self.unsent_bytes:
            self._give_up()
            self._close = (frames.TRY_AGAIN_LATER, TOO_SLOW)
            self._tasks.create_task(self._send_close())  # the writer is waiting for the client
            return False
        self._outbox.append((text, size))
        self.unsent_bytes += size
        self._has_work.set()
        return True

    def close(self, code: int = frames.NORMAL, reason: str = "") -> None:
        """Close after everything sent before; the first close counts. A reason of more than 123
        bytes is cut."""
        if not self._is_over:
            self._close = (code, reason)
            self.finish()

    def finish(self) -> None:
        """Send nothing after what was sent before."""
        self._is_over = True
        self._has_work.set()

    async def write(self) -> None:
        """Send what is to be sent, until that is all or the client is gone."""
        try:
            while self._outbox or not self._is_over:
                await self._has_work.wait()
                self._has_work.clear()
                while self._outbox:
                    text, size = self._outbox.popleft()
                    await self._send({"type": "websocket.send", "text": text})
                    self.unsent_bytes -= size
            await self._send_close()
        except SocketGone:
            self._give_up()

    async def _send_close(self) -> None:
        if self._close is not None:
            (code, reason), self._close = self._close, None
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def _give_up(self) -> None:
        self.unsent_bytes -= sum(size for _, size in self._outbox)
        self._outbox.clear()
        self._close = None
        self.finish()


@asynccontextmanager
async def client_socket(scope: Scope, receive: Receive, send: Send) -> AsyncIterator[ClientSocket]:
    """Accept a handshake; in the end what is unsent goes out and the connection closes, with 1000
    where nobody closed it. What the block raises is raised when that is done.
    """
    await receive()
    subprotocol = chosen_subprotocol(scope["subprotocols"])
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    fault: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        socket = ClientSocket(receive, send, scope[DRAINING_KEY], tasks)
        writer = tasks.create_task(socket.write(), name="socket writer")
        try:
            yield socket
        except Exception as error:
            fault = error  # as itself: a group would hide from the caller what it is
            socket.finish()
        else:
            socket.close()
        await asyncio.wait((writer,), timeout=LAST_WORDS_TIMEOUT)
        writer.cancel()
    if fault is not None:
        raise fault
