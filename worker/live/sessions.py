"""Live sessions in the engine's main thread: what is heard -> steps of inference -> events.

Owns each session's utterances. The listener says what was heard, the engine answers steps, and
here is decided what the gateway is told, in an order that its acknowledgements can rely on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from protocol.failures import FailureCode
from protocol.limits import SAMPLE_RATE
from protocol.live import (
    Hypothesis,
    Listened,
    LiveEvent,
    OpenSession,
    SessionClosed,
    SessionFailed,
    SpeechStarted,
    UtteranceDone,
    UtteranceEnded,
    UtteranceFailed,
)
from worker.clock import Clock
from worker.engine.interface import ChunkFailure, ChunkKey, ChunkRequest, ChunkText
from worker.live.news import (
    AllHeard,
    News,
    Position,
    Rejected,
    SessionKey,
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtteranceGrew,
    UtterancePaused,
    UtteranceResumed,
)
from worker.live.utterance import Progress, Utterance
from worker.recordings import ChunkOutcome

logger = logging.getLogger(__name__)

LISTENED_INTERVAL: Final = 0.5
"""Seconds between two events of a session that say nothing but how far it was heard."""

LISTENED_SAMPLES: Final = 5 * SAMPLE_RATE
"""After so much audio such an event is due at once: the gateway's window must not close for want
of it."""

MARGIN_SECONDS: Final = 0.05
"""Kept before what an engine acknowledges, for what resampling looks at around a sample."""

_NO_TEXT: Final = "This part of the call could not be transcribed."


class LiveEngine(Protocol):
    """What sessions ask of an engine; see worker.engine.interface.Engine."""

    @property
    def name(self) -> str: ...

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None: ...

    def cancel(self, key: ChunkKey) -> None: ...

    def end_utterance(self, utterance: str) -> None: ...


@dataclass(eq=False)
class _Session:
    """One session: its utterances, in the order of their beginning, until they are answered."""

    opening: OpenSession
    heard: int
    """16 kHz sample."""
    needed_from: int
    utterances: dict[int, Utterance] = field(default_factory=dict)
    is_closing: bool = False
    told_heard: int = -1
    told_at: float = 0.0
    steps: int = 0

    @property
    def id(self) -> str:
        return self.opening.session_id

    def frame_of(self, sample: int) -> int:
        """A 16 kHz sample of the session as a frame of its stream, not beyond it."""
        return sample * self.opening.format.sample_rate // SAMPLE_RATE

    def acknowledged(self) -> int:
        """The frame before which nothing will be needed again."""
        starts = [utterance.start for utterance in self.utterances.values()]
        needed = min([self.needed_from, *starts])
        margin = round(MARGIN_SECONDS * self.opening.format.sample_rate)
        return max(self.opening.start, self.frame_of(needed) - margin)


class LiveSessions:
    """All live sessions of one engine. `answered` is told the session of each complete utterance
    that was."""

    def __init__(
        self,
        engine: LiveEngine,
        *,
        send: Callable[[LiveEvent], None],
        answered: Callable[[SessionKey], None],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._send = send
        self._answered = answered
        self._clock = clock
        self._sessions: dict[SessionKey, _Session] = {}
        self._steps: dict[ChunkKey, Utterance] = {}
        """What the engine has; one for each utterance at most."""

    def __repr__(self) -> str:
        return f"<LiveSessions {len(self._sessions)}, {len(self._steps)} steps submitted>"

    @property
    def is_speech_open(self) -> bool:
        """Whether somebody speaks, so that more live work is about to come."""
        return any(session.utterances for session in self._sessions.values())

    # --- sessions come and go ---------------------------------------------------------------

    def open(self, opening: OpenSession) -> None:
        """The gateway opens a session; the listener hears of it by itself."""
        rate = max(opening.format.sample_rate, 1)  # the listener rejects what cannot be heard
        start = -(-opening.start * SAMPLE_RATE // rate)
        self._close_all_of(opening.session_id)
        self._sessions[opening.session_id, opening.attempt] = _Session(opening, start, start)

    def forget_all(self) -> None:
        """What was opened is void: the gateway begins anew."""
        for key in tuple(self._sessions):
            self._close(key)

    def give_back_all(self) -> None:
        """The engine is ending: every session goes back to the gateway."""
        for key, session in tuple(self._sessions.items()):
            self._close(key)
            code, message = FailureCode.SHUTTING_DOWN, "The engine is ending."
            self._send(SessionFailed(session.id, session.opening.attempt, code, message))

    def _close_all_of(self, session_id: str) -> None:
        for key in [key for key in self._sessions if key[0] == session_id]:
            self._close(key)

    def _close(self, key: SessionKey) -> None:
        session = self._sessions.pop(key)
        for utterance in tuple(session.utterances.values()):
            self._forget(session, utterance)

    # --- what is heard ----------------------------------------------------------------------

    def heard(self, news: News) -> None:
        """The listener tells something; what is of a session that is gone does not count."""
        session = self._sessions.get(news.session)
        if session is None:
            return
        if isinstance(news, Position):
            session.heard, session.needed_from = news.heard, news.needed_from
            self._listened(session)
        elif isinstance(news, AllHeard):
            session.is_closing = True
            self._close_if_answered(session)
        elif isinstance(news, Rejected):
            self._close(news.session)
            code = FailureCode.AUDIO_LIMITS
            self._send(SessionFailed(session.id, session.opening.attempt, code, news.message))
        elif isinstance(news, UtteranceBegan):
            self._begin(session, news)
        elif (utterance := session.utterances.get(news.number)) is not None:
            self._apply(session, utterance, news)

    def _begin(self, session: _Session, began: UtteranceBegan) -> None:
        name = f"{session.id}/{session.opening.attempt}/{began.number}"
        verifies = self._engine.name == "native"
        session.utterances[began.number] = Utterance(began, name, verifies=verifies)
        if began.is_announced:
            start = session.frame_of(began.start)
            self._tell(session, SpeechStarted, began.number, began.channel, start=start)

    def _apply(self, session: _Session, utterance: Utterance, news: Any) -> None:
        if isinstance(news, UtteranceGrew):
            utterance.grew(news.samples, news.arrived)
        elif isinstance(news, UtterancePaused):
            utterance.paused(news.end)
        elif isinstance(news, UtteranceResumed):
            utterance.resumed()
        elif isinstance(news, UtteranceDropped):
            self._drop(session, utterance)
            return
        elif isinstance(news, UtteranceComplete):
            self._complete(session, utterance, news)
            return
        self._ask(session, utterance)

    def _complete(
        self, session: _Session, utterance: Utterance, complete: UtteranceComplete
    ) -> None:
        utterance.completed(complete, self._clock())
        session.heard = max(session.heard, complete.decided)
        start = session.frame_of(utterance.start)
        self._tell(
            session,
            UtteranceEnded,
            utterance.number,
            utterance.channel,
            start=start,
            end=max(start + 1, session.frame_of(complete.decided)),
            reason=complete.reason,
        )
        self._ask(session, utterance)
        self._answer_known(session, utterance.channel)

    def _drop(self, session: _Session, utterance: Utterance) -> None:
        self._forget(session, utterance)
        self._close_if_answered(session)

    # --- steps ------------------------------------------------------------------------------

    def _ask(self, session: _Session, utterance: Utterance) -> None:
        step = utterance.next_step(session.steps)
        if step is None:
            return
        if utterance.running is not None:
            self._withdraw(session, utterance)
        if step.samples < utterance.asked:  # cut where it was quieter, some seconds back
            self._engine.end_utterance(utterance.name)
        session.steps += 1
        key = (session.id, step.number)
        self._steps[key] = utterance
        utterance.began(step)
        self._engine.submit(key, step.request)

    def _withdraw(self, session: _Session, utterance: Utterance) -> None:
        if utterance.running is not None:
            key = (session.id, utterance.running.number)
            self._engine.cancel(key)
            del self._steps[key]

    def is_step(self, key: ChunkKey) -> bool:
        """Whether the engine's answer under that key is for a session."""
        return key in self._steps

    def take_answer(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> None:
        """The engine answered a step."""
        utterance = self._steps.pop(key)
        session = self._sessions[utterance.session]
        if isinstance(answer, ChunkFailure):
            self._take_failure(session, utterance, answer)
            return
        progress = utterance.answered(answer)
        self._answer_known(session, utterance.channel)
        if utterance.number in session.utterances:
            if progress is not None:
                self._tell_progress(session, utterance, progress)
            self._ask(session, utterance)

    def _take_failure(self, session: _Session, utterance: Utterance, failure: ChunkFailure) -> None:
        logger.warning("a step of a live session failed code=%s", failure.code)
        utterance.failed()
        self._ask(session, utterance)
        self._answer_known(session, utterance.channel)

    # --- answers ----------------------------------------------------------------------------

    def _tell_progress(self, session: _Session, utterance: Utterance, progress: Progress) -> None:
        self._tell(
            session,
            Hypothesis,
            utterance.number,
            utterance.channel,
            language=progress.language,
            stable=progress.stable,
            tail=progress.tail,
            covers=session.frame_of(progress.covers),
            lag_seconds=max(0.0, self._clock() - progress.arrived),
        )

    def _answer_known(self, session: _Session, channel: int) -> None:
        """Utterances of a channel are answered in order, so whoever replays a session after one
        that was answered finds all before it answered too."""
        for utterance in tuple(session.utterances.values()):
            if utterance.channel != channel:
                continue
            outcome = utterance.outcome()
            if outcome is None and not utterance.is_lost:
                return
            self._forget(session, utterance)  # before the event, which acknowledges its audio
            if outcome is not None:
                self._tell_outcome(session, utterance, outcome)
            else:
                self._tell_loss(session, utterance)
            self._answered((session.id, session.opening.attempt))
        self._close_if_answered(session)

    def _tell_loss(self, session: _Session, utterance: Utterance) -> None:
        self._tell(
            session,
            UtteranceFailed,
            utterance.number,
            utterance.channel,
            code=FailureCode.INFERENCE_FAILED,
            message=_NO_TEXT,
        )

    def _tell_outcome(self, session: _Session, utterance: Utterance, outcome: ChunkOutcome) -> None:
        start = session.frame_of(utterance.start)
        self._tell(
            session,
            UtteranceDone,
            utterance.number,
            utterance.channel,
            start=start,
            end=max(start + 1, session.frame_of(utterance.spoken_to)),
            language=outcome.language,
            text=outcome.text,
            segments=outcome.segments,
            tokens=outcome.tokens,
            prompt_tokens=outcome.prompt_tokens,
            audio_tokens=outcome.audio_tokens,
            output_tokens=outcome.output_tokens,
            contradicts_stable=not outcome.text.startswith(utterance.stable),
            lag_seconds=max(0.0, self._clock() - utterance.decided_at),
        )

    def _close_if_answered(self, session: _Session) -> None:
        if session.is_closing and not session.utterances:
            self._close((session.id, session.opening.attempt))
            heard = session.frame_of(session.heard)
            self._send(SessionClosed(session.id, session.opening.attempt, heard))

    def _forget(self, session: _Session, utterance: Utterance) -> None:
        self._withdraw(session, utterance)
        del session.utterances[utterance.number]
        self._engine.end_utterance(utterance.name)

    def _listened(self, session: _Session) -> None:
        now = self._clock()
        news = session.heard - session.told_heard
        is_due = now - session.told_at >= LISTENED_INTERVAL or news >= LISTENED_SAMPLES
        if news and is_due:
            self._note_told(session, now)
            self._send(Listened(**self._head(session)))

    def _tell(
        self, session: _Session, event: Any, utterance: int, channel: int, **fields: Any
    ) -> None:
        self._note_told(session, self._clock())
        head = self._head(session)
        self._send(event(**head, utterance=utterance, channel=channel, **fields))

    @staticmethod
    def _head(session: _Session) -> dict[str, Any]:
        return {
            "session_id": session.id,
            "attempt": session.opening.attempt,
            "acknowledged": session.acknowledged(),
            "heard": session.frame_of(session.heard),
        }

    @staticmethod
    def _note_told(session: _Session, now: float) -> None:
        session.told_heard, session.told_at = session.heard, now
