"""One HTTP connection: uvicorn's h11 protocol with the bounds it does not have.

A request's headers must arrive in time, bytes are read into one buffer shared by all connections
and only as fast as the app takes them, answers that nobody reads are dropped, and what is no HTTP
gets our error envelope. A WebSocket begins here too, and is handed over.
"""

import asyncio
import sys
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol, cast

import h11
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gateway.errors import ApiError, BadRequest, HeadTooLarge, RequestStalled

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from gateway.websockets.upgrade import Upgrade

# Each connection holds at most one such read. Twice as much took 15 % less CPU and, during 100
# uploads, 4 MB more (docs/benchmarks.md).
RECEIVE_BYTES = 32 * 1024
UNREAD_TIMEOUT = 30.0
"""Seconds a client may leave an answer unread; reading any of it buys as long again."""
REFUSED_BEYOND_LIMIT = 100
"""Connections beyond the limit that still get a 503; those after them are only closed."""


class OtherConnection(Protocol):
    """What a connection was handed over to."""

    transport: asyncio.Transport

    def shutdown(self) -> None: ...


class Connections(ServerState):
    """What all connections of one server share."""

    def __init__(self, *, max_connections: int, header_timeout: float, overloaded: ASGIApp) -> None:
        super().__init__()
        self.max_connections = max_connections
        self.header_timeout = header_timeout
        self.overloaded = overloaded
        """Answers in the app's place where there are too many connections."""
        self.receive_buffer = bytearray(RECEIVE_BYTES)
        self.all_closed = asyncio.Event()
        self.draining = asyncio.Event()
        """Set when the server begins to end."""
        self.held_bytes = 0
        """Of WebSocket messages that are not whole or not taken yet."""
        self._date_second = 0

    def refresh_date(self) -> None:
        """Keep the Date header of answers right to the second."""
        now = int(time.time())
        if now != self._date_second:
            self._date_second = now
            self.default_headers = [(b"date", formatdate(now, usegmt=True).encode("ascii"))]

    def enter(self, other: OtherConnection) -> None:
        """Count one that is no HTTP connection any more."""
        self.connections.add(other)  # type: ignore[arg-type]  # uvicorn knows its own alone

    def leave(self, closed: "OtherConnection") -> None:
        """The connection is closed, or was handed over."""
        self.connections.discard(closed)
        if not self.connections:
            self.all_closed.set()


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """Made by the server for every client that connects."""

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = server_state
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._upgrade: Upgrade | None = None
        """A WebSocket handshake that is not answered yet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # pause_writing and resume_writing then tell of every byte the client does not take, and
        # the app waits for one piece to leave before it sends the next.
        transport.set_write_buffer_limits(high=0)
        self._shared.all_closed.clear()
        excess = len(self.connections) - self._shared.max_connections
        if excess > REFUSED_BEYOND_LIMIT:
            transport.abort()
        elif excess > 0:
            self.app = cast("ASGI3Application", self._shared.overloaded)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)
        if self._upgrade is not None:
            self._upgrade.connection_lost()
        self._shared.leave(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._shared.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self._shared.receive_buffer)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        self._shared.refresh_date()
        super().data_received(data)
        self._watch_headers()
        if self.cycle is not None and self.cycle.body:
            self.flow.pause_reading()  # receive() of the app resumes it

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()

    def on_response_complete(self) -> None:
        has_unread_body = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()  # may begin the next, pipelined request
        if has_unread_body:
            # The boundary has waited long enough for the rest of a refused body.
            self.transport.close()
        self._watch_headers()

    def send_400_response(self, msg: str) -> None:
        fault = sys.exception()  # that of h11, which uvicorn calls this for
        if isinstance(fault, h11.RemoteProtocolError) and fault.error_status_hint == 431:
            self._refuse(HeadTooLarge("The request line and headers are too large. Send less."))
        else:
            self._refuse(BadRequest("This is not a valid HTTP/1.1 request.", code="invalid_http"))

    def shutdown(self) -> None:
        if self._upgrade is None:  # else its task ends as those of other requests do
            super().shutdown()

    def _should_upgrade(self) -> bool:
        """Whether this is a WebSocket handshake. An upgrade to anything else is answered as the
        plain request it also is (RFC 9110, 7.8)."""
        is_plain_get = self.scope["method"] == "GET" and self.scope["http_version"] == "1.1"
        return is_plain_get and asks_for_websocket(self.headers)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        # 1 MB that a server without live callers need not carry.
        from gateway.websockets.upgrade import Upgrade

        self._stop_header_timer()
        self.conn.next_event()  # the end of a request without a body
        self._upgrade = Upgrade(cast("Scope", self.scope), self, self._shared)
        task = self.loop.create_task(self._upgrade.run(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def hand_over(self, other: OtherConnection) -> bytes:
        """Be followed by `other`, which must read on; what the client sent early."""
        self._stop_unread_timer()
        self._upgrade = None
        self._shared.enter(other)
        self._shared.leave(self)
        early, _ = self.conn.trailing_data
        return early

    def _watch_headers(self) -> None:
        if self._upgrade is not None:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_header_timer()
        elif self.conn.trailing_data[0]:
            self._expect_headers()

    def _expect_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self._shared.header_timeout, self._on_header_timeout
            )

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        if self.conn.trailing_data[0]:
            self._refuse(RequestStalled("The request's headers did not arrive in time."))
        else:
            self.transport.close()  # opened in advance and never used

    def _watch_unread(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self.check_unread)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def check_unread(self) -> None:
        """Abort where the client took nothing since the last look; closing would wait for it."""
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            self._watch_unread()
        else:
            self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Answer beside the app, where no answer has begun, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error.body()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode("ascii")),
                (b"connection", b"close"),
            ]
            response = h11.Response(status_code=error.status, headers=headers)
            for message in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(message) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def asks_for_websocket(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers, in lower case, is a WebSocket handshake; one with a
    body is none."""
    upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
    options = b",".join(value.lower() for name, value in headers if name == b"connection")
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )
    is_asked = b"upgrade" in (option.strip() for option in options.split(b","))
    return upgrades == [b"websocket"] and is_asked and not has_body
