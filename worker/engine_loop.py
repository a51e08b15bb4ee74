"""The engine process's main thread: mail and chunks in, texts out.

Owns the recordings; the engine has their chunks, and decides which runs when. Between two steps of
inference the mail is read, so that a cancel costs one step and a new recording is decoded while
others are inferred.
"""

import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from protocol.control import Introduce
from protocol.failures import FailureCode
from protocol.live import LiveEvent, OpenSession
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Partial,
    Progress,
    Stage,
    Transcribe,
    UploadGrown,
)
from worker.audio.chunking import Chunk
from worker.clock import Clock, monotonic
from worker.engine.interface import ChunkFailure, ChunkKey, ChunkText, Engine
from worker.feeding import ChunkCut, CutAll, Feeder, FeedEvent, FeedingFailed, FeedingTools, Moved
from worker.live.listener import Answered
from worker.live.sessions import LiveSessions
from worker.partials import PartialTexts
from worker.recordings import ChunkOutcome, ChunkSpan, CutDifferently, Recording
from worker.unfinished_chunks import ToldOtherwise, UnfinishedChunks

logger = logging.getLogger(__name__)

FEEDERS_GRACE = 3.0
"""Seconds that feeders have to notice the end; what is left dies with the process."""

Answer = Progress | Partial | ChunkDone | Final | Failed


class End:
    """An event: leave the loop."""


