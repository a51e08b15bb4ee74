"""Which callers wait for what: the queue, the requests in engines, and their one answer each.

Decides by lifecycle.py when engines start and end, and by attempts.py how often a request is
retried. Knows no sockets: messages leave through a Post, time comes from a clock.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.worker_client import outcomes
from gateway.worker_client.call import Call
from gateway.worker_client.chunk_file import ChunkFile
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from gateway.worker_client.lifecycle import WORKER_GRACE, Lifecycle, Start, Stop, Worker
from protocol.control import EngineFinishedWork, StartEngine, StopEngine
from protocol.failures import FailureCode
from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Progress,
    PullUpload,
    UploadPiece,
)

if TYPE_CHECKING:
    from gateway.settings import Settings

logger = logging.getLogger(__name__)

CANCEL_GRACE = 10.0
"""Seconds an engine has to answer a Cancel before it counts as stuck."""
MAX_PIECES = 8
"""Most credit one PullUpload is given."""

EngineId = tuple[str, int]
"""Worker id and epoch."""
Answer = Progress | ChunkDone | Final | Failed


class Post(Protocol):
    """How messages leave; False where the peer is gone or takes no more."""

    def to_engine(self, engine: EngineId, message: object) -> bool: ...

    def to_supervisor(self, worker_id: str, message: object) -> bool: ...


class Dispatcher:
    """Owns every call from its opening to its one answer."""

    def __init__(
        self,
        settings: "Settings",
        lifecycle: Lifecycle,
        post: Post,
        clock: Callable[[], float],
        all_answered: Callable[[], None],
    ) -> None:
        """`all_answered` is called whenever the last open call has been left."""
        self._settings = settings
        self._lifecycle = lifecycle
        self._post = post
        self._clock = clock
        self._all_answered = all_answered
        self._calls: dict[str, Call] = {}
        self._waiting: deque[Call] = deque()
        self._cancelling: dict[str, tuple[EngineId, float]] = {}
        """Requests nobody waits for but an engine still holds, and until when it may."""
        self._proven: set[EngineId] = set()
        """Engines that have finished work, one a worker."""
        self._absent_since = self._lonely_since = clock()
        """When the last engine and the last worker went."""
        self.is_draining = False
        """Whether new calls are refused."""

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._waiting)} waiting, {len(self._calls)} open>"

    @property
    def open_calls(self) -> int:
        """Calls that wait or run."""
        return len(self._calls)

    @property
    def waiting_calls(self) -> int:
        """Calls that no engine holds."""
        return len(self._waiting)

    # --- callers ----------------------------------------------------------------------------

    def open(self, request: TranscriptionRequest) -> Call:
        """A new call, waiting; the caller leaves it by `leave`. Raises TranscriptionFailed."""
        if self.is_draining:
            raise outcomes.shutting_down()
        if len(self._waiting) >= self._settings.max_waiting_requests:
            raise outcomes.queue_full()
        try:
            chunks = ChunkFile(
                request.chunks_path, request_id=request.request_id, owner=request.owner
            )
        except OSError as error:
            logger.error("chunk file could not be created error=%s", error.strerror)
            raise outcomes.storage_full() from error
        call = Call(request, chunks, self._clock())
        self._calls[request.request_id] = call
        self._waiting.append(call)
        self.move()
        return call

    def leave(self, call: Call) -> None:
        """The caller has its answer, or does not want it any more."""
        del self._calls[call.request.request_id]
        if not call.has_ended:
            self._take_back(call)
        call.chunks.close()
        if not self._calls:
            self._all_answered()
        self.move()

    def end_all(self) -> None:
        """Answer every call at once: the gateway ends."""
        for call in tuple(self._calls.values()):
            self._take_back(call)
            call.end(outcomes.shutting_down())

    def _take_back(self, call: Call) -> None:
        """Out of the queue, or out of its engine, which is told."""
        if call.engine is None:
            if call in self._waiting:
                self._waiting.remove(call)
            return
        request_id, engine = call.request.request_id, call.engine
        call.engine = None
        self._cancelling[request_id] = (engine, self._clock() + CANCEL_GRACE)
        self._post.to_engine(engine, Cancel(request_id))

    def _give_up(self, call: Call, failure: TranscriptionFailed) -> None:
        self._take_back(call)
        call.end(failure)

    # --- moving -----------------------------------------------------------------------------

    def move(self) -> None:
        """Give waiting calls to engines, start and end engines, fail calls that cannot be served.

        Every event ends here, so there is one place where requests and engines meet.
        """
        while self._waiting and self._hand_over_next():
            pass
        self._act(self._lifecycle.decide(self._clock(), len(self._waiting)))
        self._fail_hopeless()

    def check_deadlines(self) -> None:
        """To be called about every second."""
        now = self._clock()
        for call in tuple(self._calls.values()):
            if call.engine and now - call.last_progress > self._settings.request_timeout:
                logger.error("request made no progress request_id=%s", call.request.request_id)
                self._give_up(call, outcomes.timed_out())
        for request_id, (engine, deadline) in tuple(self._cancelling.items()):
            if now > deadline:
                del self._cancelling[request_id]
                logger.error("engine did not let go of a cancelled request worker=%s", engine[0])
                self._act(self._lifecycle.end_engine(*engine))

    def _hand_over_next(self) -> bool:
        call = self._waiting[0]
        alone = call.attempts.is_suspect
        worker = self._lifecycle.roomiest(alone=alone)
        if worker is None:
            return False
        self._waiting.popleft()
        engine = self._lifecycle.assign(worker, call.request.request_id, alone=alone)
        call.engine = (worker.worker_id, engine.hello.epoch)
        call.last_progress = self._clock()
        if not self._post.to_engine(call.engine, call.opening_message()):
            self.engine_fell_silent(call.engine)
        return True

    def _act(self, actions: Iterable[Start | Stop]) -> None:
        for action in actions:
            if isinstance(action, Start):
                logger.info("engine was asked for worker=%s", action.worker_id)
                self._post.to_supervisor(action.worker_id, StartEngine())
            else:
                fields = (action.worker_id, action.epoch)
                logger.info("engine was dismissed worker=%s epoch=%d", *fields)
                self._post.to_supervisor(action.worker_id, StopEngine(action.epoch))

    def _fail_hopeless(self) -> None:
        """Answer callers for whom no engine will be there in time."""
        workers = list(self._lifecycle.workers)
        if any(worker.engine is not None for worker in workers):
            return
        for call in tuple(self._waiting):
            failure = self._hopeless(call, workers)
            if failure is not None:
                self._give_up(call, failure)

    def _hopeless(self, call: Call, workers: list[Worker]) -> TranscriptionFailed | None:
        now = self._clock()
        reason = self._lifecycle.why_not()
        if workers and reason is not None:
            return outcomes.unavailable(reason, self._lifecycle.retry_after())
        if reason is not None and now - max(call.waiting_since, self._lonely_since) > WORKER_GRACE:
            return outcomes.unavailable(reason)
        waited = now - max(call.waiting_since, self._absent_since)
        if waited > self._settings.worker_start_timeout:
            return outcomes.unavailable("the engine is still starting, try again in a moment")
        return None

    # --- engines ----------------------------------------------------------------------------

    def engine_died(self, request_ids: set[str]) -> None:
        """Give the requests of a dead engine back to the queue, or convict one."""
        for call in self._orphans(request_ids):
            call.attempts.engine_died()
            if call.attempts.is_poison:
                logger.error("request ended engines alone request_id=%s", call.request.request_id)
                call.engine = None
                call.end(outcomes.poison())
            else:
                self._requeue(call)

    def engine_fell_silent(self, engine: EngineId) -> None:
        """The link to an engine broke: its requests go to the next one and nobody is blamed."""
        logger.warning("engine fell silent worker=%s epoch=%d", *engine)
        lost = self._lifecycle.engine_left(*engine, self._clock())
        for call in self._orphans(lost):
            self._requeue(call)

    def worker_lost(self, worker_id: str) -> None:
        """A supervisor is gone, and its engine with it."""
        self._lonely_since = self._clock()
        self.engine_died(self._lifecycle.supervisor_left(worker_id))

    def _orphans(self, request_ids: set[str]) -> list[Call]:
        """The calls an engine held when it was lost, latest first."""
        self._absent_since = self._clock()
        for request_id in request_ids:
            self._cancelling.pop(request_id, None)
        held = [call for call in self._calls.values() if call.request.request_id in request_ids]
        return [call for call in reversed(held) if call.engine is not None]

    def _requeue(self, call: Call) -> None:
        call.engine, call.waiting_since = None, self._clock()
        self._waiting.appendleft(call)

    # --- answers ----------------------------------------------------------------------------

    def answered(self, engine: EngineId, message: Answer) -> None:
        """An engine said something of a request; what is not of its current attempt is dropped."""
        if isinstance(message, Final | Failed):
            self._cancelling.pop(message.request_id, None)
            self._lifecycle.finished(engine[0], message.request_id, self._clock())
        call = self._calls.get(message.request_id)
        if call and call.engine == engine and call.attempts.count == message.attempt:
            self._apply(call, engine, message)
        self.move()

    def _apply(self, call: Call, engine: EngineId, message: Answer) -> None:
        if isinstance(message, Progress):
            call.note_progress(message, self._clock())
        elif isinstance(message, Failed):
            self._apply_failure(call, message)
        else:
            self._note_finished_work(engine)
            if isinstance(message, ChunkDone):
                self._apply_chunk(call, engine, message)
            else:
                call.engine = None
                call.end(message)

    def _apply_chunk(self, call: Call, engine: EngineId, chunk: ChunkDone) -> None:
        self._lifecycle.release_reservation(engine[0])
        try:
            call.add_chunk(chunk, self._clock())
        except OSError as error:
            logger.error("finished chunk could not be stored error=%s", error.strerror)
            self._give_up(call, outcomes.storage_full())

    def _apply_failure(self, call: Call, failed: Failed) -> None:
        if failed.code is FailureCode.SHUTTING_DOWN:
            self._requeue(call)
            return
        is_ours = failed.code in (FailureCode.INFERENCE_FAILED, FailureCode.INPUT_LOST)
        retry_after = outcomes.RETRY_AFTER if is_ours else None
        call.engine = None
        call.end(TranscriptionFailed(failed.code, failed.message, retry_after=retry_after))

    def _note_finished_work(self, engine: EngineId) -> None:
        """Tell the supervisor once an engine, so that it forgives earlier failures."""
        if engine in self._proven:
            return
        if self._post.to_supervisor(engine[0], EngineFinishedWork(engine[1])):
            self._proven = {known for known in self._proven if known[0] != engine[0]} | {engine}

    def upload_wanted(self, engine: EngineId, pull: PullUpload) -> None:
        """Send what was asked for of a request this engine holds; nothing of any other."""
        call = self._calls.get(pull.request_id)
        if call is None or call.engine != engine:
            return
        call.last_progress = self._clock()
        with call.request.upload_path.open("rb", buffering=0) as upload:
            for number in range(min(pull.pieces, MAX_PIECES)):
                offset = pull.offset + number * UPLOAD_PIECE_BYTES
                content = os.pread(upload.fileno(), UPLOAD_PIECE_BYTES, offset)
                is_last = offset + len(content) >= call.request.upload_bytes
                piece = UploadPiece(pull.request_id, offset, content, is_last)
                if not self._post.to_engine(engine, piece) or is_last:
                    return
