"""An open WebSocket on its TCP connection: frames, pings, closing, and how much may wait.

Knows nothing of ASGI. Pings are sent and answered by the event loop, not by the app.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

from gateway.websockets import frames
from gateway.websockets.frames import Close, FrameReader, Ping, Violation
from gateway.websockets.inbox import Inbox

if TYPE_CHECKING:
    from gateway.connection import Connections

MAX_MESSAGE_BYTES = 21 * 1024 * 1024
"""OpenAI lets one event carry 15 MiB of audio, which is 20 MiB of base64, and JSON around it."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Of unfinished and untaken messages, over all connections."""
HELD_WITHOUT_ASKING = 512 * 1024
"""Bytes; whoever holds no more than these is not closed because all together hold too much."""
PING_INTERVAL = 20.0
"""Seconds between pings, and also within which there must be a sign of life after one."""
CLOSE_TIMEOUT = 5.0
"""Seconds that a closing connection gets to send what is written and to hear the peer's close."""
KERNEL_UNSENT_BYTES = 32 * 1024
"""The kernel takes no more while so many bytes wait there to be sent."""
HELD_TOO_MUCH = "The server holds too many unfinished messages. Try again shortly."


class SocketGone(OSError):
    """The connection is closed or closing: nothing can be sent any more."""