class EngineLoop:
    """Runs in the main thread; `deliver` and `end` may be called from any thread or signal."""

    def __init__(
        self,
        engine: Engine,
        *,
        send: Callable[[Answer | LiveEvent], None],
        tell_listener: Callable[[Answered], None] = lambda _: None,
        clock: Clock = monotonic,
    ) -> None:
        self._engine = engine
        self._send = send
        self._clock = clock
        self._recordings: dict[str, Recording] = {}
        self._feeders: dict[str, Feeder] = {}
        self._unfinished: dict[str, UnfinishedChunks] = {}
        """Chunks cut and not answered, by request: at most as many as are cut ahead."""
        self._partials: dict[str, PartialTexts] = {}
        """Of the requests that want them."""
        self._live = LiveSessions(
            engine,
            send=send,
            answered=lambda session: tell_listener(Answered(session)),
            clock=clock,
        )
        self._alone: str | None = None
        """The request that nothing else may be inferred beside."""
        # Bounded: chunks by `chunks_ahead` a recording, messages by capacity and credit.
        self._events: SimpleQueue[object] = SimpleQueue()
        self._is_ending = False
        self.steps = 0
        """Steps of inference finished so far, and beats within long ones."""
        self.is_busy = False
        """Whether inference runs."""

    def __repr__(self) -> str:
        chunks = sum(len(chunks.numbers) for chunks in self._unfinished.values())
        return f"<EngineLoop {len(self._recordings)} recordings, {chunks} chunks submitted>"

    def deliver(self, event: object) -> None:
        """Hand in a message of the gateway, an event of a feeder or a list of a listener's news."""
        self._events.put(event)

    def end(self) -> None:
        """Leave the loop at the next step; open requests go back to the gateway."""
        self._events.put(End())

    def run(self, tools: FeedingTools) -> None:
        """Work until `end`, which gives open requests back to the gateway.

        Raises what ends an engine; then nothing is given back, as the death speaks for itself.
        """
        self._tools = tools
        while not self._is_ending:
            self._handle_events(wait=not self._engine.has_work)
            if self._engine.has_work and not self._is_ending:
                self._infer()
        self._give_everything_back()

    def _give_everything_back(self) -> None:
        feeders = list(self._feeders.values())
        for request_id in tuple(self._recordings):
            self._fail(request_id, FailureCode.SHUTTING_DOWN, "The engine is ending.")
        self._live.give_back_all()
        deadline = self._clock() + FEEDERS_GRACE
        for feeder in feeders:
            feeder.join(max(0.0, deadline - self._clock()))

    # --- events -----------------------------------------------------------------------------

    def _handle_events(self, *, wait: bool) -> None:
        """Handle what is there; with `wait`, at least one event."""
        while True:
            try:
                event = self._events.get(block=wait)
            except Empty:
                return
            wait = False
            self._handle(event)

    def _handle(self, event: Any) -> None:
        if isinstance(event, Transcribe):
            self._open(event)
        elif isinstance(event, UploadGrown):
            if (feeder := self._feeders.get(event.request_id)) is not None:
                feeder.upload_grew(event.upload_bytes, is_whole=event.is_whole)
        elif isinstance(event, Cancel):
            self._fail(event.request_id, FailureCode.CANCELLED, "The caller has left.")
        elif isinstance(event, list):
            for news in event:
                self._live.heard(news)
        elif isinstance(event, OpenSession):
            self._live.open(event)
        elif isinstance(event, Introduce):
            for request_id in tuple(self._recordings):
                self._close(request_id)  # of an earlier gateway, or requeued by this one
            self._live.forget_all()
        elif isinstance(event, End):
            self._is_ending = True
        elif isinstance(event, ChunkCut | Moved | CutAll | FeedingFailed):
            if self._is_open(event.recording):
                self._handle_feed(event)
        else:
            logger.warning("unexpected %s", type(event).__name__)

    def _handle_feed(self, event: FeedEvent) -> None:
        request_id = event.recording.request.request_id
        try:
            self._apply_feed(event.recording, event)
        except CutDifferently:
            logger.warning("chunks fall elsewhere than for an earlier engine id=%s", request_id)
            message = "The recording has to be transcribed from its start. Send it again."
            self._fail(request_id, FailureCode.CUT_DIFFERENTLY, message)

    def _apply_feed(self, recording: Recording, event: FeedEvent) -> None:
        request_id = recording.request.request_id
        if isinstance(event, FeedingFailed):
            self._fail(request_id, event.code, event.message)
        elif isinstance(event, Moved):
            recording.total_seconds = event.total_seconds
            self._report_progress(recording, event.stage)
        elif isinstance(event, CutAll):
            recording.cut_all(event.samples)
            self._report(recording)
        else:
            self._take_chunk(recording, event.chunk)

    def _open(self, request: Transcribe) -> None:
        self._close(request.request_id)  # a request opened twice is the gateway's second thought
        recording = Recording(request)
        feeder = Feeder(recording, self._tools)
        self._recordings[request.request_id] = recording
        self._feeders[request.request_id] = feeder
        self._unfinished[request.request_id] = UnfinishedChunks(request, recording.context)
        if request.wants_partials:
            self._partials[request.request_id] = PartialTexts(request)
        if request.runs_alone:
            self._run_alone(request.request_id)
        feeder.start()

    def _take_chunk(self, recording: Recording, chunk: Chunk) -> None:
        request_id = recording.request.request_id
        self._report_progress(recording, Stage.DECODING)
        if not recording.cut(chunk.index, ChunkSpan(chunk.start, chunk.end)):
            self._feeders[request_id].chunk_finished()
            self._report(recording)
        elif chunk.is_silent:
            self._finish(recording, chunk.index, ChunkOutcome())
        else:
            self._unfinished[request_id].add(chunk)
            self._submit(request_id)

    # --- inference --------------------------------------------------------------------------

    def _submit(self, request_id: str) -> None:
        for task in self._unfinished[request_id].next_tasks():
            self._engine.submit((request_id, task.number), task.request)

    def _infer(self) -> None:
        self._report_inferring()
        self._engine.expect_live(self._live.is_speech_open)
        self.is_busy = True
        try:
            answers = self._engine.step(self._within_step)
        finally:
            self.is_busy = False
        self.steps += 1
        for key, answer in answers:
            if self._live.is_step(key):
                self._live.take_answer(key, answer)
            else:
                self._take_answer(key, answer)
        self._tell_partials()

    def _within_step(self) -> None:
        self.steps += 1
        self._handle_events(wait=False)
        if self._is_ending:
            for request_id in self._unfinished:
                self._withdraw(request_id)
        self._report_inferring()

    def _report_inferring(self) -> None:
        """Those that wait count too: their turn comes closer with every step."""
        for request_id, chunks in self._unfinished.items():
            if chunks.is_running:
                self._report_progress(self._recordings[request_id], Stage.INFERRING)

    def _take_answer(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> None:
        request_id, number = key
        recording = self._recordings.get(request_id)
        if recording is None:  # an earlier answer of the same step was its failure
            return
        if isinstance(answer, ChunkFailure):
            self._retry(key, answer)
            return
        chunks = self._unfinished[request_id]
        index = chunks.task(number).chunk.index
        try:
            taken = chunks.take(number, answer, self._told(request_id, index))
        except ToldOtherwise:
            logger.warning("a chunk was heard otherwise the second time id=%s", request_id)
            message = "A part of the recording could not be transcribed reliably. Try again."
            self._fail(request_id, FailureCode.INFERENCE_FAILED, message)
            return
        if taken.again is not None:
            self._engine.submit(key, taken.again.request)
            return
        self._submit(request_id)  # before the report, which may close the request
        if taken.outcome is not None:
            self._finish(recording, index, taken.outcome)

    def _retry(self, key: ChunkKey, failure: ChunkFailure) -> None:
        request_id, number = key
        task = self._unfinished[request_id].retry(number)
        if task is None:
            self._fail(request_id, FailureCode.INFERENCE_FAILED, failure.message)
        else:
            logger.warning("a chunk failed and is tried once more code=%s", failure.code)
            self._engine.submit(key, task.request)

    def _withdraw(self, request_id: str) -> None:
        """Take a request's chunks back from the engine."""
        for number in self._unfinished[request_id].numbers:
            self._engine.cancel((request_id, number))

    def _run_alone(self, request_id: str | None) -> None:
        self._alone = request_id
        self._engine.run_alone(request_id)

    # --- partial texts ----------------------------------------------------------------------

    def _tell_partials(self) -> None:
        for request_id, partials in self._partials.items():
            now = self._clock()
            if not partials.is_due(now):
                continue
            index = self._recordings[request_id].next_index
            telling = self._unfinished[request_id].next_to_tell(index)
            if telling is None:
                continue
            task, before = telling
            text = self._engine.text_so_far((request_id, task.number))
            partial = partials.partial(task, before, text, now) if text else None
            if partial is not None:
                self._send(partial)

    def _told(self, request_id: str, index: int) -> str:
        partials = self._partials.get(request_id)
        return partials.told(index) if partials else ""

    # --- answers ----------------------------------------------------------------------------

    def _is_open(self, recording: Recording) -> bool:
        return self._recordings.get(recording.request.request_id) is recording

    def _finish(self, recording: Recording, index: int, outcome: ChunkOutcome) -> None:
        self._feeders[recording.request.request_id].chunk_finished()
        recording.finish(index, outcome)
        self._report(recording)

    def _report(self, recording: Recording) -> None:
        for report in recording.reports():
            if isinstance(report, Final):
                self._close(report.request_id)
            elif report.request_id == self._alone:
                self._run_alone(None)  # it is past what engines died of
            self._send(report)

    def _report_progress(self, recording: Recording, stage: Stage) -> None:
        progress = recording.progress(stage, self._clock())
        if progress is not None:
            self._send(progress)

    def _fail(self, request_id: str, code: FailureCode, message: str) -> None:
        recording = self._recordings.get(request_id)
        if recording is not None:
            self._close(request_id)
            self._send(Failed(request_id, recording.request.attempt, code, message))

    def _close(self, request_id: str) -> None:
        """Forget a request and end what works for it."""
        if self._recordings.pop(request_id, None) is None:
            return
        self._feeders.pop(request_id).stop()
        self._withdraw(request_id)
        del self._unfinished[request_id]
        self._partials.pop(request_id, None)
        if request_id == self._alone:
            self._run_alone(None)
