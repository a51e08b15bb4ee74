"""Which engine holds which live session, and what it says of it. Knows no sockets and no audio.

An open session is a reason to start an engine and to keep it, and takes none of its places for
recordings. Who opened it reads news and sends what it has, again to every next engine.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from gateway.telemetry import event as line
from gateway.worker_client import outcomes
from gateway.worker_client.interface import LiveTotals, TranscriptionFailed
from gateway.worker_client.lifecycle import Engine, Lifecycle
from protocol.failures import FailureCode
from protocol.live import (
    CloseSession,
    LiveEvent,
    OpenSession,
    SessionClosed,
    SessionFailed,
    UtteranceDone,
    UtteranceFailed,
)

if TYPE_CHECKING:
    from gateway.settings import Settings

logger = logging.getLogger(__name__)

MOST_DEATHS = 3
"""Engines that may die under a session without anything of it getting done in between."""
MOST_LOSSES = 10
"""Engines it may lose so, for whatever reason."""

EngineId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class EngineFound:
    """An engine takes the session: open it there, under this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class EngineLost:
    """It is gone; another will be found."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """A while ago the link took no more, or more was to come: send what there is."""


LiveNews = EngineFound | EngineLost | TryAgain | LiveEvent | TranscriptionFailed
"""TranscriptionFailed is the last: no engine will serve the session any more."""


class ToEngine(Protocol):
    """How messages leave; False where the engine is gone or takes no more."""

    def to_engine(self, engine: EngineId, message: object) -> bool: ...


class LiveCall:
    """One open session, between the link and who opened it."""

    def __init__(self, session_id: str, calls: "LiveCalls", now: float) -> None:
        self.session_id = session_id
        self.is_full = False
        """Whether it can keep no more audio: then an engine must be there in time."""
        self.wants_reminder = False
        """Whether something waits to be sent that nothing else may call to mind."""
        self.attempt = 0
        self.engine: tuple[EngineId, Engine] | None = None
        self.waiting_since = now
        self.has_failed = False
        self._calls = calls
        self._news: list[LiveNews] = []
        self._changed = asyncio.Event()
        self._acknowledged = 0
        self._deaths = self._losses = 0

    def __repr__(self) -> str:
        where = self.engine[0] if self.engine else "waiting"
        return f"<LiveCall {self.session_id} {where} attempt {self.attempt}>"

    def send(self, attempt: int, message: object) -> bool:
        """To the engine that holds it under this attempt. False where that is gone, or the link
        takes no more now: EngineLost or TryAgain tells which."""
        if self.engine is None or attempt != self.attempt:
            return False
        if self._calls.post(self.engine[0], message):
            return True
        if isinstance(message, OpenSession):
            self._calls.fell_silent(self.engine[0])
        else:
            self.wants_reminder = True
        return False

    def close(self) -> None:
        """Nobody wants the session any more; an engine that has it is told."""
        self._calls.close(self)

    def count(self, *, utterances: int, contradictions: int, partials_dropped: int) -> None:
        """What it came to, at its end."""
        totals = self._calls.totals
        self._calls.totals = LiveTotals(
            sessions=totals.sessions + 1,
            replays=totals.replays,
            utterances=totals.utterances + utterances,
            contradictions=totals.contradictions + contradictions,
            partials_dropped=totals.partials_dropped + partials_dropped,
        )

    async def news(self) -> AsyncGenerator[LiveNews, None]:
        """What happens, in its order. The reader must not wait for anything else, so that what is
        unread stays short."""
        while True:
            self._changed.clear()
            news, self._news = self._news, []
            for each in news:
                yield each
            if not self._news:
                await self._changed.wait()

    def tell(self, news: LiveNews) -> None:
        """Something happened."""
        self._news.append(news)
        self._changed.set()

    def found(self, engine: tuple[EngineId, Engine]) -> None:
        """An engine takes it."""
        self.engine, self.wants_reminder = engine, False
        self.attempt += 1
        self.tell(EngineFound(self.attempt))

    def lost(self, now: float, *, is_blamed: bool) -> None:
        """Its engine is gone."""
        self.engine, self.waiting_since = None, now
        self._losses += 1
        self._deaths += is_blamed
        self.tell(EngineLost())

    def heard(self, event: LiveEvent) -> None:
        """Its engine says something. What gets done forgives the deaths of earlier engines: they
        were not for what lies ahead."""
        if isinstance(event, UtteranceDone | UtteranceFailed):
            self._deaths = self._losses = 0
        elif not isinstance(event, SessionClosed | SessionFailed):
            if event.acknowledged > self._acknowledged:
                self._deaths = self._losses = 0
            self._acknowledged = max(self._acknowledged, event.acknowledged)
        self.tell(event)

    def remind(self) -> None:
        """What waits may be sent by now."""
        if self.wants_reminder:
            self.wants_reminder = False
            self.tell(TryAgain())

    def hopeless(self) -> TranscriptionFailed | None:
        """Why no engine gets it any more."""
        if self._deaths >= MOST_DEATHS:
            return outcomes.poison_session()
        return outcomes.engines_lost() if self._losses >= MOST_LOSSES else None


class LiveCalls:
    """Owns every open session's place in an engine."""

    def __init__(
        self,
        settings: "Settings",
        lifecycle: Lifecycle,
        post: ToEngine,
        clock: Callable[[], float],
        *,
        fell_silent: Callable[[EngineId], None],
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._clock = clock
        self._calls: dict[str, LiveCall] = {}
        self.post = post.to_engine
        self.fell_silent = fell_silent
        self.totals = LiveTotals()

    def __repr__(self) -> str:
        return f"<LiveCalls {len(self._calls)}, {self.waiting} waiting>"

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Sessions that no engine holds and one should."""
        return sum(call.engine is None and not call.has_failed for call in self._calls.values())

    def open(self, session_id: str) -> LiveCall:
        """A new session, waiting; to be closed by LiveCall.close. Raises TranscriptionFailed."""
        if len(self._calls) >= self._settings.max_live_sessions:
            raise outcomes.too_many_sessions()
        call = LiveCall(session_id, self, self._clock())
        self._calls[session_id] = call
        return call

    def close(self, call: LiveCall) -> None:
        """See LiveCall.close."""
        if self._calls.pop(call.session_id, None) is None:
            return
        if call.engine is not None:
            self.post(call.engine[0], CloseSession(call.session_id))
            self._release(call)

    def fail_all(self, failure: TranscriptionFailed) -> None:
        """No session is served any more: the gateway ends."""
        for call in tuple(self._calls.values()):
            self._fail(call, failure)

    def answered(self, engine: EngineId, event: LiveEvent) -> None:
        """An engine said something; what is not of a session's current attempt is dropped."""
        call = self._calls.get(event.session_id)
        if call is None or call.engine is None:
            return
        if call.engine[0] != engine or call.attempt != event.attempt:
            return
        if isinstance(event, SessionFailed):
            self._on_failed(call, engine, event)
            return
        if isinstance(event, SessionClosed):
            self._release(call)
            call.has_failed = True  # and needs no engine any more
        call.heard(event)

    def move(self) -> None:
        """Take sessions from engines that are gone, and give those that wait to others."""
        now = self._clock()
        for call in tuple(self._calls.values()):
            if call.engine is not None:
                self._look_after(call, now)
            if call.engine is None and not call.has_failed:
                self._serve(call, now)

    def remind(self) -> None:
        """To be called about every second."""
        for call in tuple(self._calls.values()):
            call.remind()

    def _look_after(self, call: LiveCall, now: float) -> None:
        assert call.engine is not None
        (worker_id, _), engine = call.engine
        worker = self._lifecycle.worker(worker_id)
        if worker is None or worker.engine is not engine:
            fields = {"session": call.session_id, "worker": worker_id, "attempt": call.attempt}
            logger.warning(line("session lost its engine", fields))
            call.lost(now, is_blamed=engine.has_died)

    def _serve(self, call: LiveCall, now: float) -> None:
        if (failure := call.hopeless()) is not None:
            self._fail(call, failure)
        elif (worker := self._lifecycle.quietest()) is not None:
            engine = self._lifecycle.hold(worker, call.session_id)
            if call.attempt:
                self.totals = replace(self.totals, replays=self.totals.replays + 1)
            call.found(((worker.worker_id, engine.hello.epoch), engine))
        elif (failure := self._unavailable(call, now)) is not None:
            self._fail(call, failure)

    def _unavailable(self, call: LiveCall, now: float) -> TranscriptionFailed | None:
        """A worker that cannot start ends a session at once. One that only takes its time does not,
        as long as there is room for the audio; nor does one that may yet connect, for a while."""
        waited_long = now - call.waiting_since > self._settings.worker_start_timeout
        if any(worker.engine is not None for worker in self._lifecycle.workers):
            return None
        reason = self._lifecycle.why_not()
        has_workers = any(True for _ in self._lifecycle.workers)
        if reason is not None and (has_workers or waited_long):
            return outcomes.unavailable(reason, self._lifecycle.retry_after())
        if call.is_full and waited_long:
            return outcomes.unavailable("the engine is still starting, try again in a moment")
        return None

    def _on_failed(self, call: LiveCall, engine: EngineId, event: SessionFailed) -> None:
        self._release(call)
        if event.code is FailureCode.SHUTTING_DOWN:
            self._lifecycle.engine_is_ending(*engine)
            call.lost(self._clock(), is_blamed=False)
        else:
            self._fail(call, TranscriptionFailed(event.code, event.message))

    def _fail(self, call: LiveCall, failure: TranscriptionFailed) -> None:
        if call.has_failed:
            return
        if call.engine is not None:
            self.post(call.engine[0], CloseSession(call.session_id))
            self._release(call)
        call.has_failed = True
        fields = {"session": call.session_id, "code": failure.code}
        logger.error(line("session cannot be served", fields))
        call.tell(failure)

    def _release(self, call: LiveCall) -> None:
        assert call.engine is not None
        self._lifecycle.released(call.engine[1], call.session_id, self._clock())
        call.engine = None
