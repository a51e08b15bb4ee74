"""Bytes that come in at the end, are read at random and go from the front; on disk where many.

In memory up to MEMORY_BYTES, beyond that in files of the spool that lose their name at once: the
system frees them when they are closed, whatever becomes of this process.
"""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

MEMORY_BYTES = 1024 * 1024
"""Of one session."""
MEMORY_SEGMENT_BYTES = 128 * 1024
FILE_SEGMENT_BYTES = 4 * 1024 * 1024


class Segment(Protocol):
    """A stretch of bytes: filled from its beginning, dropped as a whole."""

    @property
    def room(self) -> int:
        """Bytes it still takes."""
        ...

    def append(self, content: memoryview) -> None: ...

    def read(self, offset: int, size: int) -> bytes:
        """What there is of it from that offset on, which may lie behind its end."""
        ...

    def close(self) -> None: ...


class HeldAudio:
    """Bytes [start, end) of a stream. `close` frees them; a write raises OSError on a full disk."""

    def __init__(self, new_path: Callable[[], Path]) -> None:
        self._new_path = new_path
        self._segments: deque[tuple[int, Segment]] = deque()
        """Each with the position of its first byte; without holes."""
        self.start = 0
        self.end = 0

    def __repr__(self) -> str:
        return f"<HeldAudio {self.start}-{self.end} in {len(self._segments)} segments>"

    def append(self, content: bytes) -> None:
        """Hold more; all of it or, on a full disk, what fitted."""
        rest = memoryview(content)
        while rest:
            segment = self._last_with_room()
            piece = rest[: segment.room]
            segment.append(piece)
            self.end += len(piece)
            rest = rest[len(piece) :]

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from there on, fewer only at the end."""
        assert position >= self.start, "these bytes were dropped"
        pieces = []
        for first, segment in self._segments:
            if not size:
                break
            piece = segment.read(position - first, size)
            pieces.append(piece)
            position += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def drop_before(self, position: int) -> None:
        """Forget what lies before; segments go when nothing of them is needed."""
        self.start = min(max(self.start, position), self.end)
        while len(self._segments) > 1 and self._segments[1][0] <= self.start:
            self._segments.popleft()[1].close()
        if self._segments and self.start == self.end and not self._segments[0][1].room:
            self._segments.popleft()[1].close()

    def close(self) -> None:
        """Free everything."""
        while self._segments:
            self._segments.popleft()[1].close()
        self.start = self.end

    def _last_with_room(self) -> Segment:
        if self._segments and self._segments[-1][1].room:
            return self._segments[-1][1]
        in_memory = sum(isinstance(segment, _MemorySegment) for _, segment in self._segments)
        if in_memory * MEMORY_SEGMENT_BYTES < MEMORY_BYTES:
            segment: Segment = _MemorySegment()
        else:
            segment = _FileSegment(self._new_path())
        self._segments.append((self.end, segment))
        return segment


class _MemorySegment:
    def __init__(self) -> None:
        self._content = bytearray()

    @property
    def room(self) -> int:
        return MEMORY_SEGMENT_BYTES - len(self._content)

    def append(self, content: memoryview) -> None:
        self._content += content

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])

    def close(self) -> None:
        self._content.clear()


class _FileSegment:
    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._size = 0
        path.unlink()

    @property
    def room(self) -> int:
        return FILE_SEGMENT_BYTES - self._size

    def append(self, content: memoryview) -> None:
        while content:
            written = os.pwrite(self._descriptor, content, self._size)
            self._size += written
            content = content[written:]

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        os.close(self._descriptor)
