"""Hears live sessions, in a thread of its own: packets in, news for the main thread out.

All sessions with new audio are judged together, one call of the voice activity network for all.
The more there is to do, the longer a round takes and the more audio the next one finds: it slows
down by hearing later, never by dropping.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from protocol.limits import SAMPLE_RATE
from protocol.live import (
    AudioPacket,
    Clear,
    CloseSession,
    Commit,
    Configure,
    OpenSession,
)
from worker.audio.live_vad import JudgedSteps, LiveVoiceActivity
from worker.audio.telephony import LiveDecoder
from worker.clock import Clock
from worker.live.ear import Ear
from worker.live.news import (
    AllHeard,
    News,
    Position,
    Rejected,
    Samples,
    SessionKey,
    UtteranceComplete,
)

logger = logging.getLogger(__name__)

MOST_UNANSWERED: Final = 4
"""Utterances of a session that wait for their texts before it is heard on: a client that sends
faster than it is transcribed waits, and its samples do not pile up."""

ROUND_SECONDS: Final = 1.0
"""Audio of one session heard in a round, so that one that floods does not hold up the others."""

IDLE_GRACE: Final = 0.3
"""Seconds that packets may be late before their absence counts as silence."""

LONGEST_WAIT: Final = 2.0
"""Seconds of audio ahead of the clock for which more is waited for: who sends a second at a time,
in one packet or, as networks do, in fifty, has nothing to send for a second."""

STALL_SECONDS: Final = 0.5
"""A turn of the loop that comes so much too late means that this process stood still, not the
clients."""

LiveCommand = AudioPacket | Commit | Clear | Configure | CloseSession
"""What goes to a session that is open, in its order."""


class VoiceDetector(Protocol):
    """See worker.audio.live_vad.LiveVad."""

    def judge(self, heard: list[tuple[LiveVoiceActivity, Samples]]) -> list[JudgedSteps]: ...


@dataclass(frozen=True, slots=True)
class ForgetAll:
    """Every session is void."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete utterance of this session has its answer."""

    session: SessionKey


@dataclass(frozen=True, slots=True)
class _End:
    """Leave the loop."""


