"""Requests that are opened while their uploads still arrive, and whom they let pass."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.settings import Settings
from gateway.worker_client.call import SLOW_GRACE, SLOWEST_BYTES_PER_SECOND, Call
from gateway.worker_client.dispatcher import Dispatcher, EngineId
from gateway.worker_client.interface import TranscriptionRequest
from gateway.worker_client.lifecycle import WORKER_GRACE, Lifecycle
from protocol.failures import FailureCode
from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Hello,
    PullUpload,
    Transcribe,
    UploadGrown,
    UploadPiece,
)
from tests.fakes import chunk_done

ENGINE = ("one", 1)
MOST_WAITING = 2
Message = TypeVar("Message")


class Scene:
    """A dispatcher between callers and one engine, both played by the test; it is the Post too."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self._folder = folder
        self.sent: list[object] = []
        self.calls: list[Call] = []
        self.lifecycle = Lifecycle(idle_timeout=60.0)
        settings = Settings(data_dir=folder, model_id="embedded", max_waiting_requests=MOST_WAITING)
        self.dispatcher = Dispatcher(settings, self.lifecycle, self, lambda: self.now)

    def end(self) -> None:
        for call in self.calls:
            self.dispatcher.leave(call)

    def to_engine(self, engine: EngineId, message: object) -> bool:
        self.sent.append(message)
        return True

    def to_supervisor(self, worker_id: str, message: object) -> bool:
        return True

    def join(self, capacity: int = 1, epoch: int = 1) -> None:
        """An engine is there."""
        self.lifecycle.supervisor_joined("one", "first", self.now)
        joined = self.lifecycle.engine_joined(
            Hello("one", epoch, "embedded", capacity, True), self.now
        )
        assert joined is not None
        self.dispatcher.engine_died(joined.lost)
        self.dispatcher.move()

    def open(self, request_id: str, *, is_whole: bool = True, upload_bytes: int = 1000) -> Call:
        """A caller's request."""
        call = self.dispatcher.open(
            TranscriptionRequest(
                request_id=request_id,
                owner=None,
                spool_file=f"ab/{request_id}",
                upload_path=self._folder / request_id,
                upload_bytes=upload_bytes,
                chunks_path=self._folder / f"{request_id}.chunks",
                is_upload_whole=is_whole,
            )
        )
        self.calls.append(call)
        return call

    def leave(self, call: Call) -> None:
        """The caller has gone."""
        self.calls.remove(call)
        self.dispatcher.leave(call)

    def cancelled(self, request_id: str, attempt: int = 1) -> None:
        """The engine confirms a cancel."""
        failed = Failed(request_id, attempt, FailureCode.CANCELLED, "The caller has left.")
        self.dispatcher.answered(ENGINE, failed)

    def chunk(self, opened: Transcribe, index: int) -> None:
        done: ChunkDone = chunk_done(
            "one", index=index, start=index * 100, end=index * 100 + 100,
            request_id=opened.request_id,
        )  # fmt: skip
        self.dispatcher.answered(ENGINE, done)

    def told(self, kind: type[Message]) -> list[Message]:
        """What engines were sent of that kind."""
        return [message for message in self.sent if isinstance(message, kind)]

    def opened(self) -> list[str]:
        return [message.request_id for message in self.told(Transcribe)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.end()


def test_the_engine_is_told_how_far_the_upload_is(scene: Scene) -> None:
    scene.join()
    scene.open("film", is_whole=False, upload_bytes=1000)
    scene.dispatcher.upload_grew("film", 3000, is_whole=False)
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)

    (opened,) = scene.told(Transcribe)
    assert (opened.upload_bytes, opened.is_upload_whole, opened.reads_forward) == (
        1000,
        False,
        True,
    )
    assert scene.told(UploadGrown) == [
        UploadGrown("film", 3000, False),
        UploadGrown("film", 5000, True),
    ]


def test_a_whole_upload_is_read_as_its_file_allows(scene: Scene) -> None:
    scene.join()
    scene.open("clip")

    (opened,) = scene.told(Transcribe)
    assert (opened.is_upload_whole, opened.reads_forward) == (True, False)


def test_the_next_engine_reads_the_grown_file_in_the_same_way(scene: Scene) -> None:
    scene.join()
    scene.open("film", is_whole=False)
    scene.chunk(scene.told(Transcribe)[0], 0)
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)
    scene.join(epoch=2)

    again = scene.told(Transcribe)[1]
    assert (again.upload_bytes, again.is_upload_whole, again.reads_forward) == (5000, True, True)
    assert (again.attempt, again.done_chunks) == (2, 1)


def test_whole_recordings_go_first(scene: Scene) -> None:
    scene.open("film", is_whole=False)
    scene.open("clip")
    scene.join(capacity=2)

    assert scene.opened() == ["clip", "film"]


def test_an_upload_that_arrives_gives_its_place_to_a_whole_recording(scene: Scene) -> None:
    scene.join()
    scene.open("film", is_whole=False)
    scene.open("clip")
    assert scene.told(Cancel) == [Cancel("film")]
    assert scene.opened() == ["film"]
    scene.cancelled("film")

    assert scene.opened() == ["film", "clip"]


