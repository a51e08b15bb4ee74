"""One WebSocket handshake, and the socket that may come of it, as the app sees them (ASGI).

A handshake is an HTTP request until it is accepted: a refusal is a whole HTTP answer.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from gateway.websockets import frames
from gateway.websockets.frames import Close
from gateway.websockets.handshake import accept_value
from gateway.websockets.wire import SocketGone, Wire

if TYPE_CHECKING:
    from gateway.connection import Connection, Connections

DRAINING_KEY = "gateway.draining"
"""In the scope: an asyncio.Event, set when the server begins to end."""


class Upgrade:
    """Owns the connection from the handshake's last header on."""

    def __init__(self, scope: Scope, http: "Connection", shared: "Connections") -> None:
        self._scope: dict[str, Any] = {
            **scope,
            "type": "websocket",
            "scheme": "ws",
            "subprotocols": _offered_subprotocols(Headers(scope=scope)),
            "extensions": {"websocket.http.response": {}},
            DRAINING_KEY: shared.draining,
        }
        self._http: Connection | None = http
        """None once the handshake is accepted."""
        self._transport = http.transport
        self._shared = shared
        self._was_connect_given = False
        self._left = asyncio.Event()
        self._refusal: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._refusal_body = b""
        self._wire: Wire | None = None
        """Of an accepted handshake."""

    async def run(self, app: ASGIApp) -> None:
        """Let the app speak; whatever it leaves open is closed."""
        try:
            await app(self._scope, self.receive, self.send)
        finally:
            if self._wire is not None:
                self._wire.close(frames.NORMAL)
            else:
                self._transport.close()

    def connection_lost(self) -> None:
        """The client left before the handshake was answered."""
        self._left.set()

    async def receive(self) -> Message:
        """What the app's receive() gives."""
        if not self._was_connect_given:
            self._was_connect_given = True
            return {"type": "websocket.connect"}
        if self._wire is None:
            await self._left.wait()
            return _disconnect(Close(frames.ABNORMAL, ""))
        message = await self._wire.receive()
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        if isinstance(message, bytes):
            return {"type": "websocket.receive", "bytes": message}
        return _disconnect(message)

    async def send(self, message: Message) -> None:
        """What the app's send() does. Raises SocketGone where the client is gone."""
        kind = message["type"]
        if self._wire is not None:
            if kind == "websocket.send":
                text = message.get("text")
                await self._wire.send(message["bytes"] if text is None else text)
            elif kind == "websocket.close":
                self._wire.close(message.get("code", frames.NORMAL), message.get("reason") or "")
            else:
                raise ValueError(f"{kind} was sent on an open WebSocket")
        elif self._left.is_set() or self._transport.is_closing():
            raise SocketGone("the client left during the handshake")
        elif kind == "websocket.accept":
            self._accept(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.http.response.start":
            self._refusal = (message["status"], list(message.get("headers", ())))
        elif kind == "websocket.http.response.body":
            self._refusal_body += message.get("body", b"")
            if not message.get("more_body", False):
                self._refuse()
        elif kind == "websocket.close":
            self._refusal = (HTTPStatus.FORBIDDEN, [])
            self._refuse()
        else:
            raise ValueError(f"{kind} was sent before the handshake was answered")

    def _accept(self, subprotocol: str | None, headers: list[tuple[bytes, bytes]]) -> None:
        assert self._http is not None
        key = Headers(scope=self._scope)["sec-websocket-key"]
        answer = [
            *self._shared.default_headers,
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_value(key).encode("ascii")),
            *headers,
        ]
        if subprotocol is not None:
            answer.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        switching = h11.InformationalResponse(
            status_code=HTTPStatus.SWITCHING_PROTOCOLS,
            headers=answer,
            reason=b"Switching Protocols",
        )
        self._transport.write(self._http.conn.send(switching) or b"")
        self._wire = Wire(self._transport, self._shared)
        early = self._http.hand_over(self._wire)
        self._http = None
        self._wire.start(early)

    def _refuse(self) -> None:
        assert self._http is not None
        assert self._refusal is not None, "the body of an answer that has not begun"
        status, headers = self._refusal
        body = self._refusal_body
        own = [
            *self._shared.default_headers,
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        named = {name.lower() for name, _ in own}
        kept = [(name, value) for name, value in headers if name.lower() not in named]
        response = h11.Response(
            status_code=status, headers=[*own, *kept], reason=HTTPStatus(status).phrase.encode()
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(self._http.conn.send(event) or b"")
        self._transport.close()


def _offered_subprotocols(headers: Headers) -> list[str]:
    listed = ",".join(headers.getlist("sec-websocket-protocol")).split(",")
    return [name.strip() for name in listed if name.strip()]


def _disconnect(close: Close) -> Message:
    return {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
