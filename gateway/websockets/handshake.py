"""What a WebSocket handshake asks for, and whether it can be had (RFC 6455, section 4). Pure."""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.errors import ApiError, BadRequest

ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""
VERSION = "13"
MAX_TARGET_BYTES = 8192
REALTIME = "realtime"
INVALID_HTTP = "invalid_http"


class TargetTooLong(ApiError):
    """The path and query of the request line."""

    status = 414
    code = INVALID_HTTP


class UpgradeNeeded(ApiError):
    """No WebSocket is asked for, or one of another version of the protocol."""

    status = 426
    code = INVALID_HTTP

    def __init__(self, message: str) -> None:
        super().__init__(
            message, headers={"sec-websocket-version": VERSION, "upgrade": "websocket"}
        )


def check_handshake(scope: Scope) -> None:
    """Raises TargetTooLong, UpgradeNeeded, BadRequest."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise TargetTooLong(f"The request line may have {MAX_TARGET_BYTES} bytes at most.")
    headers = Headers(scope=scope)
    if headers.getlist("sec-websocket-version") != [VERSION]:
        raise UpgradeNeeded(
            f"WebSocket connections need the header Sec-WebSocket-Version: {VERSION}."
        )
    keys = headers.getlist("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        message = "WebSocket connections need one Sec-WebSocket-Key of 16 bytes in base64."
        raise BadRequest(message, code=INVALID_HTTP)


def accept_value(key: str) -> str:
    """Sec-WebSocket-Accept of a Sec-WebSocket-Key."""
    digest = hashlib.sha1(key.encode("ascii") + ACCEPT_SUFFIX, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def chosen_subprotocol(offered: Sequence[str]) -> str | None:
    """`realtime` wherever it is offered; a key that was sent as a subprotocol is never repeated."""
    return REALTIME if REALTIME in offered else None


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
