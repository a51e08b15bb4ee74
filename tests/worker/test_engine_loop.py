"""The engine's main thread with a scripted engine and real files, decoders and feeders."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile

from protocol.control import Introduce
from protocol.failures import FailureCode
from protocol.transcription import Cancel, ChunkDone, Failed, Final, Progress, Transcribe
from worker.audio.chunking import Chunker
from worker.audio.decoding import AudioDecoder, DecodeLimits
from worker.engine.interface import ChunkFailure, ChunkRequest, ChunkText
from worker.engine_loop import EngineLoop
from worker.feeding import ChunkCut, FeedEvent, FeedingTools

Answer = TypeVar("Answer")
DEADLINE = 20.0
CHUNKS_AHEAD = 4


class ScriptedEngine:
    """Answers with each chunk's length and context; steps when the test lets it."""

    name = "scripted"
    max_chunk_seconds = None
    max_batch = 2

    def __init__(self) -> None:
        self.batches: list[list[ChunkRequest]] = []
        self.entered: SimpleQueue[None] = SimpleQueue()
        self.may_step = threading.Semaphore(0)
        self.failing_context = "fail"

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        self.batches.append(list(chunks))
        self.entered.put(None)
        self.may_step.acquire(timeout=DEADLINE)
        on_step()
        return [self._answer(chunk) for chunk in chunks]

    def _answer(self, chunk: ChunkRequest) -> ChunkText | ChunkFailure:
        if chunk.context == self.failing_context:
            return ChunkFailure("inference_failed", "This part could not be transcribed.")
        return ChunkText("English", f"{chunk.context}{len(chunk.samples)}", 9, 7, 2)


class Mail:
    """Stands in for the mailbox towards feeders."""

    sees_spool = True


class Workshop:
    """A running loop and what a test does with it."""

    def __init__(self, folder: Path, decoder: AudioDecoder) -> None:
        self.engine = ScriptedEngine()
        self._folder = folder
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.cut = threading.Semaphore(0)
        self.loop = EngineLoop(self.engine, send=self.answers.put)  # type: ignore[arg-type]
        self._tools = FeedingTools(
            decoder=decoder,
            decoding_slots=threading.Semaphore(2),
            chunks_ahead=CHUNKS_AHEAD,
            limits=DecodeLimits(),
            new_chunker=lambda: Chunker(target_seconds=2.0, max_seconds=4.0),
            mailbox=Mail(),  # type: ignore[arg-type]
            spool_folder=folder,
            fetch_folder=folder / "fetched",
            deliver=self._deliver,
        )
        self._thread = threading.Thread(target=self.loop.run, args=(self._tools,), daemon=True)
        self._thread.start()

    def _deliver(self, event: FeedEvent) -> None:
        self.loop.deliver(event)
        if isinstance(event, ChunkCut):
            self.cut.release()

    def end(self) -> None:
        self.engine.may_step.release(1000)
        self.loop.end()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def upload(self, name: str, samples: np.ndarray) -> None:
        path = self._folder / "ab" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, 16000, format="WAV", subtype="PCM_16")

    def open(
        self,
        request_id: str,
        file: str = "c0",
        *,
        prompt: str = "",
        done: tuple[int, int] = (0, 0),
        attempt: int = 1,
        alone: bool = False,
    ) -> None:
        self.loop.deliver(
            Transcribe(request_id, attempt, f"ab/{file}", 1, None, prompt, (), 0.0, alone, *done)
        )

    def answer(self, kind: type[Answer]) -> Answer:
        """The next answer of a kind; on the way there, only chunks and progress are expected."""
        while True:
            answer = self.answers.get(timeout=DEADLINE)
            if isinstance(answer, kind):
                return answer
            assert isinstance(answer, Progress | ChunkDone), answer

    def texts(self) -> list[str]:
        """The texts of the recording that finishes next."""
        texts = []
        while True:
            answer = self.answer(ChunkDone | Final)  # type: ignore[arg-type]
            if isinstance(answer, Final):
                assert answer.chunks == len(texts)
                return texts
            texts.append(answer.text)


def tone(seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * 16000)) / 16000
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


