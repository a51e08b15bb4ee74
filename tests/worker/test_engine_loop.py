"""The engine's main thread with a scripted engine and real files, decoders and feeders."""

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile

from protocol.control import Introduce
from protocol.failures import FailureCode
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Partial,
    Progress,
    Stage,
    Transcribe,
)
from worker.audio.chunking import Chunker
from worker.audio.decoding import AudioDecoder, DecodedAudio, DecodeLimits
from worker.chunks_ahead import ChunksAhead
from worker.decoder_places import DecoderPlaces
from worker.engine.batches import BatchEngine
from worker.engine.interface import (
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    Engine,
    ReportProgress,
)
from worker.engine_loop import EngineLoop
from worker.feeding import ChunkCut, FeedEvent, FeedingTools

Answer = TypeVar("Answer")
DEADLINE = 20.0
CHUNKS_AHEAD = 4
LASTING, BRIEF = 2, 1


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

    def load(self, report: ReportProgress) -> None:
        """Nothing to load."""

    def warm_up(self) -> None:
        """Nothing to warm."""

    def memory(self) -> dict[str, int]:
        return {}

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

    def __init__(
        self, folder: Path, decoder: AudioDecoder, other_engine: Engine | None = None
    ) -> None:
        self.engine = ScriptedEngine()
        self._folder = folder
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.cut = threading.Semaphore(0)
        self.cut_of: list[str] = []
        """Whose chunks were cut, one after another."""
        engine = other_engine or BatchEngine(self.engine)
        seconds = itertools.count()  # no two steps are too close for two progress messages
        self.loop = EngineLoop(engine, send=self.answers.put, clock=lambda: float(next(seconds)))
        self._tools = FeedingTools(
            decoder=decoder,
            decoder_places=DecoderPlaces(lasting=LASTING, brief=BRIEF, told_every=0.05),
            decoding_slots=threading.Semaphore(2),
            chunks_ahead=ChunksAhead(CHUNKS_AHEAD, least=CHUNKS_AHEAD),
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
            self.cut_of.append(event.recording.request.request_id)
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
        **wishes: Any,
    ) -> None:
        request = Transcribe(
            request_id, attempt, f"ab/{file}", 1, None, prompt, (), 0.0, alone, *done
        )
        self.loop.deliver(replace(request, **wishes))

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


