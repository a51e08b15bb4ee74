"""Which callers wait for what: the queue, the requests in engines, and their one answer each.

Decides by lifecycle.py when engines start and end, and by attempts.py how often a request is
retried. Knows no sockets: messages leave through a Post, time comes from a clock.
"""

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.telemetry import event
from gateway.worker_client import outcomes
from gateway.worker_client.call import Call
from gateway.worker_client.chunk_file import ChunkFile
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from gateway.worker_client.lifecycle import WORKER_GRACE, Lifecycle, Start, Stop, Worker
from gateway.worker_client.live_calls import LiveCall, LiveCalls
from protocol.control import EngineFinishedWork, StartEngine, StopEngine
from protocol.failures import FailureCode
from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.live import LiveEvent, SessionClosed, SessionFailed, UtteranceDone
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Partial,
    Progress,
    PullUpload,
    UploadGrown,
    UploadPiece,
)

if TYPE_CHECKING:
    from gateway.settings import Settings

logger = logging.getLogger(__name__)

MAX_PIECES = 8
"""Most credit one PullUpload is given."""

WORTH_RETRYING = (
    FailureCode.INFERENCE_FAILED,
    FailureCode.INPUT_LOST,
    FailureCode.CUT_DIFFERENTLY,
)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

EngineId = tuple[str, int]
"""Worker id and epoch."""
Answer = Progress | Partial | ChunkDone | Final | Failed


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
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._post = post
        self._clock = clock
        self._calls: dict[str, Call] = {}
        self._waiting: deque[Call] = deque()
        self._proven: set[EngineId] = set()
        """Engines that have finished work, one a worker."""
        self.live = LiveCalls(settings, lifecycle, post, clock, fell_silent=self.engine_fell_silent)
        self._absent_since = self._lonely_since = clock()
        """When an engine was last lost with work, and a worker."""
        self._yielding: set[str] = set()
        """Requests that were taken back to make room and may still be in their engines."""

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._waiting)} waiting, {len(self._calls)} open>"

    @property
    def waiting_calls(self) -> int:
        """Calls that no engine holds, but for those whose uploads still arrive."""
        return sum(call.is_upload_whole for call in self._waiting)

    # --- callers ----------------------------------------------------------------------------

    def open(self, request: TranscriptionRequest) -> Call:
        """A new call, waiting; the caller leaves it by `leave`. Raises TranscriptionFailed."""
        is_full = self.waiting_calls >= self._settings.max_waiting_requests
        if is_full and request.is_upload_whole:
            raise outcomes.queue_full()
        try:
            chunks = ChunkFile(
                request.chunks_path, request_id=request.request_id, owner=request.owner
            )
        except OSError as error:
            raise _not_stored(error, request.request_id) from error
        call = Call(request, chunks, self._clock())
        self._calls[request.request_id] = call
        self._waiting.append(call)
        self.move()
        return call

    def upload_grew(self, request_id: str, upload_bytes: int, *, is_whole: bool) -> None:
        """More is there of the upload of a call that was opened while it arrived."""
        call = self._calls.get(request_id)
        if call is None or call.has_ended:
            return
        call.upload_grew(upload_bytes, is_whole=is_whole, now=self._clock())
        if call.engine is not None:
            grown = UploadGrown(request_id, upload_bytes, is_whole)
            if not self._post.to_engine(call.engine, grown):
                self.engine_fell_silent(call.engine)
        elif is_whole and self.waiting_calls > self._settings.max_waiting_requests:
            self._waiting.remove(call)
            call.end(outcomes.queue_full())
        if is_whole:
            self.move()

    def leave(self, call: Call) -> None:
        """The caller has its answer, or does not want it any more."""
        del self._calls[call.request.request_id]
        if not call.has_ended:
            self._take_back(call)
        call.chunks.close()
        self.move()

    def end_all(self) -> None:
        """Answer every call at once: the gateway ends."""
        for call in tuple(self._calls.values()):
            self._take_back(call)
            call.end(outcomes.shutting_down())
        self.live.fail_all(outcomes.shutting_down())

    def _take_back(self, call: Call) -> None:
        """Out of the queue, or out of its engine, which is told."""
        if call.engine is None:
            if call in self._waiting:
                self._waiting.remove(call)
            return
        engine, call.engine = call.engine, None
        self._post.to_engine(engine, Cancel(call.request.request_id))

    def _give_up(self, call: Call, failure: TranscriptionFailed) -> None:
        self._take_back(call)
        call.end(failure)

    # --- live sessions ----------------------------------------------------------------------

    def open_session(self, session_id: str) -> LiveCall:
        """See WorkerClient.open_session."""
        call = self.live.open(session_id)
        self.move()
        return call

    def session_answered(self, engine: EngineId, event: LiveEvent) -> None:
        """An engine said something of a live session."""
        if isinstance(event, UtteranceDone):
            self._note_finished_work(engine)
        self.live.answered(engine, event)
        if isinstance(event, SessionClosed | SessionFailed):
            self.move()

    # --- moving -----------------------------------------------------------------------------

    def move(self) -> None:
        """Give waiting calls to engines, start and end engines, fail calls that cannot be served.

        Every event ends here, so there is one place where requests and engines meet.
        """
        while self._hand_over_next():
            pass
        self._make_room()
        beginning = sum(call.may_begin for call in self._waiting)
        self.live.move()
        self._act(self._lifecycle.decide(self._clock(), beginning, self.live.waiting))
        self._fail_hopeless()

    def check_deadlines(self) -> None:
        """To be called about every second."""
        self.live.remind()
        now = self._clock()
        for call in tuple(self._calls.values()):
            if not call.engine:
                continue
            if call.is_upload_slow(now):
                self._yield_place(call)
            elif not call.is_upload_whole:
                continue  # the upload has its own limits, and moves on
            elif now - call.last_progress > self._settings.request_timeout:
                fields = {"request_id": call.request.request_id}
                logger.error(event("request made no progress", fields))
                self._give_up(call, outcomes.timed_out())

    def _hand_over_next(self) -> bool:
        """Give the first call that fits to an engine. A suspect may have to wait for a place that
        the calls behind it do not need."""
        for is_suspect in (True, False):
            worker = self._lifecycle.roomiest(is_suspect=is_suspect)
            if worker is not None and (call := self._first_waiting(is_suspect)) is not None:
                self._hand_over(call, worker)
                return True
        return False

    def _first_waiting(self, is_suspect: bool) -> Call | None:
        """Those whose uploads still arrive come behind all others."""
        calls = (
            call
            for call in self._waiting
            if call.may_begin and call.attempts.is_suspect is is_suspect
        )
        return min(calls, key=lambda call: not call.is_upload_whole, default=None)

    def _make_room(self) -> None:
        """Who has all its upload does not wait for others' uploads: they give their places back."""
        if self._lifecycle.roomiest(is_suspect=False) is not None:
            return
        growing = [
            call for call in self._calls.values() if call.engine and not call.is_upload_whole
        ]
        while growing and self.waiting_calls > len(self._yielding):
            self._yield_place(growing.pop())

    def _yield_place(self, call: Call) -> None:
        """Out of its engine until its upload is whole; its finished chunks stay."""
        logger.info(event("upload gave its place back", {"request_id": call.request.request_id}))
        self._yielding.add(call.request.request_id)
        self._take_back(call)
        call.waits_for_whole = True
        self._waiting.append(call)

    def _hand_over(self, call: Call, worker: Worker) -> None:
        self._waiting.remove(call)
        request_id, is_suspect = call.request.request_id, call.attempts.is_suspect
        engine = self._lifecycle.assign(worker, request_id, is_suspect=is_suspect)
        call.engine = (worker.worker_id, engine.hello.epoch)
        call.last_progress = self._clock()
        if not self._post.to_engine(call.engine, call.opening_message()):
            self.engine_fell_silent(call.engine)

    def _act(self, actions: Iterable[Start | Stop]) -> None:
        for action in actions:
            if isinstance(action, Start):
                logger.info(event("engine was asked for", {"worker": action.worker_id}))
                self._post.to_supervisor(action.worker_id, StartEngine())
            else:
                fields = {"worker": action.worker_id, "epoch": action.epoch}
                logger.info(event("engine is not needed any more", fields))
                self._post.to_supervisor(action.worker_id, StopEngine(action.epoch))

    def _fail_hopeless(self) -> None:
        """Answer callers for whom no engine will be there in time."""
        workers = list(self._lifecycle.workers)
        if any(worker.engine is not None for worker in workers):
            return
        for call in [call for call in self._waiting if call.is_upload_whole]:
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

    def engine_died(self, request_ids: Iterable[str]) -> None:
        """Give the requests of a dead engine back to the queue, or convict one.

        Where one ran alone, it is to blame and the others are not.
        """
        orphans = self._orphans(request_ids)
        suspects = [call for call in orphans if call.attempts.runs_alone]
        for call in suspects or orphans:
            call.attempts.engine_died()
        for call in orphans:
            self._requeue(call)

    def engine_fell_silent(self, engine: EngineId) -> None:
        """The link to an engine broke: its requests go to the next one and nobody is blamed."""
        fields = {"worker": engine[0], "epoch": engine[1]}
        logger.warning(event("engine fell silent", fields))
        self.requeue(self._lifecycle.engine_left(*engine, self._clock()))

    def requeue(self, request_ids: Iterable[str]) -> None:
        """Give requests back to the queue; nobody is to blame."""
        for call in self._orphans(request_ids):
            self._requeue(call)

    def worker_left(self, worker_id: str) -> None:
        """A supervisor fell silent."""
        self._lonely_since = self._clock()
        self._lifecycle.supervisor_left(worker_id)

    def _orphans(self, request_ids: Iterable[str]) -> list[Call]:
        """The calls an engine held when it was lost, latest first."""
        wanted = set(request_ids)
        self._yielding -= wanted
        held = [call for call in self._calls.values() if call.request.request_id in wanted]
        orphans = [call for call in reversed(held) if call.engine is not None]
        if orphans:
            self._absent_since = self._clock()
        return orphans

    def _requeue(self, call: Call) -> None:
        """Back to the front of the queue, unless it has used up its engines."""
        call.engine, call.waiting_since = None, self._clock()
        fields = {"request_id": call.request.request_id}
        if call.attempts.is_poison:
            logger.error(event("request ended engines alone", fields))
            call.end(outcomes.poison())
        elif call.attempts.is_hopeless:
            logger.error(event("request lost too many engines", fields))
            call.end(outcomes.engines_lost())
        else:
            self._waiting.appendleft(call)

    # --- answers ----------------------------------------------------------------------------

    def answered(self, engine: EngineId, message: Answer) -> None:
        """An engine said something of a request; what is not of its current attempt is dropped."""
        call = self._calls.get(message.request_id)
        is_held = call is not None and call.engine == engine
        is_current = call is not None and is_held and call.attempts.count == message.attempt
        if isinstance(message, Final | Failed):
            self._yielding.discard(message.request_id)
            if is_current or not is_held:  # otherwise the engine has got it again meanwhile
                self._lifecycle.finished(engine[0], message.request_id, self._clock())
            if isinstance(message, Failed) and message.code is FailureCode.SHUTTING_DOWN:
                self._lifecycle.engine_is_ending(*engine)
        if call is not None and is_current:
            self._apply(call, engine, message)
        self.move()

    def _apply(self, call: Call, engine: EngineId, message: Answer) -> None:
        if isinstance(message, Progress):
            call.note_progress(message, self._clock())
        elif isinstance(message, Partial):
            call.note_partial(message, self._clock())
        elif isinstance(message, Failed):
            self._apply_failure(call, message)
        else:
            self._note_finished_work(engine)
            if isinstance(message, ChunkDone):
                self._apply_chunk(call, engine, message)
            else:
                call.engine = None
                is_whole = message.chunks == call.chunks.chunks
                call.end(message if is_whole else outcomes.miscounted())

    def _apply_chunk(self, call: Call, engine: EngineId, chunk: ChunkDone) -> None:
        request_id = call.request.request_id
        if (chunk.index, chunk.start) != (call.chunks.chunks, call.chunks.samples):
            fields = {"request_id": request_id, "index": chunk.index}
            logger.error(event("chunk came out of order", fields))
            return  # the count at the end tells that it is missing
        self._lifecycle.cleared(engine[0], request_id)
        try:
            call.add_chunk(chunk, self._clock())
        except OSError as error:
            self._give_up(call, _not_stored(error, request_id))

    def _apply_failure(self, call: Call, failed: Failed) -> None:
        if failed.code is FailureCode.SHUTTING_DOWN:
            self._requeue(call)
            return
        retry_after = outcomes.RETRY_AFTER if failed.code in WORTH_RETRYING else None
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
                is_last = offset + len(content) >= call.upload_bytes
                is_last = is_last and call.is_upload_whole
                piece = UploadPiece(pull.request_id, offset, content, is_last)
                if not self._post.to_engine(engine, piece) or is_last:
                    return


def _not_stored(error: OSError, request_id: str) -> TranscriptionFailed:
    fields = {"request_id": request_id, "error": error.strerror}
    logger.error(event("finished chunks could not be stored", fields))
    return outcomes.storage_full() if error.errno in NO_SPACE else outcomes.not_stored()