@pytest.fixture(scope="module")
def decoder() -> Iterator[AudioDecoder]:
    with AudioDecoder() as decoder:
        yield decoder


@pytest.fixture
def workshop(tmp_path: Path, decoder: AudioDecoder) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path, decoder)
    workshop.upload("c0", tone(1.0))
    yield workshop
    workshop.end()


def test_a_recording_becomes_the_texts_of_its_chunks(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.engine.may_step.release(100)
    workshop.open("r", "c1")

    texts = workshop.texts()
    assert len(texts) > 1
    assert sum(int(text) for text in texts) == 9 * 16000


def test_prompt_language_and_temperature_reach_every_chunk(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.engine.may_step.release(100)
    workshop.loop.deliver(Transcribe("r", 1, "ab/c1", 1, "German", "p", ("k",), 0.5, False, 0, 0))
    workshop.texts()

    chunks = [chunk for batch in workshop.engine.batches for chunk in batch]
    assert len(chunks) > 1
    assert {(chunk.language, chunk.context, chunk.temperature) for chunk in chunks} == {
        ("German", "p\nk", 0.5)
    }


def test_silence_costs_no_inference(workshop: Workshop) -> None:
    workshop.upload("c1", np.zeros(3 * 16000, np.float32))
    workshop.open("r", "c1")

    assert set(workshop.texts()) == {""}
    assert workshop.engine.batches == []


def test_an_upload_without_audio_fails_alone(workshop: Workshop) -> None:
    workshop.upload("c1", tone(1.0))
    (workshop._folder / "ab" / "bad1").write_bytes(b"no audio at all")
    workshop.engine.may_step.release(100)
    workshop.open("bad", "bad1")
    failed = workshop.answer(Failed)
    workshop.open("good", "c1")

    assert (failed.request_id, failed.code) == ("bad", FailureCode.AUDIO_UNDECODABLE)
    assert workshop.texts() == ["16000"]


@pytest.mark.parametrize("file", ["dead", "../../etc/passwd", "/etc/passwd", "x"])
def test_a_missing_or_strange_spool_file_is_a_lost_input(workshop: Workshop, file: str) -> None:
    workshop.open("r", file)

    assert workshop.answer(Failed).code is FailureCode.INPUT_LOST


def test_a_chunk_that_fails_ends_its_request_and_no_other(workshop: Workshop) -> None:
    workshop.open("bad", prompt="fail")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.open("good")
    workshop.engine.may_step.release(100)
    failed = workshop.answer(Failed)

    assert (failed.request_id, failed.code) == ("bad", FailureCode.INFERENCE_FAILED)
    assert workshop.texts() == ["16000"]


def test_a_cancel_costs_one_step(workshop: Workshop) -> None:
    workshop.open("leaving")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.loop.deliver(Cancel("leaving"))
    workshop.open("staying")
    workshop.engine.may_step.release(1)
    failed = workshop.answer(Failed)
    assert (failed.request_id, failed.code) == ("leaving", FailureCode.CANCELLED)
    workshop.engine.may_step.release(100)

    assert workshop.texts() == ["16000"]


def test_the_cancel_of_an_unknown_request_says_nothing(workshop: Workshop) -> None:
    workshop.loop.deliver(Cancel("unknown"))
    workshop.engine.may_step.release(100)
    workshop.open("r")

    assert workshop.texts() == ["16000"]


def test_chunks_done_by_an_earlier_engine_are_not_inferred(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.engine.may_step.release(100)
    workshop.open("r", "c1")
    chunks = []
    while isinstance(answer := workshop.answer(ChunkDone | Final), ChunkDone):  # type: ignore[arg-type]
        chunks.append(answer)
    inferred = sum(len(batch) for batch in workshop.engine.batches)
    workshop.open("r", "c1", done=(len(chunks) - 1, chunks[-2].end), attempt=2)
    last = workshop.answer(ChunkDone)

    assert (last.index, last.attempt) == (len(chunks) - 1, 2)
    assert workshop.answer(Final).chunks == len(chunks)
    assert sum(len(batch) for batch in workshop.engine.batches) == inferred + 1


def test_a_recording_cut_differently_than_before_fails_instead_of_being_pieced_together(
    workshop: Workshop,
) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.engine.may_step.release(100)
    workshop.open("r", "c1", done=(1, 16001), attempt=2)

    assert workshop.answer(Failed).code is FailureCode.CUT_DIFFERENTLY


def test_the_next_batch_is_cut_while_one_is_inferred(workshop: Workshop) -> None:
    workshop.upload("c1", tone(60.0))
    workshop.open("film", "c1")
    workshop.engine.entered.get(timeout=DEADLINE)
    [batch] = workshop.engine.batches

    for _ in range(len(batch) + CHUNKS_AHEAD):
        assert workshop.cut.acquire(timeout=DEADLINE)


def test_a_suspect_runs_alone_until_a_chunk_of_it_is_done(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.open("film", "c1")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.open("suspect", "c1", prompt="suspect", alone=True)
    workshop.engine.may_step.release(1)
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.engine.may_step.release(100)
    assert {workshop.answer(Final).request_id for _ in range(2)} == {"film", "suspect"}
    first, second, *later = workshop.engine.batches

    assert "suspect" not in {chunk.context for chunk in first}
    assert [chunk.context for chunk in second] == ["suspect"]
    assert {"", "suspect"} <= {chunk.context for batch in later for chunk in batch}


@pytest.mark.parametrize(("loudness", "heard"), [(0.002, ""), (0.3, "budget meeting with Ada")])
def test_the_callers_context_is_no_transcript_of_near_silence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, loudness: float, heard: str
) -> None:
    echo = ChunkText("English", "budget meeting with Ada", 9, 7, 2)
    monkeypatch.setattr(workshop.engine, "_answer", lambda chunk: echo)
    workshop.upload("c1", tone(1.0) / 0.3 * loudness)
    workshop.engine.may_step.release(100)
    workshop.open("r", "c1", prompt="Budget meeting with Ada")

    assert workshop.texts() == [heard]


def test_a_cancelled_recording_leaves_no_thread_behind(workshop: Workshop) -> None:
    workshop.upload("c1", tone(120.0))
    for number in range(4):
        workshop.open(f"r{number}", "c1")
    workshop.engine.entered.get(timeout=DEADLINE)
    feeders = [thread for thread in threading.enumerate() if thread.name.startswith("feeder")]
    for number in range(4):
        workshop.loop.deliver(Cancel(f"r{number}"))
    workshop.engine.may_step.release(1)
    for _ in range(4):
        workshop.answer(Failed)
    for feeder in feeders:
        feeder.join(DEADLINE)

    assert len(feeders) == 4
    assert not any(feeder.is_alive() for feeder in feeders)


def test_an_introduction_voids_requests_without_an_answer(workshop: Workshop) -> None:
    workshop.open("old")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.loop.deliver(Introduce("gateway", "probe", "text"))
    workshop.open("new")
    workshop.engine.may_step.release(100)

    assert workshop.answer(ChunkDone).request_id == "new"


def test_ending_gives_open_requests_back(tmp_path: Path, decoder: AudioDecoder) -> None:
    workshop = Workshop(tmp_path, decoder)
    workshop.upload("c0", tone(1.0))
    workshop.open("r")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.end()

    failed = workshop.answer(Failed)
    assert (failed.request_id, failed.code) == ("r", FailureCode.SHUTTING_DOWN)
    assert workshop.answers.empty()


@pytest.mark.parametrize(("is_cut_off", "copies_left"), [(False, 10), (True, 1)])
def test_a_loop_that_ran_into_the_token_limit_is_repaired_sooner(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, is_cut_off: bool, copies_left: int
) -> None:
    loop = ChunkText("English", "thank you " * 10, 9, 7, 2, is_cut_off)
    monkeypatch.setattr(workshop.engine, "_answer", lambda chunk: loop)
    workshop.engine.may_step.release(100)
    workshop.open("r")

    assert workshop.texts()[0].count("thank you") == copies_left


def test_repeated_text_is_repaired_before_it_leaves(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = ChunkText("English", "thank you " * 60, 9, 7, 2)
    monkeypatch.setattr(workshop.engine, "_answer", lambda chunk: loop)
    workshop.engine.may_step.release(100)
    workshop.open("r")

    assert len(workshop.texts()[0]) < 60
