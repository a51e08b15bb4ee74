"""One multipart/form-data body as it arrives: the recording goes to a sink, fields are collected.

Does no I/O of its own. Every limit is checked while the bytes come in; whatever does not fit raises
an ApiError.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import (
    BadRequest,
    RecordingEmpty,
    RecordingMissing,
    UnsupportedMediaType,
    UploadTooLarge,
)

MAX_FIELDS = 512
MAX_FIELD_BYTES = 64 * 1024
MAX_PART_HEADERS = 16
MAX_PART_HEADER_BYTES = 4 * 1024
MAX_NAME_BYTES = 256
MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
MAX_OVERHEAD_BYTES = 512 * 1024
"""What a body may hold beside the recording: it is kept in memory."""
FILE_FIELD = "file"
UNREAD_FIELDS = ("known_speaker_references",)
"""List fields with recordings of their own, which are counted and thrown away."""
MAX_UNREAD_BYTES = 8 * 1024**2
"""Four references of 10 s as WAV at 48 kHz, in base64, are 5 MB."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half a character: JSON can escape it, UTF-8 cannot hold it."""
INDEXED_NAME = re.compile(r"([^\[\]]+)\[\d*\]")


WORDS_FOR_NOTHING = ("null", "none", "undefined")
"""What forms hold where a program wrote a missing value out, in any case."""


@dataclass(frozen=True, slots=True)
class Form:
    """The text fields of one request, in order."""

    fields: tuple[tuple[str, str], ...] = ()
    file_name: str = ""
    """What the caller calls the recording: for the caller's eyes only, never a path."""

    def text(self, name: str) -> str | None:
        """The value of a field sent once; the last one where it was sent more often."""
        values = [value for field_name, value in self.fields if field_name == name]
        return values[-1] if values else None

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a list field, in any way clients send one: name, name[], name[0], or one
        JSON array. Raises BadRequest for escapes in it that stand for no character."""
        values = tuple(value for field_name, value in self.fields if _list_name(field_name) == name)
        items = _json_array(values[0]) if len(values) == 1 else None
        if any(SURROGATE.search(item) for item in items or ()):
            raise BadRequest("An escape in this list stands for half a character.", param=name)
        return values if items is None else items

    def choice(self, name: str) -> str:
        """The value of a field that holds no free text; empty where it was not sent, or as a word
        that clients write for nothing."""
        return _chosen(self.text(name) or "")

    def choices(self, name: str) -> tuple[str, ...]:
        """As `choice`, of a list field."""
        return tuple(chosen for text in self.texts(name) if (chosen := _chosen(text)))


def _chosen(text: str) -> str:
    chosen = text.strip()
    return "" if chosen.lower() in WORDS_FOR_NOTHING else chosen


def boundary_of(content_type: str) -> bytes:
    """The boundary a Content-Type header names; raises UnsupportedMediaType, BadRequest."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("Send the recording as multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES:
        raise BadRequest(
            "The Content-Type header needs a boundary of 1 to 70 characters; HTTP libraries set "
            "it themselves when the header is left to them."
        )
    return boundary


