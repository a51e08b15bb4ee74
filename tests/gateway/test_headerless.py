import io
import os
import wave
from pathlib import Path

import pytest

from gateway.headerless import WAV_HEADER, Intake, has_container
from gateway.spool import Spool


async def taken(folder: Path, content: bytes, *, step: int, may_lack_header: bool = True) -> bytes:
    """What lies on the spool after content came in pieces."""
    spool = Spool(folder / "spool", "0123456789abcdef")
    spool.open()
    try:
        async with spool.new_upload() as upload:
            sink = Intake(may_lack_header=may_lack_header).into(upload)
            for start in range(0, len(content), step):
                sink.write(memoryview(content)[start : start + step])
            sink.close()
            assert upload.size == upload.path.stat().st_size
            return upload.path.read_bytes()
    finally:
        spool.close()


@pytest.mark.parametrize("step", [1, 5, 12, 1000])
async def test_bare_samples_get_a_header_in_front(tmp_path: Path, step: int) -> None:
    samples = bytes(1) + os.urandom(999)

    assert await taken(tmp_path, samples, step=step) == WAV_HEADER + samples


def test_the_header_says_what_the_samples_are() -> None:
    with wave.open(io.BytesIO(WAV_HEADER)) as reader:
        assert reader.getframerate() == 16_000
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\0\0\0\0WAVE",
        b"RF64",
        b"fLaC",
        b"ID3\x04",
        b"OggS",
        b"\x1a\x45\xdf\xa3",
        b"\0\0\0\x20ftypisom",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
async def test_a_container_stays_as_it_is_whatever_the_caller_says(
    tmp_path: Path, head: bytes, step: int
) -> None:
    content = head + bytes(50)

    assert has_container(head)
    assert await taken(tmp_path, content, step=step) == content


async def test_bodies_that_must_have_a_container_are_not_looked_at(tmp_path: Path) -> None:
    assert await taken(tmp_path, b"speech", step=2, may_lack_header=False) == b"speech"


async def test_fewer_bytes_than_tell_a_container_are_samples(tmp_path: Path) -> None:
    assert await taken(tmp_path, b"\1\0\2\0", step=3) == WAV_HEADER + b"\1\0\2\0"


async def test_the_digest_is_of_the_body_as_it_was_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "0123456789abcdef")
    spool.open()
    digests = []
    for step, content in ((1, b"abcdefghijklmnop"), (16, b"abcdefghijklmnop"), (16, b"other")):
        async with spool.new_upload() as upload:
            intake = Intake(may_lack_header=True)
            sink = intake.into(upload)
            for start in range(0, len(content), step):
                sink.write(memoryview(content)[start : start + step])
            sink.close()
            digests.append(intake.digest)
    spool.close()

    assert digests[0] == digests[1] != digests[2]
