"""Finished chunks of one waiting request, in a file beside its upload.

The file is the queue between engine and caller: a slow reader costs disk and no memory, and after
an engine's death it says which chunks need no second inference. It knows nothing of callers.
"""

import struct
from pathlib import Path

import msgpack

from protocol import codec
from protocol.transcription import ChunkDone

_LENGTH = struct.Struct("<I")


class ChunkFile:
    """Append-only list of ChunkDone, read once from the front.

    The first record names the request and its owner, so that no stored text is nobody's.
    """

    def __init__(self, path: Path, *, request_id: str, owner: str | None) -> None:
        self.chunks = 0
        """How many are stored."""
        self.samples = 0
        """Where the last of them ends."""
        self._file = path.open("xb+", buffering=0)
        self._end = self._append(msgpack.packb({"request_id": request_id, "owner": owner}))
        self._read_position = self._end

    def __repr__(self) -> str:
        return f"<ChunkFile {self.chunks} chunks, {self._end} bytes>"

    def close(self) -> None:
        """Close the file; whoever created the upload deletes both."""
        self._file.close()

    def append(self, chunk: ChunkDone) -> None:
        """Store the next chunk. Raises OSError when the disk is full."""
        self._end = self._append(codec.encode(chunk))
        self.chunks, self.samples = chunk.index + 1, chunk.end

    def read_next(self) -> ChunkDone | None:
        """The next chunk not read yet, None when all stored ones were read."""
        if self._read_position == self._end:
            return None
        self._file.seek(self._read_position)
        (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
        chunk: ChunkDone = codec.decode(self._file.read(length))
        self._read_position += _LENGTH.size + length
        return chunk

    def _append(self, record: bytes) -> int:
        self._file.seek(0, 2)
        start = self._file.tell()
        content = _LENGTH.pack(len(record)) + record
        if self._file.write(content) != len(content):
            self._file.truncate(start)
            raise OSError(28, "no space left for finished chunks")
        return start + len(content)
