"""The file between engine and caller."""

import errno
import os
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from gateway.worker_client.chunk_file import ChunkFile
from protocol.transcription import ChunkDone


def chunk(index: int, text: str = "text") -> ChunkDone:
    return ChunkDone("r", 1, index, index * 10, index * 10 + 10, "English", text, 3, 2, 1)


def test_chunks_are_read_in_the_order_they_were_stored(tmp_path: Path) -> None:
    with closing(ChunkFile(tmp_path / "chunks", request_id="r", owner=None)) as chunks:
        chunks.append(chunk(0, "один"))
        assert chunks.read_next() == chunk(0, "один")
        assert chunks.read_next() is None
        chunks.append(chunk(1))
        chunks.append(chunk(2))

        assert [chunks.read_next(), chunks.read_next(), chunks.read_next()] == [
            chunk(1),
            chunk(2),
            None,
        ]


def test_it_knows_how_many_chunks_are_stored_and_where_they_end(tmp_path: Path) -> None:
    with closing(ChunkFile(tmp_path / "chunks", request_id="r", owner=None)) as chunks:
        chunks.append(chunk(0))
        chunks.append(chunk(1))
        chunks.read_next()

        assert (chunks.chunks, chunks.samples) == (2, 20)


def test_the_file_carries_its_owner(tmp_path: Path) -> None:
    with closing(ChunkFile(tmp_path / "chunks", request_id="r", owner="key-1")):
        content = (tmp_path / "chunks").read_bytes()

    assert msgpack.unpackb(content[4:]) == {"request_id": "r", "owner": "key-1"}


def test_a_full_disk_leaves_what_was_stored_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ChunkFile(tmp_path / "chunks", request_id="r", owner=None)) as chunks:
        chunks.append(chunk(0))
        resource_full = _FullDisk(chunks._file)
        monkeypatch.setattr(chunks, "_file", resource_full)
        with pytest.raises(OSError) as raised:
            chunks.append(chunk(1))

        assert raised.value.errno == errno.ENOSPC
        assert (chunks.chunks, chunks.samples) == (1, 10)
        assert chunks.read_next() == chunk(0)
        assert chunks.read_next() is None


class _FullDisk:
    """A file whose disk takes half of the next write."""

    def __init__(self, file: object) -> None:
        self._inner = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def write(self, content: bytes) -> int:
        return os.write(self._inner.fileno(), content[: len(content) // 2])  # type: ignore[attr-defined]
