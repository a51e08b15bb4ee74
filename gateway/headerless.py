"""Recordings that may come without a container: bare 16-bit PCM, 16 kHz, mono, little-endian.

A WAV header is written in front of such a body before its first byte, so that nothing of it is
written twice. Its sizes are those of a file still being written: readers go on to the end.
"""

import hashlib
import struct

from gateway.spool import SpooledUpload

UNKNOWN_SIZE = 0xFFFFFFFF
WAV_HEADER = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    b"RIFF",
    UNKNOWN_SIZE,
    b"WAVE",
    b"fmt ",
    16,  # bytes that describe the format
    1,  # PCM
    1,  # channel
    16_000,  # samples a second
    32_000,  # bytes a second
    2,  # bytes a sample
    16,  # bits a sample
    b"data",
    UNKNOWN_SIZE,
)
HEAD_BYTES = 12
"""Enough to tell a container."""
BEGINNINGS = (b"RIFF", b"RF64", b"fLaC", b"ID3", b"OggS", b"\x1a\x45\xdf\xa3")
"""The last is EBML: Matroska and WebM."""


def has_container(head: bytes) -> bool:
    """Whether a body that begins so names its format itself, whatever the caller says of it."""
    return head.startswith(BEGINNINGS) or head[4:8] == b"ftyp"


class Intake:
    """Takes a body to the spool, with a header where it needs one, and its digest on the way."""

    def __init__(self, *, may_lack_header: bool) -> None:
        # Without OpenSSL, which the gateway does not load, four times as fast as SHA-256.
        self._hash = hashlib.blake2b(digest_size=32)
        self._awaits_head = may_lack_header
        self._head = b""
        self._upload: SpooledUpload | None = None

    def into(self, upload: SpooledUpload) -> "Intake":
        """Itself, which writes to this upload from now on."""
        self._upload = upload
        return self

    @property
    def digest(self) -> bytes:
        """Of the body as it was sent."""
        return self._hash.digest()

    def write(self, content: memoryview) -> None:
        """Append; raises as SpooledUpload does."""
        self._hash.update(content)
        if not self._awaits_head:
            self._spooled.write(content)
            return
        self._head += content
        if len(self._head) >= HEAD_BYTES:
            self._write_head()

    def close(self) -> None:
        """No more writes."""
        if self._head:
            self._write_head()
        self._spooled.close()

    def _write_head(self) -> None:
        head, self._head, self._awaits_head = self._head, b"", False
        if not has_container(head):
            self._spooled.write(memoryview(WAV_HEADER))
        self._spooled.write(memoryview(head))

    @property
    def _spooled(self) -> SpooledUpload:
        assert self._upload is not None, "into names the upload first"
        return self._upload
