"""One live session between its client and whatever engine holds it. No socket, task or clock.

Requests of the client and news of the link come in, events go out through `tell`, audio and
commands through the LiveCall. Owns the session's replay log and its turns.
"""

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.live.events import (
    Audio,
    ClearAudio,
    CommitTurn,
    EngineReady,
    EngineWarming,
    Finish,
    Opening,
    Reconfigure,
    Reconfigured,
    SessionEnded,
    SessionEvent,
)
from gateway.live.replay_log import (
    ClearHere,
    Command,
    CommitHere,
    ConfigureHere,
    ReplayLog,
    Stretch,
)
from gateway.live.room import Room
from gateway.live.turns import Turns
from gateway.telemetry import event as line
from gateway.worker_client.interface import TranscriptionFailed
from gateway.worker_client.live_calls import EngineFound, EngineLost, LiveNews, TryAgain
from protocol.failures import FailureCode
from protocol.limits import LIVE_WINDOW_SECONDS
from protocol.live import (
    AudioPacket,
    Clear,
    CloseSession,
    Commit,
    Configure,
    LiveEvent,
    LiveOptions,
    OpenSession,
    SessionClosed,
    SessionFailed,
    StreamFormat,
)

logger = logging.getLogger(__name__)

UNHEARD_PACKETS = 32
UNHEARD_SECONDS = 0.7
"""So many and so much are sent as they come, more than an engine that keeps up leaves unheard;
beyond both audio is gathered, which keeps the link's queue short while one is held up."""
GATHERED_SECONDS = 0.1

SessionRequest = Audio | CommitTurn | ClearAudio | Reconfigure | Finish


class Line(Protocol):
    """What a session needs of its LiveCall."""

    is_full: bool
    wants_reminder: bool

    def send(self, attempt: int, message: object) -> bool: ...