class Wire(asyncio.BufferedProtocol):
    """Takes the transport over once the handshake is answered."""

    def __init__(self, transport: asyncio.Transport, shared: "Connections") -> None:
        self.transport = transport
        self._shared = shared
        self.inbox = Inbox(pause=self._pause_reading, resume=self._resume_reading)
        self._reader: FrameReader | None = FrameReader(MAX_MESSAGE_BYTES)
        """None once the client broke the rules: what still comes is thrown away."""
        self._loop = asyncio.get_running_loop()
        self._ping_timer = self._loop.call_later(PING_INTERVAL, self.on_ping_interval)
        self._close_timer: asyncio.TimerHandle | None = None
        self._is_sign_of_life_due = False
        self._unsent_at_ping = 0
        self._unanswered_ping: Ping | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._held_bytes = 0
        self.is_closing = False
        """Whether a close frame was sent, or the connection is lost."""

    def __repr__(self) -> str:
        state = "closing" if self.is_closing else "open"
        return f"<Wire {state}, {self._held_bytes} bytes held>"

    def start(self, early: bytes) -> None:
        """Read on; `early` is what came with the handshake."""
        _keep_unsent_bytes_here(self.transport)
        self.transport.set_protocol(self)
        if early:
            self._receive(early)
        if not self.inbox.is_paused:
            self._resume_reading()

    async def send(self, message: str | bytes) -> None:
        """Send one message; returns when the kernel has taken all of it. Raises SocketGone."""
        if self.is_closing or self.transport.is_closing():
            raise SocketGone("the WebSocket is closed")
        if isinstance(message, str):
            frame = frames.encode_frame(frames.TEXT, message.encode("utf-8"))
        else:
            frame = frames.encode_frame(frames.BINARY, message)
        self.transport.write(frame)
        await self._writable.wait()
        if self.transport.is_closing():
            raise SocketGone("the connection was lost")

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close: what was written goes out first, what waits to be taken is thrown away.
        Does nothing the second time."""
        if self.is_closing:
            return
        self._send_close(Close(code, reason), frames.encode_close(code, reason))
        self.inbox.discard()

    def shutdown(self) -> None:
        """The server ends."""
        self.close(frames.GOING_AWAY, "The server is shutting down. Connect again shortly.")

    async def receive(self) -> str | bytes | Close:
        """The next message; the close, once everything before it was taken."""
        message = await self.inbox.get()
        if self._held_bytes > HELD_WITHOUT_ASKING:
            self._count_held()
        return message

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._shared.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._is_sign_of_life_due = False
        if self._reader is not None:
            self._receive(bytes(memoryview(self._shared.receive_buffer)[:nbytes]))

    def eof_received(self) -> None:
        """The transport closes by itself, once what is written is sent, if ever it is."""
        self.is_closing = True
        self.inbox.close(Close(frames.ABNORMAL, ""))
        self._abort_later()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._is_sign_of_life_due = False
        self._writable.set()
        if self._unanswered_ping is not None:
            ping, self._unanswered_ping = self._unanswered_ping, None
            self._answer_ping(ping)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._ping_timer.cancel()
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._reader = None
        self._count_held()
        self._shared.leave(self)
        self.inbox.close(Close(frames.ABNORMAL, ""))
        self._writable.set()

    # Reading.

    def _receive(self, received: bytes) -> None:
        assert self._reader is not None
        try:
            for event in self._reader.feed(received):
                self._take(event)
        except Violation as violation:
            self._fail(violation.code, violation.reason)
            return
        self._count_held()
        if self._held_bytes > HELD_WITHOUT_ASKING and self._shared.held_bytes > MAX_HELD_BYTES:
            self._fail(frames.TRY_AGAIN_LATER, HELD_TOO_MUCH)

    def _take(self, event: frames.Event) -> None:
        if isinstance(event, str | bytes):
            self.inbox.put(event)
        elif isinstance(event, Ping):
            self._answer_ping(event)
        elif isinstance(event, Close):
            if not self.is_closing:
                self._send_close(event, frames.encode_close_reply(event))
            self.transport.close()

    def _fail(self, code: int, reason: str) -> None:
        """Close on a client whose bytes are read no more. They are thrown away until it has seen
        why: a socket that is closed on unread bytes resets, and the close frame is lost."""
        self._reader = None
        self._count_held()
        if not self.is_closing:
            self._send_close(Close(code, reason), frames.encode_close(code, reason))
        if not self.transport.is_closing():
            self.transport.write_eof()
        self._resume_reading()

    def _count_held(self) -> None:
        held = 0
        if self._reader is not None:
            held = self._reader.held_bytes + self.inbox.held_bytes
        self._shared.held_bytes += held - self._held_bytes
        self._held_bytes = held

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self._is_sign_of_life_due = False
            self.transport.resume_reading()

    # Writing.

    def _answer_ping(self, ping: Ping) -> None:
        """At once, or only the latest when the client has read what waits (RFC 6455, 5.5.3)."""
        if self.is_closing:
            return
        if self.transport.get_write_buffer_size():
            self._unanswered_ping = ping
        else:
            self.transport.write(frames.encode_frame(frames.PONG, ping.payload))

    def _send_close(self, close: Close, frame: bytes) -> None:
        self.is_closing = True
        self._ping_timer.cancel()
        self.inbox.close(close)
        self.transport.write(frame)
        self._abort_later()

    def _abort_later(self) -> None:
        if self._close_timer is None:
            self._close_timer = self._loop.call_later(CLOSE_TIMEOUT, self.transport.abort)

    def on_ping_interval(self) -> None:
        """Send a ping, or end a connection that gave no sign of life since the last one.

        Any byte that comes or goes is one: some clients leave pings unanswered. While the app lets
        the client wait, nothing is read and nothing can be concluded.
        """
        unsent = self.transport.get_write_buffer_size()
        is_silent = self._is_sign_of_life_due and not unsent < self._unsent_at_ping
        if is_silent and not self.inbox.is_paused:
            self._send_close(
                Close(frames.ABNORMAL, ""),
                frames.encode_close(frames.INTERNAL_ERROR, "The client answered no ping."),
            )
            self.transport.abort()
            return
        if not unsent:
            self.transport.write(frames.encode_frame(frames.PING, b""))
        self._is_sign_of_life_due, self._unsent_at_ping = True, unsent
        self._ping_timer = self._loop.call_later(PING_INTERVAL, self.on_ping_interval)


def _keep_unsent_bytes_here(transport: asyncio.Transport) -> None:
    """What a client does not read shall wait where it is counted, not in the kernel's megabytes."""
    connected: socket.socket = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it
    if option is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, option, KERNEL_UNSENT_BYTES)
