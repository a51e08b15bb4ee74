"""JSON that is written while its parts become known, so that it is held once. Pure."""

import json
from collections.abc import Iterator, Mapping

PIECE_BYTES = 64 * 1024
"""A whole answer is handed on in pieces of this size: the server copies what it writes."""

LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""What some clients take for the end of an event's line, besides what JSON escapes anyway."""


def encoded(value: object) -> bytes:
    """A value as JSON in UTF-8. Raises ValueError for numbers that JSON does not know."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(LINE_ENDS).encode("utf-8")


class JsonList:
    """A JSON array in the making."""

    def __init__(self) -> None:
        self._content = bytearray(b"[")

    def __repr__(self) -> str:
        return f"<JsonList {len(self._content)} bytes>"

    def add(self, item: object) -> None:
        """Write one more item."""
        if len(self._content) > 1:
            self._content += b","
        self._content += encoded(item)

    def pieces(self) -> Iterator[bytes]:
        """The whole array."""
        yield from cut(self._content)
        yield b"]"


def json_object(fields: Mapping[str, object]) -> Iterator[bytes]:
    """One object; JsonLists among its values are written out piece by piece."""
    opening = b"{"
    for name, value in fields.items():
        yield opening + encoded(name) + b":"
        if isinstance(value, JsonList):
            yield from value.pieces()
        else:
            yield from cut(encoded(value))
        opening = b","
    yield b"}" if fields else b"{}"


def cut(content: bytes | bytearray) -> Iterator[bytes]:
    """Content in pieces of at most PIECE_BYTES."""
    for start in range(0, len(content), PIECE_BYTES):
        yield bytes(content[start : start + PIECE_BYTES])
