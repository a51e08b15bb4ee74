"""Live sessions in the engine's loop, beside files: real threads, the embedded model."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import soundfile

from protocol.control import Introduce
from protocol.failures import FailureCode
from protocol.live import (
    AudioPacket,
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionFailed,
    SpeechStarted,
    UtteranceDone,
)
from protocol.transcription import ChunkDone, Failed, Final, Transcribe
from tests.worker.engine.test_native import TEXTS, loaded, speech
from tests.worker.live.road import PCM16, in_silence, options, pcm16
from worker.audio.chunking import Chunker
from worker.audio.decoding import AudioDecoder, DecodeLimits
from worker.audio.live_vad import LiveVad
from worker.chunks_ahead import ChunksAhead
from worker.clock import monotonic
from worker.decoder_places import DecoderPlaces
from worker.engine.native import NativeEngine
from worker.engine_loop import EngineLoop
from worker.feeding import ChunkCut, FeedingTools
from worker.live.inbox import LiveInbox
from worker.live.listener import Listener
from worker.live.news import UtteranceComplete

DEADLINE = 30.0
PACKET = 320


class Mail:
    """Stands in for the mailbox towards feeders."""

    sees_spool = True


class HeldEngine:
    """The engine, whose steps wait while it is held."""

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self.may_step = threading.Event()
        self.may_step.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, on_step: Callable[[], None]) -> Any:
        assert self.may_step.wait(DEADLINE)
        return self._engine.step(on_step)


class EngineProcess:
    """Loop and listener as the engine process runs them."""

    def __init__(self, engine: NativeEngine, folder: Path, decoder: AudioDecoder) -> None:
        self.engine = HeldEngine(engine)
        self.told: SimpleQueue[Any] = SimpleQueue()
        self.complete = threading.Semaphore(0)
        self.cut = threading.Semaphore(0)
        self._folder = folder
        self.loop = EngineLoop(
            self.engine,
            send=self.told.put,
            tell_listener=lambda answered: self.listener.put(answered),
        )
        self.listener = Listener(LiveVad, deliver=self._deliver, max_seconds=30.0, clock=monotonic)
        self.inbox = LiveInbox(loop=self.loop.deliver, listener=self.listener.put)
        tools = FeedingTools(
            decoder=decoder,
            decoder_places=DecoderPlaces(),
            decoding_slots=threading.Semaphore(1),
            chunks_ahead=ChunksAhead(4, least=4),
            limits=DecodeLimits(),
            new_chunker=lambda: Chunker(target_seconds=4.0, max_seconds=8.0),
            mailbox=Mail(),  # type: ignore[arg-type]
            spool_folder=folder,
            fetch_folder=folder / "fetched",
            deliver=self._deliver,
        )
        self._thread = threading.Thread(target=self.loop.run, args=(tools,), daemon=True)
        self.listener.start()
        self._thread.start()

    def _deliver(self, event: Any) -> None:
        self.loop.deliver(event)
        if isinstance(event, ChunkCut):
            self.cut.release()
        elif isinstance(event, list):
            for news in event:
                if isinstance(news, UtteranceComplete):
                    self.complete.release()

    def end(self) -> None:
        self.engine.may_step.set()
        self.loop.end()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        if self.listener._thread.is_alive():
            self.listener.end()

    def upload(self, name: str, samples: np.ndarray) -> None:
        path = self._folder / "ab" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, 16_000, format="WAV", subtype="PCM_16")

    def call(self, name: str, *, attempt: int = 1) -> None:
        """A whole call, faster than it was said."""
        self.inbox.deliver(OpenSession(name, attempt, PCM16, options(), 0))
        samples = in_silence(speech("british"))
        for first in range(0, len(samples), PACKET):
            content = pcm16(samples[first : first + PACKET])
            self.inbox.deliver(AudioPacket(name, first, content))

    def until(self, kind: type[Any]) -> list[Any]:
        """All that is told, up to the first of a kind."""
        told: list[Any] = []
        while not told or not isinstance(told[-1], kind):
            told.append(self.told.get(timeout=DEADLINE))
        return told


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return loaded()


@pytest.fixture(scope="module")
def decoder() -> Iterator[AudioDecoder]:
    with AudioDecoder() as decoder:
        yield decoder


@pytest.fixture
def process(engine: NativeEngine, tmp_path: Path, decoder: AudioDecoder) -> Iterator[EngineProcess]:
    process = EngineProcess(engine, tmp_path, decoder)
    yield process
    process.end()


def test_a_call_beside_a_file_has_its_text_before_the_file_ends(process: EngineProcess) -> None:
    process.upload("c0", np.concatenate([in_silence(speech("american"))] * 8))
    process.engine.may_step.clear()
    process.loop.deliver(Transcribe("file", 1, "ab/c0", 1, None, "", (), 0.0, False, 0, 0))
    for _ in range(4):
        assert process.cut.acquire(timeout=DEADLINE)
    process.call("call")
    assert process.complete.acquire(timeout=DEADLINE)

    process.engine.may_step.set()
    told = process.until(Final)

    (done,) = (event for event in told if isinstance(event, UtteranceDone))
    assert done.text == TEXTS["british"]
    behind = told[told.index(done) :]
    assert sum(isinstance(event, ChunkDone) for event in behind) >= 2
    chunks = [event.text for event in told if isinstance(event, ChunkDone)]
    assert " ".join(filter(None, chunks)).split() == TEXTS["american"].split() * 8


def test_a_call_ends_with_everything_answered(process: EngineProcess) -> None:
    process.call("call")
    process.inbox.deliver(CloseSession("call"))

    told = process.until(SessionClosed)

    assert [event.text for event in told if isinstance(event, UtteranceDone)] == [TEXTS["british"]]


def test_an_engine_that_ends_gives_calls_and_files_back(process: EngineProcess) -> None:
    process.upload("c0", speech("american"))
    process.engine.may_step.clear()
    process.loop.deliver(Transcribe("file", 1, "ab/c0", 1, None, "", (), 0.0, False, 0, 0))
    assert process.cut.acquire(timeout=DEADLINE)
    process.call("call")
    assert process.complete.acquire(timeout=DEADLINE)

    process.loop.end()
    process.engine.may_step.set()
    told = process.until(SessionFailed)

    assert told[-1].code is FailureCode.SHUTTING_DOWN
    (failed,) = (event for event in told if isinstance(event, Failed))
    assert failed.code is FailureCode.SHUTTING_DOWN
    assert not any(isinstance(event, UtteranceDone | Final) for event in told)


def test_a_gateway_that_begins_anew_hears_nothing_of_earlier_calls(process: EngineProcess) -> None:
    process.engine.may_step.clear()
    process.call("earlier")
    assert process.complete.acquire(timeout=DEADLINE)

    process.inbox.deliver(Introduce("ab", "probe", "text"))
    process.engine.may_step.set()
    process.call("call", attempt=2)
    process.inbox.deliver(CloseSession("call"))
    told = process.until(SessionClosed)

    assert [event.text for event in told if isinstance(event, UtteranceDone)] == [TEXTS["british"]]
    answered = [event for event in told if isinstance(event, UtteranceDone | SessionClosed)]
    assert {event.session_id for event in answered} == {"call"}
    assert {event.attempt for event in answered} == {2}
    assert [event.session_id for event in told if isinstance(event, SpeechStarted)][-1] == "call"
