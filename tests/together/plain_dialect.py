"""The simplest dialect: µ-law in, every event out as JSON of its fields. For tests.

Text frames are `commit`, `clear` and `finish`; `?manual=1` leaves turns to the client, `?call_id=`
names the call, `?refuse=1` is refused.
"""

import json
from dataclasses import asdict

from gateway.errors import BadRequest
from gateway.live.events import (
    Audio,
    ClearAudio,
    CommitTurn,
    Finish,
    Opening,
    Reply,
    Request,
    SessionEvent,
    TextChanged,
)
from gateway.live.handshake import Handshake
from tests.gateway.live.letter_engine import options, stream_format

REQUESTS: dict[str, Request] = {
    "commit": CommitTurn(even_if_empty=True),
    "clear": ClearAudio(),
    "finish": Finish(),
}


class PlainDialect:
    """See Dialect."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    @property
    def opening(self) -> Opening:
        return self._opening

    def greeting(self, *, is_ready: bool) -> list[Request]:
        return [Reply(json.dumps({"type": "hello", "is_ready": is_ready}))]

    def text_received(self, text: str) -> list[Request]:
        return [REQUESTS[text]]

    def bytes_received(self, content: bytes) -> list[Request]:
        return [Audio(content)]

    def event(self, event: SessionEvent) -> list[Request]:
        text = json.dumps({"type": type(event).__name__, **asdict(event)})
        return [Reply(text, may_drop=isinstance(event, TextChanged))]


def open_dialect(handshake: Handshake) -> PlainDialect:
    """Raises BadRequest where the query asks for it."""
    if handshake.query.get("refuse"):
        raise BadRequest("This handshake is refused.")
    is_manual = handshake.query.get("manual") == "1"
    call_id = handshake.query.get("call_id", "call_1")
    return PlainDialect(Opening(stream_format(), options(is_manual=is_manual), call_id))
