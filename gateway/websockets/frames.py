"""WebSocket frames (RFC 6455, section 5) as a server reads and writes them. Pure.

Not a library's: what a connection holds must be known to the byte, and payloads are unmasked as
they arrive, so that a message of 20 MiB is not in memory three times (docs/benchmarks.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
RESERVED_BITS = 0x70
MASKED = 0x80
CONTROL_BIT = 0x8
MAX_CONTROL_BYTES = 125
MAX_REASON_BYTES = 123

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_CODE = 1005
"""Never sent: the peer's close carried no code."""
ABNORMAL = 1006
"""Never sent: the connection ended without a close."""
INVALID_TEXT = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
SENDABLE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
"""Registered with IANA; 3000 to 4999 are free for libraries and applications."""


class Violation(Exception):
    """The peer sent what it must not; the connection is closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping, or comes unasked."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The last frame of a side."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Close
"""A text message, a binary message, or a control frame."""


class FrameReader:
    """Turns what one client sends into events."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._unread = bytearray()
        self._message = bytearray()
        self._message_opcode = CONTINUATION
        """TEXT or BINARY while a message of several frames is under way."""
        self._control = bytearray()
        # Of the frame whose payload is being read:
        self._first_byte = 0
        self._mask = b""
        self._left: int | None = None
        """Payload bytes still to come; None between frames."""

    @property
    def held_bytes(self) -> int:
        """What is kept of frames and messages that are not whole yet."""
        return len(self._unread) + len(self._message)

    def feed(self, received: bytes) -> Iterator[Event]:
        """Events in their order; raises Violation, after which nothing more may be fed."""
        self._unread += received
        while self._left is not None or self._read_header():
            if not self._read_payload():
                return
            event = self._end_frame()
            if event is not None:
                yield event

    def _read_header(self) -> bool:
        """Whether the header of the next frame is there."""
        unread = self._unread
        if len(unread) < 2:
            return False
        first, length = unread[0], unread[1] & 0x7F
        self._check_opcode(first, unread[1])
        size = 2 if length < 126 else 4 if length == 126 else 10
        if len(unread) < size + 4:
            return False
        if size > 2:
            length = int.from_bytes(unread[2:size], "big")
        self._check_length(first, length)
        self._mask = bytes(unread[size : size + 4])
        del unread[: size + 4]
        self._first_byte, self._left = first, length
        return True

    def _check_opcode(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & RESERVED_BITS:
            raise Violation(PROTOCOL_ERROR, "A frame uses an extension that was not agreed on.")
        if not second & MASKED:
            raise Violation(PROTOCOL_ERROR, "A client's frames must be masked.")
        if opcode in (PING, PONG, CLOSE):
            if not first & FIN or second & 0x7F > MAX_CONTROL_BYTES:
                raise Violation(PROTOCOL_ERROR, "A control frame is too long or fragmented.")
        elif opcode in (TEXT, BINARY):
            if self._message_opcode:
                raise Violation(PROTOCOL_ERROR, "A message began within another one.")
        elif opcode != CONTINUATION:
            raise Violation(PROTOCOL_ERROR, f"Frames of type {opcode} are unknown.")
        elif not self._message_opcode:
            raise Violation(PROTOCOL_ERROR, "A message is continued that has not begun.")

    def _check_length(self, first: int, length: int) -> None:
        if first & CONTROL_BIT:
            return
        if len(self._message) + length > self._max_message_bytes:
            raise Violation(TOO_BIG, f"Messages may have {self._max_message_bytes} bytes at most.")

    def _read_payload(self) -> bool:
        """Whether the rest of the frame's payload was there; what there is of it is unmasked."""
        assert self._left is not None
        unread = self._unread
        is_whole = len(unread) >= self._left
        # A multiple of the mask's length, so that the next piece begins with its first byte.
        taken = self._left if is_whole else len(unread) & ~3
        if taken:
            target = self._control if self._first_byte & CONTROL_BIT else self._message
            target += unmasked(unread[:taken], self._mask)
            del unread[:taken]
            self._left -= taken
        return is_whole

    def _end_frame(self) -> Event | None:
        """What the frame completes, if anything."""
        self._left = None
        opcode = self._first_byte & 0x0F
        if opcode & CONTROL_BIT:
            payload, self._control = bytes(self._control), bytearray()
            return _control_event(opcode, payload)
        self._message_opcode = opcode or self._message_opcode
        if not self._first_byte & FIN:
            return None
        is_text = self._message_opcode == TEXT
        message, self._message, self._message_opcode = self._message, bytearray(), CONTINUATION
        return _text(message) if is_text else bytes(message)


def unmasked(payload: bytes | bytearray, mask: bytes) -> bytes:
    """Payload and mask XORed; the same way back (RFC 6455, 5.3)."""
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    joined = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
    return joined.to_bytes(length, "little")


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """A whole, unmasked frame, as servers send them."""
    length = len(payload)
    if length < 126:
        return bytes((FIN | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((FIN | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((FIN | opcode, 127)) + length.to_bytes(8, "big") + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; a reason that is too long is cut between characters."""
    short = reason.encode("utf-8")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
    return encode_frame(CLOSE, code.to_bytes(2, "big") + short.encode("utf-8"))


def encode_close_reply(close: Close) -> bytes:
    """The answer to a peer's close: its code, and none where it gave none."""
    return encode_frame(CLOSE, b"") if close.code == NO_CODE else encode_close(close.code)


def _control_event(opcode: int, payload: bytes) -> Event:
    if opcode == PING:
        return Ping(payload)
    return Pong(payload) if opcode == PONG else _close(payload)


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in SENDABLE_CODES or 3000 <= code < 5000):
        raise Violation(PROTOCOL_ERROR, "The code of a close frame is not valid.")
    return Close(code, _text(payload[2:]))


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT, "Text must be UTF-8.") from None
