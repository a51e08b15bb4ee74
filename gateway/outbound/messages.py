"""What the gateway and its child for outgoing calls say to each other over two pipes.

A frame is its length (four bytes, big-endian) and a msgpack array [message type, *fields]. Both
ends are of one program, so there is no version; lengths are bounded all the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import msgpack

MAX_BODY_BYTES = 1024 * 1024
"""Of a request, and most of an answer."""
MAX_FRAME_BYTES = MAX_BODY_BYTES + 256 * 1024
"""Leaves room for headers around a body."""
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Call:
    """Gateway -> child: make this request. Answered by one Answer or Failure."""

    number: int
    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout: float
    """Seconds from connecting to the last byte of the answer."""
    max_answer_bytes: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Gateway -> child: nobody waits for this call any more. Not answered."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Child -> gateway: what the other server answered, whatever its status."""

    number: int
    status: int
    headers: dict[str, str]
    """By lower-case name; of several of one name all, with commas between."""
    body: bytes = field(repr=False)


class Reason(StrEnum):
    """Why there is no answer."""

    BAD_ADDRESS = "bad_address"
    BAD_ENVIRONMENT = "bad_environment"
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    TIMEOUT = "timeout"
    BROKEN_OFF = "broken_off"
    TOO_LARGE = "too_large"
    REDIRECTED = "redirected"
    CHILD_ENDED = "child_ended"


@dataclass(frozen=True, slots=True)
class Failure:
    """Child -> gateway: there is no answer."""

    number: int
    reason: Reason
    words: str
    """For the operator's log: what happened, without secrets."""


Message = Call | Drop | Answer | Failure
TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in (Call, Drop, Answer, Failure)}


class BadFrame(ValueError):
    """The bytes are none of the messages above."""


def pack(message: Message) -> bytes:
    """One frame; raises BadFrame where it would be larger than the other end accepts."""
    values = [getattr(message, one.name) for one in fields(message)]
    content: bytes = msgpack.packb([type(message).__name__, *map(_plain, values)])
    if len(content) > MAX_FRAME_BYTES:
        raise BadFrame("larger than a frame may be")
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


class Unpacker:
    """Bytes as they come from a pipe -> messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def __repr__(self) -> str:
        return f"<Unpacker {len(self._pending)} bytes pending>"

    def feed(self, content: bytes) -> Iterator[Message]:
        """The messages that these bytes complete; raises BadFrame."""
        self._pending += content
        while len(self._pending) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._pending[:LENGTH_BYTES], "big")
            if end > LENGTH_BYTES + MAX_FRAME_BYTES:
                raise BadFrame("larger than a frame may be")
            if len(self._pending) < end:
                return
            frame = bytes(self._pending[LENGTH_BYTES:end])
            del self._pending[:end]
            yield _message(frame)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def _message(frame: bytes) -> Message:
    try:
        name, *values = msgpack.unpackb(frame)
        message: Message = TYPES[name](*values)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise BadFrame("not a message") from error
    if isinstance(message, Failure):
        return Failure(message.number, _reason(message.reason), message.words)
    return message


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError as error:
        raise BadFrame("not a reason") from error