class _Session:
    """One session's input: what has come and was not heard yet, and its ears."""

    def __init__(self, opening: OpenSession, max_seconds: float, now: float) -> None:
        """Raises ValueError, whose text is for the caller, for a format that cannot be heard."""
        self.key: SessionKey = (opening.session_id, opening.attempt)
        form = opening.format
        self.decoder = LiveDecoder(form.encoding.value, form.sample_rate, form.channels)
        start = -(-opening.start * SAMPLE_RATE // form.sample_rate)
        numbers = count()
        taken = opening.taken or (0,) * form.channels
        self.ears = [
            Ear(
                self.key,
                channel,
                opening.options,
                numbers,
                start=start,
                taken_until=-(-taken[channel] * SAMPLE_RATE // form.sample_rate),
                max_seconds=max_seconds,
            )
            for channel in range(form.channels)
        ]
        self.round_bytes = round(ROUND_SECONDS * form.bytes_per_second)
        self.waiting: deque[tuple[LiveCommand, float]] = deque()
        """Each with when it came. Bounded by the gateway, which sends LIVE_WINDOW_SECONDS beyond
        what was heard."""
        self.unanswered = 0
        self.heard_arrived = now
        """When the packet came that was heard last."""
        self._bytes_per_second = form.bytes_per_second
        self._lasts_until = now
        """When what has come would have been played."""

    def __repr__(self) -> str:
        return f"<_Session {self.key[0]}, {len(self.waiting)} waiting>"

    def came(self, command: LiveCommand, now: float) -> None:
        """Note what has come."""
        self.waiting.append((command, now))
        self.excuse(now)
        if isinstance(command, AudioPacket):
            self._lasts_until += len(command.content) / self._bytes_per_second
            self._lasts_until = min(self._lasts_until, now + LONGEST_WAIT)

    def excuse(self, now: float) -> None:
        """The absence of packets until now means nothing."""
        self._lasts_until = max(self._lasts_until, now)

    @property
    def silent_from(self) -> float:
        """From when on the absence of packets counts as silence."""
        return self._lasts_until + IDLE_GRACE

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to hear, and room for what it leads to."""
        return bool(self.waiting) and self.unanswered < MOST_UNANSWERED

    def next_audio(self) -> bytes:
        """The next packets, as far as a round and the next command allow; may be nothing."""
        pieces: list[bytes] = []
        size = 0
        while self.waiting and size < self.round_bytes:
            packet, arrived = self.waiting[0]
            if not isinstance(packet, AudioPacket):
                break
            self.waiting.popleft()
            self.heard_arrived = arrived
            pieces.append(packet.content)
            size += len(packet.content)
        return b"".join(pieces)

    def next_command(self) -> LiveCommand | None:
        """What is not audio and stands first."""
        if self.waiting and not isinstance(self.waiting[0][0], AudioPacket):
            return self.waiting.popleft()[0]
        return None

    def position(self) -> Position:
        """How far it was heard."""
        heard = min(ear.received for ear in self.ears)
        return Position(self.key, heard, min(ear.needed_from for ear in self.ears))


class Listener:
    """`put` may be called from any thread; `deliver` is called from the listener's own."""

    def __init__(
        self,
        new_vad: Callable[[], VoiceDetector],
        *,
        deliver: Callable[[object], None],
        max_seconds: float,
        clock: Clock,
    ) -> None:
        """`deliver` gets lists of News. Utterances are at most `max_seconds` long. The detector is
        made for the first session: who never calls has no use for its memory."""
        self._new_vad = new_vad
        self._vad: VoiceDetector | None = None
        self._deliver = deliver
        self._max_seconds = max_seconds
        self._clock = clock
        self._messages: SimpleQueue[object] = SimpleQueue()
        self._sessions: dict[SessionKey, _Session] = {}
        self._current: dict[str, _Session] = {}
        """By id; messages of the gateway are for the latest attempt."""
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def __repr__(self) -> str:
        return f"<Listener to {len(self._sessions)} sessions>"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening; returns when the thread has ended."""
        self._messages.put(_End())
        self._thread.join()

    def put(self, message: object) -> None:
        """A message of the gateway about a session, or one of ours."""
        self._messages.put(message)

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._listen_on()
        except Exception:
            # Without its listener the engine is deaf to calls: better gone and replaced.
            logger.exception("the listener failed")
            os._exit(70)

    def _listen_on(self) -> None:
        received = self._clock()
        while not self._is_ending:
            timeout = 0.0 if self._has_work else self._until_idle()
            self._receive(timeout)
            now = self._clock()
            if timeout is not None and now - received > timeout + STALL_SECONDS:
                self._forgive(now)
            received = now
            self.turn()

    @property
    def _has_work(self) -> bool:
        return any(session.can_go_on for session in self._sessions.values())

    def _receive(self, timeout: float | None) -> None:
        """All messages that are there; waits for the first one, None: as long as it takes."""
        try:
            self.take(self._messages.get(timeout != 0, timeout))
            while True:
                self.take(self._messages.get_nowait())
        except Empty:
            return

    def _until_idle(self) -> float | None:
        """Seconds until the absence of packets means something for a session."""
        now = self._clock()
        dues = [
            session.silent_from + idle - now
            for session in self._sessions.values()
            for ear in session.ears
            if not session.waiting and (idle := ear.next_idle) is not None
        ]
        return max(min(dues), 0.01) if dues else None

    def _forgive(self, now: float) -> None:
        for session in self._sessions.values():
            session.excuse(now)

    # --- what it does -----------------------------------------------------------------------

    def take(self, message: Any) -> None:
        """Note a message; `turn` acts on it."""
        if isinstance(message, OpenSession):
            self._open(message)
        elif isinstance(message, AudioPacket | Commit | Clear | Configure | CloseSession):
            session = self._current.get(message.session_id)
            if session is not None:
                session.came(message, self._clock())
        elif isinstance(message, Answered):
            if (answered := self._sessions.get(message.session)) is not None:
                answered.unanswered -= 1
        elif isinstance(message, ForgetAll):
            self._sessions.clear()
            self._current.clear()
        elif isinstance(message, _End):
            self._is_ending = True

    def _open(self, opening: OpenSession) -> None:
        before = self._current.pop(opening.session_id, None)
        if before is not None:
            del self._sessions[before.key]
        try:
            session = _Session(opening, self._max_seconds, self._clock())
        except ValueError as error:
            key = (opening.session_id, opening.attempt)
            self._deliver([Rejected(key, f"The audio cannot be heard: {error}.")])
            return
        self._vad = self._vad or self._new_vad()
        self._sessions[session.key] = self._current[opening.session_id] = session

    def turn(self) -> None:
        """One round: a stretch of audio of each session, or the command that comes next."""
        news: list[News] = []
        active = [session for session in self._sessions.values() if session.can_go_on]
        self._listen(active, news)
        for session in active:
            # Commands wait where the audio before them led to more than may be unanswered.
            if session.can_go_on and (command := session.next_command()) is not None:
                self._note(session, news, self._obey(session, command))
                news.append(session.position())
        self._note_idle(news)
        for session_news in news:
            if isinstance(session_news, AllHeard):
                self._forget(session_news.session)
        if news:
            self._deliver(news)

    def _listen(self, sessions: Iterable[_Session], news: list[News]) -> None:
        heard: list[tuple[_Session, Ear, Samples]] = []
        for session in sessions:
            if content := session.next_audio():
                for ear, samples in zip(session.ears, session.decoder.feed(content), strict=True):
                    heard.append((session, ear, samples))
        self._judge(heard, news)

    def _judge(self, heard: list[tuple[_Session, Ear, Samples]], news: list[News]) -> None:
        if not heard:
            return
        assert self._vad is not None, "there is a session"
        for session, ear, samples in heard:
            ear.take(samples, session.heard_arrived)
        judged = self._vad.judge([(ear.activity, samples) for _, ear, samples in heard])
        for (session, ear, _), steps in zip(heard, judged, strict=True):
            self._note(session, news, ear.judged(steps))
        for session in dict.fromkeys(session for session, _, _ in heard):
            news.append(session.position())

    def _obey(self, session: _Session, command: LiveCommand) -> Iterator[News]:
        if isinstance(command, Commit):
            for ear in session.ears:
                yield from ear.commit()
        elif isinstance(command, Clear):
            for ear in session.ears:
                yield from ear.clear()
        elif isinstance(command, Configure):
            for ear in session.ears:
                ear.configure(command.options)
        elif isinstance(command, CloseSession):
            yield from self._closed(session)

    def _closed(self, session: _Session) -> Iterator[News]:
        rest = [
            (session, ear, samples)
            for ear, samples in zip(session.ears, session.decoder.flush(), strict=True)
        ]
        news: list[News] = []
        self._judge(rest, news)
        yield from news
        for ear in session.ears:
            yield from ear.close()
        yield AllHeard(session.key)

    def _note(self, session: _Session, news: list[News], more: Iterable[News]) -> None:
        for each in more:
            news.append(each)
            session.unanswered += isinstance(each, UtteranceComplete)

    def _note_idle(self, news: list[News]) -> None:
        now = self._clock()
        for session in self._sessions.values():
            idle = now - session.silent_from
            if session.waiting or idle <= 0:
                continue
            for ear in session.ears:
                if (due := ear.next_idle) is not None and idle >= due:
                    self._note(session, news, ear.idle(idle))

    def _forget(self, key: SessionKey) -> None:
        session = self._sessions.pop(key)
        if self._current.get(key[0]) is session:
            del self._current[key[0]]
