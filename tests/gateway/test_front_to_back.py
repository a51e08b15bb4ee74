"""First bytes that tell whether a recording can be decoded while it arrives."""

import struct

import pytest

from gateway.front_to_back import reads_front_to_back


def box(kind: bytes, size: int = 24) -> bytes:
    """A box of MP4 as it begins; of large ones only that."""
    return (struct.pack(">I", size) + kind).ljust(min(size, 64), b"\0")


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"fLaC\x00\x00\x00\x22",
        b"OggS\x00\x02",
        b"\x1a\x45\xdf\xa3\x9f",
        b"ID3\x04\x00",
        b"\xff\xfb\x90\x64",
        b"\xff\xf1\x50\x80",
        (b"G" + bytes(187)) * 3,
        box(b"ftyp") + box(b"moov", 50_000),
        box(b"ftyp") + box(b"free", 8) + box(b"moov", 50_000),
    ],
    ids=["wav", "rf64", "flac", "ogg", "matroska", "id3", "mp3", "aac", "ts", "mp4", "mp4-free"],
)
def test_such_a_recording_is_decoded_while_it_arrives(head: bytes) -> None:
    assert reads_front_to_back(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        box(b"ftyp") + box(b"mdat", 2**31 - 1) + box(b"moov", 500),
        box(b"ftyp") + box(b"free", 8) + box(b"mdat", 1),
        box(b"ftyp") + struct.pack(">I4s", 0, b"mdat"),
        box(b"ftyp") + struct.pack(">I4s", 3, b"free"),
        box(b"ftyp") + box(b"free", 2**20),
        b"G" + bytes(375) + b"G",
        b"\xff",
        bytes(4096),
    ],
    ids=[
        "empty",
        "avi",
        "mp4-end",
        "mp4-64-bit",
        "mp4-open",
        "mp4-broken",
        "mp4-far",
        "ts-like",
        "short",
        "unknown",
    ],
)
def test_such_a_recording_waits_for_its_end(head: bytes) -> None:
    assert not reads_front_to_back(head)
