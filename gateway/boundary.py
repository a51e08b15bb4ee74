"""The outermost wrapper: an id for every request, one log line, an answer to every fault.

Also the one place that waits for the rest of a body it has refused: an answer sent into a closed
connection reaches nobody, and clients would take the reset for a network fault and try again.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.error_shapes import ErrorShape, Failure, envelope
from gateway.errors import ApiError, InternalError, RequestStalled, shutting_down
from gateway.telemetry import event

logger = logging.getLogger(__name__)

LINGER = 30.0
"""Seconds a refused body is read on, and thrown away (nginx's lingering_time)."""
CLIENT_CLOSED = 499
"""Logged, never sent: nginx's status for a client that left before its answer."""
WELL_FORMED_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
SCOPE_KEY = "gateway.record"


class ClientGone(Exception):
    """The caller left; nobody reads an answer."""


@dataclass(slots=True)
class RequestRecord:
    """What one request's log line tells."""

    request_id: str
    """Ours, also the id of the work it causes."""
    client_request_id: str | None
    """The caller's own x-request-id where it is well-formed; echoed instead of ours."""
    method: str
    path: str
    has_unread_body: bool
    is_probe: bool = False
    owner: str | None = None
    """Id of the API key, on a server with keys."""
    received_bytes: int = 0
    status: int | None = None
    answer_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Added to the answer, errors included."""
    details: dict[str, object] = field(default_factory=dict)
    """What a route adds, such as audio_seconds."""

    @property
    def public_id(self) -> str:
        """The id the caller knows."""
        return self.client_request_id or self.request_id

    @classmethod
    def of(cls, scope: Scope) -> "RequestRecord":
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        return cls(
            request_id=f"req_{secrets.token_hex(16)}",
            client_request_id=given if WELL_FORMED_ID.fullmatch(given) else None,
            method=scope["method"],
            path=scope["path"][:200],
            has_unread_body="transfer-encoding" in headers
            or headers.get("content-length", "0") != "0",
        )


def record_of(scope: MutableMapping[str, Any]) -> RequestRecord:
    """The record of the request that this scope belongs to."""
    record = scope[SCOPE_KEY]
    assert isinstance(record, RequestRecord)
    return record


class RequestBoundary:
    """Wraps the whole app. `error_shapes`: by path, where errors are not OpenAI's envelope."""

    def __init__(self, app: ASGIApp, error_shapes: Mapping[str, ErrorShape] | None = None) -> None:
        self._app = app
        self._error_shapes = error_shapes or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One spelling of each path, for the gatekeeper and the routes alike; never a redirect.
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        record = scope[SCOPE_KEY] = RequestRecord.of(scope)
        if scope["type"] == "websocket":
            from gateway.websockets.boundary import answer_socket  # loaded by now

            await answer_socket(self._app, record, scope, receive, send)
            return
        shape = self._error_shapes.get(scope["path"], envelope)
        exchange = _Exchange(record, scope, receive, send, shape)
        started = time.monotonic()
        try:
            await self._answer(exchange)
        except ClientGone:
            record.status = CLIENT_CLOSED
        except asyncio.CancelledError:
            # Only the server's end cancels a request, and the task ends with this answer.
            record.has_unread_body = False
            await exchange.refuse(shutting_down())
        finally:
            _log(record, time.monotonic() - started)

    async def _answer(self, exchange: "_Exchange") -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientGone:
            raise
        except ApiError as error:
            _log_cause(error, exchange.record)
            await exchange.refuse(error)
        except Exception:
            fields = {"request_id": exchange.record.request_id}
            logger.exception(event("request failed", fields))
            await exchange.refuse(InternalError())


class _Exchange:
    """The two ASGI callables of one request, watched."""

    def __init__(
        self,
        record: RequestRecord,
        scope: Scope,
        receive: Receive,
        send: Send,
        error_shape: ErrorShape,
    ) -> None:
        self.record = record
        self.scope = scope
        self._error_shape = error_shape
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.record.has_unread_body = False
        else:
            self.record.received_bytes += len(message.get("body", b""))
            self.record.has_unread_body = bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            name = self.record.public_id.encode("ascii")
            own = ((b"x-request-id", name), *self.record.answer_headers)
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer in the path's shape, unless an answer has begun (the connection then closes)."""
        if self.record.status is not None:
            return
        failure = Failure(error, self.record.method, self.record.public_id)
        answer = self._error_shape(failure)
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": answer.status, "headers": encoded}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": True})
        if self.record.has_unread_body and not isinstance(error, RequestStalled):
            await self._discard_body()
        await self.send({"type": "http.response.body", "body": b""})

    async def _discard_body(self) -> None:
        asked_first = Headers(scope=self.scope).get("expect", "").lower() == "100-continue"
        if asked_first and not self.record.received_bytes:
            return  # and sends nothing after a refusal
        try:
            async with asyncio.timeout(LINGER):
                while self.record.has_unread_body:
                    await self.receive()
        except (TimeoutError, asyncio.CancelledError):
            return  # the connection closes on a body that is still coming


def _log_cause(error: ApiError, record: RequestRecord) -> None:
    """Tell the operator what a caller is not told."""
    if error.status >= 500 and error.__cause__ is not None:
        fields = {"request_id": record.request_id, "code": error.code, "cause": error.__cause__}
        logger.error(event("request failed", fields))


def _log(record: RequestRecord, seconds: float) -> None:
    level = logging.DEBUG if record.is_probe else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = {
        "request_id": record.request_id,
        "client_request_id": record.client_request_id,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "wall_seconds": seconds,
        "received_bytes": record.received_bytes,
        "key": record.owner,
        **record.details,
    }
    logger.log(level, event("request finished", fields))
