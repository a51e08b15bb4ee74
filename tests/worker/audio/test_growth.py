"""Files that are decoded while they are still being written."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.worker.audio.media import (
    RATE,
    tone,
    wav_bytes,
    write_film,
    write_recording,
    write_tracks,
)
from worker.audio.decode_messages import DecodeLimits
from worker.audio.decoding import AudioDecoder, UndecodableAudio
from worker.audio.errors import DecoderFailed, DecodingClosed
from worker.audio.growth import GrowingFile, Growth

DEADLINE = 30.0
STEP_BYTES = 20_000
SOUND = tone(12.0) * np.repeat(np.linspace(0.1, 1.0, 120), RATE // 10).astype(np.float32)


@pytest.fixture(scope="module")
def decoder() -> Iterator[AudioDecoder]:
    with AudioDecoder() as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0f3a"


class Upload:
    """A file that arrives as the test lets it, a step whenever its reader has read the last."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content
        path.write_bytes(b"")
        self.growth = Growth(0, is_whole=False)
        self.waits: SimpleQueue[None] = SimpleQueue()
        """One for each time that its reader has to wait."""
        self._written = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self.waits.put(None)
        yield

    def write(self, count: int) -> None:
        with self._path.open("ab") as file:
            file.write(self._content[self._written : self._written + count])
            self._written = file.tell()
        self.growth.tell(self._written, is_whole=self._written >= len(self._content))

    def arrive(self) -> None:
        """Step by step to its end; to be run beside its reader."""
        while not self.growth.is_whole:
            self.waits.get(timeout=DEADLINE)
            self.write(STEP_BYTES)


def whole(decoder: AudioDecoder, path: Path) -> NDArray[np.float32]:
    with decoder.open(path) as recording:
        return np.concatenate(list(recording))


def growing(decoder: AudioDecoder, path: Path, content: bytes) -> NDArray[np.float32]:
    upload = Upload(path, content)
    with ThreadPoolExecutor(1) as beside:
        arriving = beside.submit(upload.arrive)
        with (
            GrowingFile(path, upload.growth, upload.waiting) as file,
            decoder.open_growing(file) as recording,
        ):
            samples = np.concatenate(list(recording))
        upload.growth.tell(len(content), is_whole=True)
        upload.waits.put(None)
        arriving.result()
    return samples


@pytest.mark.parametrize(
    "ending", ["wav", "mulaw.wav", "flac", "mp3", "aac", "opus", "webm", "mkv", "ts"]
)
def test_a_growing_file_gives_the_samples_of_the_whole_one(
    ending: str, decoder: AudioDecoder, path: Path
) -> None:
    content = write_recording(path, SOUND, ending).read_bytes()
    expected = whole(decoder, path)

    assert np.array_equal(growing(decoder, path, content), expected)


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_a_growing_film_gives_the_samples_of_the_whole_one(
    ending: str, decoder: AudioDecoder, path: Path
) -> None:
    content = write_film(path, SOUND, ending).read_bytes()
    expected = whole(decoder, path)

    assert np.array_equal(growing(decoder, path, content), expected)


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_growing_mp4_whose_index_is_in_front_gives_the_samples_of_the_whole_one(
    flags: str, decoder: AudioDecoder, path: Path
) -> None:
    source = write_recording(path.with_name("source"), SOUND, "m4a")
    with (
        av.open(str(source)) as read,
        av.open(str(path), "w", format="mp4", options={"movflags": flags}) as written,
    ):
        stream = written.add_stream_from_template(read.streams.audio[0])
        for packet in read.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    expected = whole(decoder, path)

    assert np.array_equal(growing(decoder, path, path.read_bytes()), expected)


def test_an_mp4_whose_index_is_at_the_end_cannot_be_read_forward(
    decoder: AudioDecoder, path: Path
) -> None:
    content = write_tracks(path, [SOUND], "mp4").read_bytes()

    with pytest.raises(UndecodableAudio):
        growing(decoder, path, content)