def test_an_upload_that_went_with_its_caller_is_no_error_in_the_log(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workshop.open("r", "dead")
    workshop.answer(Failed)

    told = [record for record in caplog.records if "could not be read" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.INFO]


def test_a_chunk_that_fails_ends_its_request_and_no_other(workshop: Workshop) -> None:
    workshop.open("bad", prompt="fail")
    workshop.engine.entered.get(timeout=DEADLINE)
    workshop.open("good")
    workshop.engine.may_step.release(100)
    failed = workshop.answer(Failed)

    assert (failed.request_id, failed.code) == ("bad", FailureCode.INFERENCE_FAILED)
    assert workshop.texts() == ["16000"]


def test_a_chunk_that_fails_once_is_tried_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[ChunkText | ChunkFailure] = [
        ChunkFailure("out_of_memory", "The server ran out of memory."),
        ChunkText("English", "Second time lucky.", 9, 7, 2),
    ]
    monkeypatch.setattr(workshop.engine, "_answer", lambda chunk: answers.pop(0))
    workshop.engine.may_step.release(100)
    workshop.open("r")

    assert workshop.texts() == ["Second time lucky."]


def test_a_chunk_in_an_unexpected_language_is_inferred_again(workshop: Workshop) -> None:
    workshop.engine.may_step.release(100)
    workshop.open("r", languages=("German", "French"))

    assert workshop.texts() == ["16000"]
    assert [chunk.language for [chunk] in workshop.engine.batches] == [None, "German"]


def test_a_text_comes_with_its_segments(workshop: Workshop) -> None:
    workshop.engine.may_step.release(100)
    workshop.open("r")
    [segment] = workshop.answer(ChunkDone).segments

    assert segment.text == "16000"
    assert 0 <= segment.start < segment.end <= 16000


def test_the_text_before_is_context_on_request(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.engine.may_step.release(100)
    workshop.open("r", "c1", prompt="p", uses_previous_context=True)
    texts = workshop.texts()

    contexts = [chunk.context for batch in workshop.engine.batches for chunk in batch]
    assert contexts == ["p", *(f"p\n{text}"[:202] for text in texts[:-1])]


def test_different_channels_are_told_apart_on_request(workshop: Workshop) -> None:
    workshop.upload("c1", np.stack([tone(3.0), tone(3.0)[::-1] ** 3], axis=1))
    workshop.engine.may_step.release(100)
    workshop.open("mixed", "c1")
    mixed = workshop.texts()
    workshop.open("apart", "c1", splits_channels=True)
    chunks = [answer for answer in told(workshop) if isinstance(answer, ChunkDone)]

    assert [chunk.text for chunk in chunks] == [f"{text} {text}" for text in mixed]
    assert [[one.channel for one in chunk.segments] for chunk in chunks] == [[0, 1]] * len(mixed)
    assert {chunk.samples.ndim for batch in workshop.engine.batches for chunk in batch} == {1}


def test_channels_that_are_not_there_cannot_be_told_apart(workshop: Workshop) -> None:
    workshop.upload("c1", tone(9.0))
    workshop.open("r", "c1", splits_channels=True)

    assert workshop.answer(Failed).code is FailureCode.CHANNELS_MISSING
    assert workshop.engine.batches == []


def test_an_audio_track_that_is_not_there_is_the_callers_fault(workshop: Workshop) -> None:
    workshop.open("r", audio_track=3)

    assert workshop.answer(Failed).code is FailureCode.AUDIO_TRACK_MISSING


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

    assert len(batch) < CHUNKS_AHEAD
    for _ in range(CHUNKS_AHEAD):
        assert workshop.cut.acquire(timeout=DEADLINE)


@pytest.fixture
def most_decoders(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many decoders were open at a time so far, at most."""
    lock, counts = threading.Lock(), [0]
    opened, closed = DecodedAudio.__enter__, DecodedAudio.__exit__

    def enter(decoded: DecodedAudio) -> DecodedAudio:
        with lock:
            counts.append(counts[-1] + 1)
        return opened(decoded)

    def leave(decoded: DecodedAudio, *error: Any) -> None:
        closed(decoded, *error)
        with lock:
            counts.append(counts[-1] - 1)

    monkeypatch.setattr(DecodedAudio, "__enter__", enter)
    monkeypatch.setattr(DecodedAudio, "__exit__", leave)
    return lambda: max(counts)


FILMS = [f"film {number}" for number in range(1, LASTING + BRIEF + 3)]


def open_films(workshop: Workshop) -> None:
    """Two more than may have a decoder, and a memo; the engine has read of them all and stands
    still in its second step."""
    workshop.upload("c1", tone(60.0))
    workshop.open(FILMS[0], "c1")
    workshop.engine.entered.get(timeout=DEADLINE)
    for film in FILMS[1:]:
        workshop.open(film, "c1")
    workshop.open("memo")
    workshop.engine.may_step.release(1)
    workshop.engine.entered.get(timeout=DEADLINE)


def test_a_short_file_and_the_beginnings_of_films_are_cut_beside_any_number_of_films(
    workshop: Workshop, most_decoders: Callable[[], int]
) -> None:
    open_films(workshop)

    expected = Counter({film: CHUNKS_AHEAD for film in FILMS}) + Counter(memo=1)
    while not expected <= Counter(workshop.cut_of):
        assert workshop.cut.acquire(timeout=DEADLINE), workshop.cut_of
    assert most_decoders() <= LASTING + BRIEF


def test_films_that_made_way_are_transcribed_like_the_others(
    workshop: Workshop, most_decoders: Callable[[], int]
) -> None:
    open_films(workshop)
    workshop.engine.may_step.release(1000)

    texts: dict[str, list[str]] = {}
    for _ in [*FILMS, "memo"]:
        while not isinstance(answer := workshop.answer(ChunkDone | Final), Final):  # type: ignore[arg-type, var-annotated]
            texts.setdefault(answer.request_id, []).append(answer.text)
        assert answer.chunks == len(texts[answer.request_id])

    assert texts.pop("memo") == ["16000"]
    assert texts.keys() == set(FILMS)
    assert len({tuple(each) for each in texts.values()}) == 1
    assert sum(map(int, texts[FILMS[-1]])) == 60 * 16000
    assert most_decoders() <= LASTING + BRIEF


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


class SteppingEngine:
    """Finishes a chunk a step, the one submitted last; steps when the test lets it."""

    name = "stepping"
    max_chunk_seconds = None
    chunks_ahead = CHUNKS_AHEAD

    def __init__(self) -> None:
        self.chunks: dict[ChunkKey, ChunkRequest] = {}
        self.most_chunks = 0
        self.is_waiting = False
        self.alone: list[str | None] = []
        self.entered: SimpleQueue[None] = SimpleQueue()
        self.may_step = threading.Semaphore(0)

    def load(self, report: ReportProgress) -> None:
        """Nothing to load."""

    def warm_up(self) -> None:
        """Nothing to warm."""

    def memory(self) -> dict[str, int]:
        return {}

    @property
    def has_work(self) -> bool:
        return bool(self.chunks) and not self.is_waiting

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        assert key not in self.chunks
        self.chunks[key] = chunk
        self.most_chunks = max(self.most_chunks, len(self.chunks))

    def cancel(self, key: ChunkKey) -> None:
        self.chunks.pop(key, None)

    def end_utterance(self, utterance: str) -> None:
        """Nothing is kept."""

    def text_so_far(self, key: ChunkKey) -> str | None:
        return None

    def run_alone(self, request_id: str | None) -> None:
        self.alone.append(request_id)

    def expect_live(self, is_expected: bool) -> None:
        """Nothing is sized here."""

    def step(self, on_step: Callable[[], None]) -> list[tuple[ChunkKey, ChunkText | ChunkFailure]]:
        self.entered.put(None)
        self.may_step.acquire(timeout=DEADLINE)
        on_step()
        if not self.chunks:
            return []
        key, chunk = self.chunks.popitem()
        if chunk.context == "fail":
            broken = {one for one in self.chunks if one[0] == key[0]} | {key}
            self.chunks = {one: kept for one, kept in self.chunks.items() if one not in broken}
            failure = ChunkFailure("inference_failed", "This part could not be transcribed.")
            return [(one, failure) for one in sorted(broken)]
        return [(key, ChunkText("English", str(key[1]), 9, 7, 2))]


class WritingEngine(SteppingEngine):
    """Writes a word a step of each chunk, and may end the later ones first."""

    def __init__(self) -> None:
        super().__init__()
        self.words: dict[ChunkKey, int] = {}
        self.answer: str | None = None

    def step(self, on_step: Callable[[], None]) -> list[tuple[ChunkKey, ChunkText | ChunkFailure]]:
        self.entered.put(None)
        self.may_step.acquire(timeout=DEADLINE)
        on_step()
        for key in self.chunks:
            self.words[key] = self.words.get(key, 0) + 1
        return [self._finished(key) for key in list(self.chunks) if self.words[key] > 5 - key[1]]

    def _finished(self, key: ChunkKey) -> tuple[ChunkKey, ChunkText]:
        del self.chunks[key]
        return key, ChunkText("English", self.answer or self._text(key), 9, 7, 2)

    def text_so_far(self, key: ChunkKey) -> str | None:
        return f"language English<asr_text>{self._text(key)}"

    def _text(self, key: ChunkKey) -> str:
        spoken = ("Once", "upon", "a", "time", "there", "was", "snow")
        return " ".join(spoken[: self.words[key]]) + f" {key[1]}"


@pytest.fixture
def stepping() -> SteppingEngine:
    return SteppingEngine()


@pytest.fixture
def stepping_workshop(
    tmp_path: Path, decoder: AudioDecoder, stepping: SteppingEngine
) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path, decoder, stepping)
    workshop.upload("c0", tone(1.0))
    workshop.upload("c1", tone(30.0))
    yield workshop
    stepping.may_step.release(1000)
    workshop.end()


def test_texts_come_in_the_order_of_the_chunks_whatever_the_engine_finishes_first(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping_workshop.open("r", "c1")
    stepping.entered.get(timeout=DEADLINE)
    for _ in range(CHUNKS_AHEAD):
        assert stepping_workshop.cut.acquire(timeout=DEADLINE)
    stepping.may_step.release(100)
    texts = stepping_workshop.texts()

    assert len(texts) > CHUNKS_AHEAD
    assert texts == [str(index) for index in range(len(texts))]


def test_as_many_chunks_are_submitted_as_the_engine_wants_ahead_and_no_more(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping_workshop.open("r", "c1")
    for _ in range(CHUNKS_AHEAD):
        assert stepping_workshop.cut.acquire(timeout=DEADLINE)
    stepping.may_step.release(100)

    assert len(stepping_workshop.texts()) > CHUNKS_AHEAD
    assert stepping.most_chunks == CHUNKS_AHEAD


def test_a_cancelled_request_is_taken_back_from_the_engine(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping_workshop.open("leaving", "c1")
    stepping.entered.get(timeout=DEADLINE)
    stepping_workshop.loop.deliver(Cancel("leaving"))
    stepping_workshop.open("staying")
    stepping.may_step.release(100)

    assert stepping_workshop.answer(Failed).request_id == "leaving"
    assert stepping_workshop.answer(Final).request_id == "staying"
    assert stepping.chunks == {}


def test_the_first_failure_of_a_request_is_its_only_answer(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping_workshop.open("bad", "c1", prompt="fail")
    for _ in range(CHUNKS_AHEAD):
        assert stepping_workshop.cut.acquire(timeout=DEADLINE)
    stepping.may_step.release(100)
    assert stepping_workshop.answer(Failed).request_id == "bad"
    stepping_workshop.open("good")

    assert stepping_workshop.answer(ChunkDone).request_id == "good"


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_the_engine_hears_when_a_suspect_is_past_its_danger(
    stepping_workshop: Workshop, stepping: SteppingEngine, ending: str
) -> None:
    stepping_workshop.open("suspect", alone=True)
    stepping.entered.get(timeout=DEADLINE)
    assert stepping.alone == ["suspect"]
    if ending == "cancelled":
        stepping_workshop.loop.deliver(Cancel("suspect"))
    stepping.may_step.release(100)
    stepping_workshop.answer(Final if ending == "done" else Failed)

    assert stepping.alone == ["suspect", None]


def test_who_waits_hears_of_progress_while_others_are_inferred(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping.is_waiting = True
    for request_id in ("one", "two"):
        stepping_workshop.open(request_id)
        assert stepping_workshop.cut.acquire(timeout=DEADLINE)
    stepping.is_waiting = False
    stepping_workshop.loop.deliver(Cancel("unknown"))  # wakes the loop
    stepping.may_step.release(1)
    told = set()
    while isinstance(answer := stepping_workshop.answers.get(timeout=DEADLINE), Progress):
        told.add((answer.request_id, answer.stage))

    assert isinstance(answer, ChunkDone)
    assert {("one", Stage.INFERRING), ("two", Stage.INFERRING)} <= told


def test_a_request_opened_again_is_inferred_from_its_start(
    stepping_workshop: Workshop, stepping: SteppingEngine
) -> None:
    stepping_workshop.open("r", attempt=1)
    stepping.entered.get(timeout=DEADLINE)
    stepping_workshop.open("r", attempt=2)
    assert stepping_workshop.cut.acquire(timeout=DEADLINE)
    stepping.may_step.release(100)

    assert stepping_workshop.answer(ChunkDone).attempt == 2
    assert stepping_workshop.answer(Final).attempt == 2
    assert stepping_workshop.answers.empty()


@pytest.fixture
def writing_workshop(tmp_path: Path, decoder: AudioDecoder) -> Iterator[Workshop]:
    engine = WritingEngine()
    engine.may_step.release(1000)
    workshop = Workshop(tmp_path, decoder, engine)
    workshop.upload("c0", tone(1.0))
    workshop.upload("c1", tone(6.0))
    yield workshop
    workshop.end()


def told(workshop: Workshop) -> list[Partial | ChunkDone]:
    """Partial texts and chunks of the recording that finishes next."""
    answers: list[Partial | ChunkDone] = []
    while not isinstance(answer := workshop.answers.get(timeout=DEADLINE), Final):
        if isinstance(answer, Partial | ChunkDone):
            answers.append(answer)
    return answers


def test_texts_are_told_while_they_are_written(writing_workshop: Workshop) -> None:
    writing_workshop.open("r", wants_partials=True)
    *partials, done = told(writing_workshop)

    assert isinstance(done, ChunkDone)
    assert len(partials) > 3
    assert all(isinstance(partial, Partial) for partial in partials)
    texts = [partial.text for partial in partials]
    assert texts == sorted(set(texts), key=len)
    assert all(done.text.startswith(text) for text in texts)


def test_of_chunks_that_run_ahead_nothing_is_told_before_it_is_their_turn(
    writing_workshop: Workshop,
) -> None:
    writing_workshop.open("r", "c1", wants_partials=True)
    answers = told(writing_workshop)

    indexes = [answer.index for answer in answers]
    assert indexes == sorted(indexes)
    assert max(indexes) > 0
    for done in (answer for answer in answers if isinstance(answer, ChunkDone)):
        assert all(done.text.startswith(one.text) for one in answers if one.index == done.index)


def test_without_the_wish_nothing_is_told_early(writing_workshop: Workshop) -> None:
    writing_workshop.open("r")

    assert [type(answer) for answer in told(writing_workshop)] == [ChunkDone]


def test_a_text_that_contradicts_what_was_told_fails(tmp_path: Path, decoder: AudioDecoder) -> None:
    engine = WritingEngine()
    engine.answer = "Something else."
    engine.may_step.release(1000)
    workshop = Workshop(tmp_path, decoder, engine)
    workshop.upload("c0", tone(1.0))
    workshop.open("r", wants_partials=True)
    while isinstance(answer := workshop.answers.get(timeout=DEADLINE), Partial | Progress):
        pass
    workshop.end()

    assert isinstance(answer, Failed)
    assert answer.code is FailureCode.INFERENCE_FAILED