class LiveSession:
    """From its opening to SessionEnded; `close` frees what it keeps."""

    def __init__(
        self,
        session_id: str,
        opening: Opening,
        call: Line,
        *,
        room: Room,
        new_path: Callable[[], Path],
        tell: Callable[[SessionEvent], None],
    ) -> None:
        self.session_id = session_id
        self.room = room
        self.heard = 0
        """Frames that engines have listened to."""
        self.is_finishing = False
        """The client sends nothing more."""
        self.is_over = False
        self._call = call
        self._new_path = new_path
        self._tell = tell
        self._attempt = 0
        """Of the engine that has it; 0 while none has."""
        self._is_open = False
        """Whether that engine was sent OpenSession."""
        self._is_close_sent = False
        self._has_told_warming = False
        self._unheard: deque[int] = deque()
        """Where each packet ends that is on its way."""
        self._begin(opening.format, opening.options)

    def __repr__(self) -> str:
        return f"<LiveSession {self.session_id} attempt {self._attempt} {self._log!r}>"

    @property
    def utterances(self) -> int:
        """Answered."""
        return self._turns.utterances

    @property
    def contradictions(self) -> int:
        """Items of which something was told that turned out wrong."""
        return self._turns.contradictions

    # --- the client -------------------------------------------------------------------------

    def take(self, request: SessionRequest) -> None:
        """The client wants something; nothing counts after Finish."""
        if self.is_over or self.is_finishing:
            return
        if isinstance(request, Audio):
            self._keep(request.content)
        elif isinstance(request, CommitTurn):
            self._commit(request)
        elif isinstance(request, ClearAudio):
            self._tell_all(self._turns.clear(self._log.end))
            if self._log.has_audio:
                self._log.add(ClearHere())
        elif isinstance(request, Reconfigure):
            self._reconfigure(request)
        else:
            self.is_finishing = True
            if not self._log.has_audio:
                self._end(None, "")
        self._pump()

    def warm_up(self, *, is_ready: bool) -> None:
        """Say at the beginning how the engine stands; `learn` tells every change."""
        if not is_ready:
            self._tell_warming()

    def fail(self, code: FailureCode, message: str) -> None:
        """End at once: nothing more will be heard."""
        if not self.is_over:
            self._tell_all(self._turns.fail(code, message))
            self._end(code, message)

    def close(self) -> None:
        """Free what is kept."""
        self.is_over = True
        self._log.close()
        self.room.leave()

    # --- the engine -------------------------------------------------------------------------

    def learn(self, news: LiveNews) -> None:
        """The link has news."""
        if self.is_over:
            return
        if isinstance(news, EngineFound):
            self._begin_attempt(news.attempt)
        elif isinstance(news, EngineLost):
            self._attempt = 0
            self._tell_warming()
        elif isinstance(news, TranscriptionFailed):
            self.fail(news.code, news.message)
        elif not isinstance(news, TryAgain):
            self._hear(news)
        self._pump(gathers=not isinstance(news, TryAgain))

    def _begin_attempt(self, attempt: int) -> None:
        self._attempt, self._is_open, self._is_close_sent = attempt, False, False
        self._unheard.clear()
        self._log.rewind()
        self._turns.begin_attempt(self._log.start, self._log.kept_commits)
        self.heard = self._log.start
        self._has_told_warming = False
        self._tell(EngineReady())

    def _hear(self, event: LiveEvent) -> None:
        if isinstance(event, SessionFailed):  # the link makes EngineLost or a failure of it
            return
        self.heard = max(self.heard, min(event.heard, self._log.position))
        while self._unheard and self._unheard[0] <= self.heard:
            self._unheard.popleft()
        if isinstance(event, SessionClosed):
            self._on_closed()
            return
        self._tell_all(self._turns.heard(event))
        self._tell_all(self._turns.acknowledged(event.acknowledged))
        self._log.acknowledge(event.acknowledged)
        self._log.commits_answered(self._turns.answered_commits)
        self._note_kept()

    def _on_closed(self) -> None:
        if self.is_finishing:
            self._tell_all(self._turns.close())
            self._end(None, "")
        else:
            text = "The speech engine ended this session. Open a new one."
            self.fail(FailureCode.WORKER_FAILED, text)

    # --- what is kept and sent --------------------------------------------------------------

    def _begin(self, format: StreamFormat, options: LiveOptions) -> None:
        self._log = ReplayLog(format, options, self._new_path)
        self._turns = Turns(format, is_manual=options.turn_detection is None)

    def _keep(self, content: bytes) -> None:
        try:
            self._log.add_audio(content)
        except OSError as error:
            fields = {"session": self.session_id, "error": error.strerror}
            logger.error(line("audio could not be kept", fields))
            text = "The server has no disk space left for this session. Try again later."
            self.fail(FailureCode.STORAGE_FULL, text)
        self._note_kept()

    def _commit(self, request: CommitTurn) -> None:
        serial, told = self._turns.commit(self._log.end, even_if_empty=request.even_if_empty)
        if serial is not None:
            self._log.add(CommitHere(serial))
        self._tell_all(told)

    def _reconfigure(self, request: Reconfigure) -> None:
        if request.format not in (None, self._log.format):
            assert not self._log.has_audio, "a dialect refuses another format once there is audio"
            assert request.format is not None
            self._begin(request.format, request.options)
        elif self._log.has_audio:
            self._log.add(ConfigureHere(request.options))
        else:
            self._log.options = request.options
        self._turns.is_manual = request.options.turn_detection is None
        self._tell(Reconfigured(request.options))

    def _note_kept(self) -> None:
        self.room.keeps(self._log.kept_bytes)
        self._call.is_full = self.room.is_full

    def _pump(self, *, gathers: bool = True) -> None:
        """Send what the engine may get now, without what should be gathered first."""
        if not self._attempt or self.is_over or not self._open():
            return
        rate = self._log.format.sample_rate
        while (following := self._log.next(self.heard + LIVE_WINDOW_SECONDS * rate)) is not None:
            if gathers and isinstance(following, Stretch) and self._should_gather(following):
                self._call.wants_reminder = True  # the client may be silent from now on
                return
            if not self._send(self._message(following)):
                return
            self._log.advance(following)
            if isinstance(following, Stretch):
                self._unheard.append(self._log.position)
        if self.is_finishing and self._log.is_passed and not self._is_close_sent:
            self._is_close_sent = self._send(CloseSession(self.session_id))

    def _open(self) -> bool:
        """Whether the engine knows the session. It need not before there is anything to send."""
        if not self._is_open and (self.is_finishing or not self._log.is_passed):
            opening = OpenSession(
                self.session_id,
                self._attempt,
                self._log.format,
                self._log.options,
                self._log.start,
                self._turns.settled,
            )
            self._is_open = self._send(opening)
        return self._is_open

    def _should_gather(self, audio: Stretch) -> bool:
        """Whether to wait for more audio, or for the engine to say that it has heard some."""
        rate = self._log.format.sample_rate
        unheard = self._log.position - self.heard
        keeps_up = len(self._unheard) < UNHEARD_PACKETS or unheard < UNHEARD_SECONDS * rate
        if keeps_up or self.is_finishing:
            return False
        if self._log.has_commands_ahead:  # a client that asks for its text sends no more till then
            return False
        frames = len(audio.content) // self._log.format.frame_bytes
        is_last = audio.start + frames == self._log.end
        return is_last and frames < GATHERED_SECONDS * rate

    def _message(self, following: Stretch | Command) -> object:
        if isinstance(following, Stretch):
            return AudioPacket(self.session_id, following.start, following.content)
        if isinstance(following, ConfigureHere):
            return Configure(self.session_id, following.options)
        if isinstance(following, ClearHere):
            return Clear(self.session_id)
        return Commit(self.session_id)

    def _send(self, message: object) -> bool:
        return self._call.send(self._attempt, message)

    # --- what is told -----------------------------------------------------------------------

    def _tell_all(self, events: list[SessionEvent]) -> None:
        for event in events:
            self._tell(event)

    def _tell_warming(self) -> None:
        if not self._has_told_warming:
            self._has_told_warming = True
            self._tell(EngineWarming())

    def _end(self, code: FailureCode | None, message: str) -> None:
        self.is_over = True
        self._tell(SessionEnded(None if code is None else str(code), message))
