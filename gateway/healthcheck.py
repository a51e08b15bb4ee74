"""Asks the gateway on this machine whether it lives; for containers that have no curl."""

import socket
from collections.abc import Mapping

TIMEOUT = 3.0
"""Seconds."""
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def answers(environment: Mapping[str, str]) -> bool:
    """Whether GET /livez is answered with 200 where HOST and PORT say the gateway listens."""
    host = environment.get("HOST", "").strip() or "127.0.0.1"
    port = environment.get("PORT", "").strip() or "8000"
    try:
        with socket.create_connection(
            (EVERY_INTERFACE.get(host, host), int(port)), timeout=TIMEOUT
        ) as connection:
            connection.sendall(REQUEST)
            status_line = connection.makefile("rb").readline(256)
    except (OSError, ValueError, OverflowError):
        return False
    return status_line.startswith(b"HTTP/1.1 200 ")
