"""The outermost wrapper of a WebSocket: one log line at its end, an answer to every fault."""

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.boundary import CLIENT_CLOSED, RequestRecord
from gateway.errors import ApiError, InternalError, shutting_down
from gateway.telemetry import event
from gateway.websockets import frames
from gateway.websockets.handshake import check_handshake
from gateway.websockets.upgrade import DRAINING_KEY
from gateway.websockets.wire import SocketGone

logger = logging.getLogger(__name__)

ACCEPTED = 101
"""Logged as the status of a handshake that was."""
FAULT = "The server failed on this connection. Its log tells more under the request id."
STOPPING = "The server is shutting down. Connect again shortly."


async def answer_socket(
    app: ASGIApp, record: RequestRecord, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run `app` on one WebSocket from its handshake to its end."""
    exchange = _Exchange(record, receive, send)
    started = time.monotonic()
    try:
        await _answer(app, exchange, scope)
    except asyncio.CancelledError:
        # Only the server's end cancels a socket, and the task ends with this.
        await exchange.end(shutting_down(), frames.GOING_AWAY, STOPPING)
    finally:
        _log(exchange, time.monotonic() - started)


async def _answer(app: ASGIApp, exchange: "_Exchange", scope: Scope) -> None:
    record = exchange.record
    try:
        check_handshake(scope)
        if scope[DRAINING_KEY].is_set():
            raise shutting_down()
        await app(scope, exchange.receive, exchange.send)
        if record.status is None:
            await exchange.end(InternalError(), frames.INTERNAL_ERROR, FAULT)
    except SocketGone:
        record.status = record.status or CLIENT_CLOSED
    except ApiError as error:
        code = frames.INTERNAL_ERROR if error.status >= 500 else frames.POLICY_VIOLATION
        await exchange.end(error, code, error.message)
    except Exception:
        logger.exception(event("socket failed", {"request_id": record.request_id}))
        await exchange.end(InternalError(), frames.INTERNAL_ERROR, FAULT)


class _Exchange:
    """The two ASGI callables of one WebSocket, watched."""

    def __init__(self, record: RequestRecord, receive: Receive, send: Send) -> None:
        self.record = record
        self._receive = receive
        self._send = send
        self.close_code: int | None = None
        """Of whichever side closed first."""
        self.received_messages = 0
        self.sent_messages = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.received_messages += 1
            self.record.received_bytes += len(message.get("bytes") or message.get("text") or b"")
        elif message["type"] == "websocket.disconnect":
            self._note_close(message["code"])
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self.sent_messages += 1
        elif kind == "websocket.accept":
            self.record.status = ACCEPTED
            message = {**message, "headers": [*message.get("headers", ()), *self._own_headers()]}
        elif kind == "websocket.http.response.start":
            self.record.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._own_headers()]}
        elif kind == "websocket.close":
            self._note_close(message.get("code", frames.NORMAL))
        await self._send(message)

    async def end(self, error: ApiError, code: int, reason: str) -> None:
        """Refuse the handshake in words; or close, where it was accepted."""
        try:
            if self.record.status is None:
                await self._refuse(error)
            elif self.record.status == ACCEPTED:
                await self.send({"type": "websocket.close", "code": code, "reason": reason})
        except SocketGone:
            self.record.status = self.record.status or CLIENT_CLOSED

    async def _refuse(self, error: ApiError) -> None:
        headers = {"content-type": "application/json", **error.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "websocket.http.response.start", "status": error.status}
        await self.send({**start, "headers": encoded})
        await self.send({"type": "websocket.http.response.body", "body": error.body()})

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        name = self.record.public_id.encode("ascii")
        return [(b"x-request-id", name), *self.record.answer_headers]

    def _note_close(self, code: int) -> None:
        if self.close_code is None:
            self.close_code = code


def _log(exchange: _Exchange, seconds: float) -> None:
    record = exchange.record
    fields = {
        "request_id": record.request_id,
        "client_request_id": record.client_request_id,
        "path": record.path,
        "status": record.status,
        "close_code": exchange.close_code,
        "wall_seconds": seconds,
        "received_messages": exchange.received_messages,
        "received_bytes": record.received_bytes,
        "sent_messages": exchange.sent_messages,
        "key": record.owner,
        **record.details,
    }
    logger.info(event("socket finished", fields))
