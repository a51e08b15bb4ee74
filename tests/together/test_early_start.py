"""Recordings that are transcribed while they are uploaded: real processes, and an engine that
answers each chunk with its number of samples."""

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest

from tests.together.processes import DEADLINE, Running, Server, eventually, serving
from tests.together.test_faults import fake_worker, free_port_pair, running_requests
from tests.worker.audio.media import RATE, tone, write_recording

SECONDS = 100
CHUNKS = {"CHUNK_SECONDS": "10", "MAX_CHUNK_SECONDS": "15"}
BODY_TYPE = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """A tone that gets quieter now and then, and noise, so that no format makes it small."""
    noise = np.random.default_rng(7).uniform(-0.1, 0.1, SECONDS * RATE)
    loudness = np.repeat(np.random.default_rng(8).uniform(0.2, 1, SECONDS * 10), RATE // 10)
    return ((tone(SECONDS) + noise) * loudness / 2).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that begins early."""
    folder = tmp_path_factory.mktemp("s")
    with serving("gateway", folder) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def worker(server: Server) -> Iterator[Running]:
    with fake_worker(server.data_dir, **CHUNKS) as worker:
        yield worker


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that waits for whole uploads."""
    folder = tmp_path_factory.mktemp("p")
    with (
        serving("gateway", folder, EARLY_START_BYTES="0") as server,
        fake_worker(folder, **CHUNKS),
    ):
        yield server


class HeldBack:
    """An upload whose last fifth is sent when the test wants."""

    def __init__(self, recording: bytes, behind: bytes = b"") -> None:
        head = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nembedded\r\n'
        head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        held = len(recording) // 5
        self._parts = (head + recording[:-held], recording[-held:] + behind + b"\r\n--b--\r\n")
        self._may_end = threading.Event()
        self.is_broken_off = False

    def end(self, *, by_breaking_off: bool = False) -> None:
        self.is_broken_off = by_breaking_off
        self._may_end.set()

    def body(self) -> Iterator[bytes]:
        yield self._parts[0]
        assert self._may_end.wait(DEADLINE)
        if self.is_broken_off:
            raise ConnectionAbortedError
        yield self._parts[1]


@contextmanager
def uploading(server: Server, upload: HeldBack) -> Iterator[Callable[[], httpx2.Response]]:
    """Begins the upload; what it gives waits for the answer."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            server.client.post, "/v1/audio/transcriptions", content=upload.body(), headers=BODY_TYPE
        )
        try:
            yield lambda: answer.result(DEADLINE)
        finally:
            upload.end()


def finished_chunks(server: Server) -> int:
    """How many chunks of the one recording under way have come back from the engine."""
    for path in server.spool_files():
        if path.suffix == ".chunks":
            return max(0, len(records(path.read_bytes())) - 1)
    return 0


def records(content: bytes) -> list[bytes]:
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length])
        content = content[4 + length :]
    return found


def chunk_is_done(server: Server, count: int = 1) -> None:
    eventually(lambda: finished_chunks(server) >= count, "no chunk was done before the end")


def media(folder: Path, sound: np.ndarray, ending: str) -> bytes:
    """The sound in a format that can be read front to back."""
    path = folder / "media"
    if ending != "mp4":
        return write_recording(path, sound, ending).read_bytes()
    source = write_recording(folder / "source", sound, "m4a")
    options = {"movflags": "faststart"}
    with (
        av.open(str(source)) as read,
        av.open(str(path), "w", format="mp4", options=options) as written,
    ):
        stream = written.add_stream_from_template(read.streams.audio[0])
        for packet in read.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "opus", "webm", "ts", "mp4"])
def test_chunks_are_done_before_the_upload_ends_and_the_text_is_that_of_the_whole(
    server: Server, patient: Server, sound: np.ndarray, tmp_path: Path, ending: str
) -> None:
    recording = media(tmp_path, sound, ending)
    expected = patient.transcribe(recording).json()["text"]
    upload = HeldBack(recording)

    with uploading(server, upload) as answer:
        chunk_is_done(server, 2)
        upload.end()

        assert answer().json()["text"] == expected
    assert len(expected.split()) >= 7


def test_an_mp4_whose_index_comes_last_waits_for_it(
    server: Server, patient: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    recording = write_recording(tmp_path / "a", sound, "m4a").read_bytes()
    expected = patient.transcribe(recording).json()["text"]

    assert server.transcribe(recording).json()["text"] == expected


def test_a_recording_that_breaks_off_has_the_text_of_what_is_there(
    server: Server, patient: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    recording = media(tmp_path, sound, "mp4")[:-300_001]
    expected = patient.transcribe(recording)

    answer = server.transcribe(recording)
    assert (answer.status_code, answer.json()) == (expected.status_code, expected.json())


def test_a_field_behind_the_file_is_followed(
    server: Server, patient: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    recording = media(tmp_path, sound, "wav")
    expected = patient.transcribe(recording, prompt="Hello").json()["text"]
    field = b'\r\n--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nHello'
    upload = HeldBack(recording, field)

    with uploading(server, upload) as answer:
        chunk_is_done(server)
        upload.end()

        assert answer().json()["text"] == expected
    assert "Hello" in expected


def test_a_caller_that_leaves_while_uploading_frees_engine_and_spool(
    server: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    upload = HeldBack(media(tmp_path, sound, "wav"))

    with uploading(server, upload) as answer:
        chunk_is_done(server)
        assert running_requests(server) == [1]
        upload.end(by_breaking_off=True)
        with pytest.raises(ConnectionAbortedError):
            answer()

    eventually(lambda: running_requests(server) == [0], "the engine kept the request")
    eventually(lambda: not server.spool_files(), "the upload was kept")


def test_an_engine_killed_while_the_upload_arrives_costs_no_chunk(
    server: Server, worker: Running, patient: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    recording = media(tmp_path, sound, "wav")
    expected = patient.transcribe(recording).json()["text"]
    upload = HeldBack(recording)

    with uploading(server, upload) as answer:
        chunk_is_done(server, 2)
        os.kill(worker.titled("engine")[0].pid, signal.SIGKILL)
        upload.end()

        assert answer().json()["text"] == expected


def test_a_worker_that_does_not_see_the_spool_pulls_what_is_there(
    short_folder: Path, patient: Server, sound: np.ndarray, tmp_path: Path
) -> None:
    recording = media(tmp_path, sound, "wav")
    expected = patient.transcribe(recording).json()["text"]
    keys = short_folder / "keys"
    subprocess.run(
        [sys.executable, "-m", "gateway", "keys", str(keys)], check=True, capture_output=True
    )
    link = f"tcp://127.0.0.1:{free_port_pair()}"
    ours = {"WORKER_LINK": link, "WORKER_LINK_KEYS": str(keys / "gateway")}
    theirs = {"WORKER_LINK": link, "WORKER_LINK_KEYS": str(keys / "worker")}
    elsewhere = short_folder / "elsewhere"
    elsewhere.mkdir()
    upload = HeldBack(recording)

    with ExitStack() as stack:
        server = stack.enter_context(serving("gateway", short_folder, **ours))
        stack.enter_context(fake_worker(elsewhere, **CHUNKS, **theirs))
        answer = stack.enter_context(uploading(server, upload))
        chunk_is_done(server, 2)
        upload.end()

        assert answer().json()["text"] == expected
    assert list((elsewhere / "fetched").iterdir()) == []