def test_one_place_is_made_for_each_recording_that_waits(scene: Scene) -> None:
    scene.join(capacity=3)
    for name in ("a", "b", "c"):
        scene.open(name, is_whole=False)
    scene.open("clip")
    scene.dispatcher.move()

    assert len(scene.told(Cancel)) == 1
    scene.open("other")
    assert len(scene.told(Cancel)) == 2


def test_who_gave_its_place_back_gets_one_when_its_upload_is_whole(scene: Scene) -> None:
    scene.join(capacity=1)
    scene.open("film", is_whole=False)
    scene.chunk(scene.told(Transcribe)[0], 0)
    clip = scene.open("clip")
    scene.cancelled("film")
    scene.leave(clip)
    scene.cancelled("clip")
    scene.dispatcher.upload_grew("film", 4000, is_whole=False)
    assert scene.opened() == ["film", "clip"]
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)

    again = scene.told(Transcribe)[-1]
    assert (again.request_id, again.done_chunks, again.upload_bytes) == ("film", 1, 5000)


def test_a_late_confirmation_frees_no_place_that_is_taken_again(scene: Scene) -> None:
    scene.join(capacity=2)
    scene.open("film", is_whole=False)
    scene.now = SLOW_GRACE + 1
    scene.dispatcher.check_deadlines()
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)
    assert scene.opened() == ["film", "film"]
    scene.cancelled("film", attempt=1)

    (worker,) = scene.lifecycle.workers
    assert worker.running_requests == 1


@pytest.mark.parametrize("keeps_pace", [True, False])
def test_an_upload_too_slow_to_work_on_gives_its_place_back(scene: Scene, keeps_pace: bool) -> None:
    scene.join()
    scene.open("film", is_whole=False, upload_bytes=0)
    scene.now = 2 * SLOW_GRACE
    pace = SLOWEST_BYTES_PER_SECOND + (1 if keeps_pace else -1)
    scene.dispatcher.upload_grew("film", round(pace * scene.now), is_whole=False)
    scene.dispatcher.check_deadlines()

    assert scene.told(Cancel) == ([] if keeps_pace else [Cancel("film")])


def test_an_upload_that_arrives_for_long_is_not_taken_for_a_request_without_progress(
    scene: Scene,
) -> None:
    scene.join()
    call = scene.open("film", is_whole=False, upload_bytes=0)
    scene.now = 100_000.0
    scene.dispatcher.upload_grew("film", 2**31, is_whole=False)
    scene.dispatcher.check_deadlines()
    assert not call.has_ended
    scene.dispatcher.upload_grew("film", 2**31, is_whole=True)
    scene.now += 100_000.0
    scene.dispatcher.check_deadlines()

    assert call.has_ended


def test_a_suspect_waits_for_its_upload_since_it_would_keep_others_from_the_engine(
    scene: Scene,
) -> None:
    scene.open("film", is_whole=False)
    for epoch in (1, 2, 3):
        scene.join(epoch=epoch)
    assert [opened.attempt for opened in scene.told(Transcribe)] == [1, 2]
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)

    assert scene.told(Transcribe)[-1].runs_alone


def test_an_upload_that_arrives_takes_no_place_in_the_queue(scene: Scene) -> None:
    scene.open("film", is_whole=False)
    waiting = scene.open("clip")

    assert scene.dispatcher.waiting_calls == 1
    assert not waiting.has_ended


def test_a_queue_that_is_full_when_the_upload_is_whole_refuses_it_then(scene: Scene) -> None:
    film = scene.open("film", is_whole=False)
    for number in range(MOST_WAITING):
        scene.open(f"clip {number}")
    assert not film.has_ended
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)

    assert film.has_ended
    assert scene.dispatcher.waiting_calls == MOST_WAITING


def test_no_engine_is_missed_before_the_upload_is_whole(scene: Scene) -> None:
    film = scene.open("film", is_whole=False)
    scene.now = 10 * WORKER_GRACE
    scene.dispatcher.move()
    assert not film.has_ended
    scene.dispatcher.upload_grew("film", 5000, is_whole=True)
    scene.now += WORKER_GRACE + 1
    scene.dispatcher.move()

    assert film.has_ended


def test_of_an_upload_that_arrives_the_last_piece_is_the_last_of_the_whole(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "film").write_bytes(bytes(UPLOAD_PIECE_BYTES))
    scene.join()
    scene.open("film", is_whole=False, upload_bytes=UPLOAD_PIECE_BYTES)
    scene.dispatcher.upload_wanted(ENGINE, PullUpload("film", 0, 1))
    scene.dispatcher.upload_grew("film", UPLOAD_PIECE_BYTES, is_whole=True)
    scene.dispatcher.upload_wanted(ENGINE, PullUpload("film", 0, 1))

    assert [piece.is_last for piece in scene.told(UploadPiece)] == [False, True]