def test_sound_comes_out_before_the_rest_is_there(decoder: AudioDecoder, path: Path) -> None:
    content = write_recording(path, SOUND, "wav").read_bytes()
    upload = Upload(path, content)
    upload.write(len(content) - 1000)

    with (
        GrowingFile(path, upload.growth, upload.waiting) as file,
        decoder.open_growing(file) as recording,
    ):
        first = next(recording)
        assert not upload.growth.is_whole
        upload.write(1000)
        rest = list(recording)

    assert sum(map(len, [first, *rest])) == 12 * 16_000


def test_what_breaks_off_in_the_middle_of_a_packet_is_told_or_ends_as_the_whole_file_does(
    decoder: AudioDecoder, path: Path
) -> None:
    content = write_recording(path, SOUND, "wav").read_bytes()[:-7_001]
    path.write_bytes(content)
    expected = whole(decoder, path)

    assert np.array_equal(growing(decoder, path, content), expected)


def test_waiting_for_the_upload_is_no_stall_of_the_decoder(
    decoder: AudioDecoder, path: Path
) -> None:
    content = wav_bytes((tone(11.0, rate=16_000) * 32_767).astype("<i2").tobytes())
    upload = Upload(path, content)
    upload.write(1000)
    limits = DecodeLimits(stall_timeout=0.2)

    with GrowingFile(path, upload.growth, upload.waiting) as file:
        late = threading.Timer(3 * limits.stall_timeout, upload.write, (len(content),))
        late.start()
        with decoder.open_growing(file, limits) as recording:
            samples = np.concatenate(list(recording))
        late.join()

    assert len(samples) == 11 * 16_000


def test_nothing_is_held_while_the_upload_is_awaited(decoder: AudioDecoder, path: Path) -> None:
    content = wav_bytes((tone(11.0, rate=16_000) * 32_767).astype("<i2").tobytes())
    upload = Upload(path, content)

    with ThreadPoolExecutor(1) as beside, GrowingFile(path, upload.growth, upload.waiting) as file:
        opening = beside.submit(decoder.open_growing, file)
        upload.waits.get(timeout=DEADLINE)
        upload.write(len(content))
        with opening.result(DEADLINE) as recording:
            assert sum(map(len, recording)) == 11 * 16_000


def test_who_gives_up_ends_the_wait(decoder: AudioDecoder, path: Path) -> None:
    upload = Upload(path, b"RIFF" + bytes(100))
    upload.write(50)

    with ThreadPoolExecutor(1) as beside, GrowingFile(path, upload.growth, upload.waiting) as file:
        opening = beside.submit(decoder.open_growing, file)
        upload.waits.get(timeout=DEADLINE)
        upload.growth.give_up()

        with pytest.raises(DecodingClosed):
            opening.result(DEADLINE)


def test_a_growing_recording_that_was_closed_gives_no_more(
    decoder: AudioDecoder, path: Path
) -> None:
    content = wav_bytes((tone(31.0, rate=16_000) * 32_767).astype("<i2").tobytes())
    upload = Upload(path, content)
    upload.write(len(content))

    with GrowingFile(path, upload.growth) as file, decoder.open_growing(file) as recording:
        next(recording)
        recording.close()

        with pytest.raises(DecodingClosed):
            list(recording)


def test_a_file_shorter_than_was_told_is_a_failure_of_ours(
    decoder: AudioDecoder, path: Path
) -> None:
    path.write_bytes(b"RIFF")
    growth = Growth(1000, is_whole=False)

    with GrowingFile(path, growth) as file, pytest.raises(DecoderFailed):
        decoder.open_growing(file)


def test_growth_never_shrinks_and_may_be_told_after_its_end() -> None:
    growth = Growth(10, is_whole=False)
    growth.tell(5, is_whole=True)
    growth.close()
    growth.tell(20, is_whole=True)

    assert (growth.length, growth.is_whole) == (20, True)