@dataclass(slots=True)
class _Part:
    """One part while it is read; a file part's content is not kept here."""

    headers: dict[str, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    name: str | None = None
    content: bytearray = field(default_factory=bytearray)
    is_file: bool = False

    @property
    def is_unread(self) -> bool:
        return self.name is not None and _list_name(self.name) in UNREAD_FIELDS


class MultipartReader:
    """Feed it the body; afterwards `finish` gives the form."""

    def __init__(
        self,
        boundary: bytes,
        *,
        write_file: Callable[[memoryview], None],
        max_file_bytes: int,
        file_field: str = FILE_FIELD,
    ) -> None:
        self._file_field = file_field
        self._file_name = ""
        self._write_file = write_file
        self._max_file_bytes = max_file_bytes
        self.file_bytes: int | None = None
        """Bytes of the recording so far; None before its part begins."""
        self._body_bytes = 0
        self._unread_bytes = 0
        self._is_complete = False
        self._part = _Part()
        self._fields: list[tuple[str, str]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )

    def feed(self, received: bytes) -> None:
        """The next bytes of the body."""
        self._body_bytes += len(received)
        try:
            self._parser.write(received)
        except FormParserError as error:
            raise BadRequest("The multipart body is malformed.") from error
        thrown_away = min(self._unread_bytes, MAX_UNREAD_BYTES)
        if self._body_bytes - (self.file_bytes or 0) - thrown_away > MAX_OVERHEAD_BYTES:
            raise UploadTooLarge(
                f"Everything beside the recording is at most {MAX_OVERHEAD_BYTES} bytes together."
            )

    def form_so_far(self) -> Form:
        """The fields that are complete; others may follow."""
        return Form(tuple(self._fields), self._file_name)

    def finish(self) -> Form:
        """The form, once the body is over; raises BadRequest where something is missing."""
        if not self._is_complete:
            raise BadRequest("The multipart body ends before its closing boundary.")
        if self.file_bytes is None:
            raise RecordingMissing(
                f"The recording is missing: send it in the part `{self._file_field}`.",
                param=self._file_field,
            )
        if self.file_bytes == 0:
            raise RecordingEmpty(
                f"The part `{self._file_field}` is empty: send a recording.",
                param=self._file_field,
            )
        return Form(tuple(self._fields), self._file_name)

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, received: bytes, start: int, end: int) -> None:
        self._part.header_name += received[start:end]

    def _on_header_value(self, received: bytes, start: int, end: int) -> None:
        self._part.header_value += received[start:end]

    def _on_header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.decode("latin-1").lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _on_headers_finished(self) -> None:
        part = self._part
        disposition = part.headers.get("content-disposition", b"")
        kind, options = parse_options_header(disposition.decode("latin-1"))
        name = options.get(b"name", b"")
        if kind != b"form-data" or not 1 <= len(name) <= MAX_NAME_BYTES:
            raise BadRequest("A part of the multipart body lacks a usable name.")
        part.name = name.decode("utf-8", "replace")
        part.is_file = part.name == self._file_field
        if part.is_file:
            self._begin_file(options.get(b"filename", b""))
        elif b"filename" in options:
            raise BadRequest(
                f"Send the recording in the part `{self._file_field}`, and no other files."
            )
        elif len(self._fields) == MAX_FIELDS:
            raise BadRequest(f"A request has at most {MAX_FIELDS} fields.")

    def _begin_file(self, name: bytes) -> None:
        if self.file_bytes is not None:
            raise BadRequest("Send one recording a request.", param=self._file_field)
        self._file_name = name.decode("utf-8", "replace")[:MAX_NAME_BYTES]
        self.file_bytes = 0

    def _on_part_data(self, received: bytes, start: int, end: int) -> None:
        part = self._part
        if part.is_unread:
            self._unread_bytes += end - start
            return
        if not part.is_file:
            part.content += received[start:end]
            if len(part.content) > MAX_FIELD_BYTES:
                raise BadRequest(f"A field holds at most {MAX_FIELD_BYTES} bytes.", param=part.name)
            return
        assert self.file_bytes is not None
        self.file_bytes += end - start
        if self.file_bytes > self._max_file_bytes:
            raise self._too_large()
        self._write_file(memoryview(received)[start:end])

    def _on_part_end(self) -> None:
        part = self._part
        if part.is_file:
            return
        assert part.name is not None, "parts without a name were refused"
        try:
            self._fields.append((part.name, part.content.decode("utf-8")))
        except UnicodeDecodeError:
            raise BadRequest("Fields are UTF-8 text.", param=part.name) from None

    def _on_end(self) -> None:
        self._is_complete = True

    def _too_large(self) -> UploadTooLarge:
        return UploadTooLarge(
            f"The upload is larger than {self._max_file_bytes} bytes, the limit of this server.",
            param=self._file_field,
        )


def _list_name(name: str) -> str:
    match = INDEXED_NAME.fullmatch(name)
    return match[1] if match else name


def _json_array(text: str) -> tuple[str, ...] | None:
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return tuple(items)
    return None
