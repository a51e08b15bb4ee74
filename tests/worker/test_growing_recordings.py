"""Recordings opened while their uploads arrive, through the engine's loop."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.failures import FailureCode
from protocol.transcription import Cancel, ChunkDone, Failed, Final, UploadGrown
from tests.worker.audio.media import RATE, tone, write_recording
from tests.worker.test_engine_loop import Workshop
from worker.audio.decoding import AudioDecoder

SOUND = tone(24.0) * np.repeat(np.linspace(0.1, 1.0, 240), RATE // 10).astype(np.float32)


@pytest.fixture(scope="module")
def decoder() -> Iterator[AudioDecoder]:
    with AudioDecoder() as decoder:
        yield decoder


@pytest.fixture
def workshop(tmp_path: Path, decoder: AudioDecoder) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path, decoder)
    (tmp_path / "ab").mkdir()
    workshop.engine.may_step.release(1000)
    yield workshop
    workshop.end()


def write(folder: Path, ending: str) -> bytes:
    return write_recording(folder / "ab" / "c0", SOUND, ending).read_bytes()


def texts_of_the_whole(workshop: Workshop, folder: Path, content: bytes) -> list[str]:
    (folder / "ab" / "c1").write_bytes(content)
    workshop.open("whole", "c1", upload_bytes=len(content))
    return workshop.texts()


def open_growing(
    workshop: Workshop, folder: Path, content: bytes, there: int, *, splits_channels: bool = False
) -> None:
    """A request of which so many bytes are there."""
    (folder / "ab" / "c0").write_bytes(content[:there])
    workshop.open(
        "grows",
        upload_bytes=there,
        is_upload_whole=False,
        reads_forward=True,
        splits_channels=splits_channels,
    )


def grow(workshop: Workshop, folder: Path, content: bytes) -> None:
    (folder / "ab" / "c0").write_bytes(content)
    workshop.loop.deliver(UploadGrown("grows", len(content), True))


def test_chunks_are_told_before_the_upload_ends_and_are_those_of_the_whole(
    workshop: Workshop, tmp_path: Path
) -> None:
    content = write(tmp_path, "wav")
    expected = texts_of_the_whole(workshop, tmp_path, content)
    open_growing(workshop, tmp_path, content, len(content) * 4 // 5)

    first = workshop.answer(ChunkDone)
    grow(workshop, tmp_path, content)
    others = [workshop.answer(ChunkDone).text for _ in expected[1:]]

    assert [first.text, *others] == expected
    assert workshop.answer(Final).chunks == len(expected)


def test_what_cannot_be_read_forward_is_read_when_it_is_whole(
    workshop: Workshop, tmp_path: Path
) -> None:
    content = write(tmp_path, "m4a")  # its index comes last
    expected = texts_of_the_whole(workshop, tmp_path, content)
    open_growing(workshop, tmp_path, content, len(content) // 2)
    grow(workshop, tmp_path, content)

    assert workshop.texts() == expected


def test_what_is_no_recording_fails_when_it_is_whole(workshop: Workshop, tmp_path: Path) -> None:
    content = b"no sound at all " * 1000
    open_growing(workshop, tmp_path, content, 5000)
    grow(workshop, tmp_path, content)

    assert workshop.answer(Failed).code is FailureCode.AUDIO_UNDECODABLE


def test_missing_channels_are_told_while_the_upload_arrives(
    workshop: Workshop, tmp_path: Path
) -> None:
    path = write_recording(tmp_path / "ab" / "c0", SOUND, "wav", layout="mono")
    content = path.read_bytes()
    open_growing(workshop, tmp_path, content, len(content) * 4 // 5, splits_channels=True)

    assert workshop.answer(Failed).code is FailureCode.CHANNELS_MISSING


def test_a_cancel_ends_the_wait_for_the_upload(workshop: Workshop, tmp_path: Path) -> None:
    content = write(tmp_path, "wav")
    open_growing(workshop, tmp_path, content, 1000)
    workshop.loop.deliver(Cancel("grows"))

    assert workshop.answer(Failed).code is FailureCode.CANCELLED


def test_growth_of_an_unknown_request_is_passed_over(workshop: Workshop, tmp_path: Path) -> None:
    content = write(tmp_path, "wav")
    workshop.loop.deliver(UploadGrown("unknown", 5, True))

    assert texts_of_the_whole(workshop, tmp_path, content)
