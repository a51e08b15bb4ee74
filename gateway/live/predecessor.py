"""/ws/transcribe, as jaaacki/qwen3-asr speaks it, and more where a client opts in. Pure.

Its clients read one message after an action, so nothing else is sent unasked but partials and
finals.
"""

from dataclasses import replace
from typing import Any

from gateway.errors import BadRequest
from gateway.live.events import (
    Audio,
    AudioCleared,
    ClearAudio,
    CommitTurn,
    EngineReady,
    EngineWarming,
    Hangup,
    Opening,
    Reconfigure,
    Reply,
    Request,
    SessionEnded,
    SessionEvent,
    TextChanged,
    TurnCommitted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
)
from gateway.live.handshake import Handshake
from gateway.live.messages import clean, read_object, text_of
from gateway.live.predecessor_answers import Answers, AnswersByChannel, Message
from gateway.live.predecessor_query import Wishes, language_named, wishes_of
from gateway.live.query import TRUE_WORDS
from gateway.settings import Settings
from protocol.failures import FailureCode

TRACKS = ("caller", "callee")
"""By channel."""
REFUSED = 1008
"""RFC 6455, 7.4.1: policy. The reason is in the message before."""
MAX_LANGUAGE = 64
UNSAID = "auto"


def open_dialect(handshake: Handshake) -> "PredecessorDialect | RefusingDialect":
    """What cannot be served is refused inside the connection, where these clients look for it."""
    settings = handshake.settings
    try:
        wishes = wishes_of(handshake.query, settings)
    except BadRequest as error:
        harmless = wishes_of(type(handshake.query)(), settings)
        return RefusingDialect(harmless, _error(error.code, error.message))
    return PredecessorDialect(wishes, settings)


class RefusingDialect:
    """Tells one error and hangs up."""

    def __init__(self, wishes: Wishes, message: Message) -> None:
        self._wishes = wishes
        self._message = message

    @property
    def opening(self) -> Opening:
        """See Dialect."""
        return Opening(self._wishes.format, self._wishes.options, self._wishes.call_id)

    def greeting(self, *, is_ready: bool) -> list[Request]:
        """See Dialect."""
        code = str(self._message["code"])
        return [Reply(text_of(self._message)), Hangup(REFUSED, code)]

    def text_received(self, text: str) -> list[Request]:
        """See Dialect."""
        return []

    def bytes_received(self, content: bytes) -> list[Request]:
        """See Dialect."""
        return []

    def event(self, event: SessionEvent) -> list[Request]:
        """See Dialect."""
        return []


class PredecessorDialect:
    """One client's Dialect."""

    def __init__(self, wishes: Wishes, settings: Settings) -> None:
        self._wishes = wishes
        self._settings = settings
        self._options = wishes.options
        self._language = wishes.language
        """As the client wrote it."""
        self._has_two_channels = wishes.format.channels == 2
        self._answers = AnswersByChannel() if self._has_two_channels else Answers()

    def __repr__(self) -> str:
        return f"<PredecessorDialect {self._wishes.call_id} {self._answers!r}>"

    # --- Dialect ----------------------------------------------------------------------------

    @property
    def opening(self) -> Opening:
        """See Dialect."""
        return Opening(self._wishes.format, self._wishes.options, self._wishes.call_id)

    def greeting(self, *, is_ready: bool) -> list[Request]:
        """See Dialect."""
        connected = {
            "status": "connected",
            "sample_rate": self._wishes.format.sample_rate,
            "format": self._wishes.encoding_name,
            "buffer_size": self._settings.ws_buffer_bytes,
            "window_max_s": self._settings.ws_window_max,
            "use_server_vad": self._uses_server_vad,
            "engine": "ready" if is_ready else "warming_up",
            "call_id": self._wishes.call_id,
        }
        if self._has_two_channels:
            connected["channels"] = len(TRACKS)
        return [_reply(connected)]

    def bytes_received(self, content: bytes) -> list[Request]:
        """See Dialect."""
        return [Audio(content)] if content else []

    def text_received(self, text: str) -> list[Request]:
        """See Dialect."""
        message = read_object(text)
        if message is None:
            return self._say(_error("INVALID_JSON", "Send actions as one JSON object."))
        action = message.get("action")
        if action in ("flush", "reset", "config") and self._answers.is_full:
            text = "Too many actions wait for their answers. Read those first."
            return [_reply(_error("TOO_MANY_ACTIONS", text, 429))]
        if action == "flush":
            self._answers.flush()
            return [CommitTurn(even_if_empty=True)]
        if action == "reset":
            self._answers.reset()
            return [ClearAudio()]
        if action == "config":
            return self._configure(message)
        text = "This action is not known here. Known are: flush, reset, config."
        return self._say(_error("UNKNOWN_ACTION", text))

    def event(self, event: SessionEvent) -> list[Request]:
        """See Dialect."""
        if isinstance(event, TextChanged):
            return self._partial(event)
        if isinstance(event, TurnCommitted):
            told = self._answers.committed(event.item_id, by_client=event.by_client)
        elif isinstance(event, TurnCompleted):
            told = self._answers.final(event.item_id, self._final(event))
        elif isinstance(event, TurnFailed):
            told = self._answers.final(event.item_id, self._failed(event))
        elif isinstance(event, AudioCleared):
            told = self._answers.say({"status": "buffer_reset"})
        elif isinstance(event, SessionEnded):
            told = [*self._answers.give_up(), *_ending(event)]
        else:
            told = self._asked_for(event)
        return [_reply(message) for message in told]

    # --- the client -------------------------------------------------------------------------

    def _configure(self, message: dict[str, Any]) -> list[Request]:
        try:
            language, name = self._language_of(message)
        except BadRequest as error:
            return self._say(_error(error.code, error.message))
        detection = self._options.turn_detection
        if "use_server_vad" in message:
            is_wanted = str(message["use_server_vad"]).strip().lower() in TRUE_WORDS
            detection = self._wishes.turn_detection if is_wanted else None
        self._language = language
        self._options = replace(self._options, language=name, turn_detection=detection)
        configured = {
            "status": "configured",
            "language": language,
            "use_server_vad": self._uses_server_vad,
        }
        return [Reconfigure(self._options), *self._say(configured)]

    def _language_of(self, message: dict[str, Any]) -> tuple[str, str | None]:
        """As the client wrote it, and the model's name of it."""
        if "language" not in message:
            return self._language, self._options.language
        given = message["language"] or UNSAID
        if not isinstance(given, str) or len(given) > MAX_LANGUAGE:
            raise BadRequest("language is a name or a code.", code="UNSUPPORTED_LANGUAGE")
        return clean(given), language_named(given)

    @property
    def _uses_server_vad(self) -> bool:
        return self._options.turn_detection is not None

    # --- the session ------------------------------------------------------------------------

    def _partial(self, event: TextChanged) -> list[Request]:
        text = event.stable + event.tail
        if not text.strip():
            return []
        more = {
            "stable": event.stable,
            "language": event.language,
            "lag_ms": event.lag_ms,
        }
        message = {"text": text, "is_partial": True, "is_final": False}
        return [_reply(self._with_more(message, event, more), may_drop=True)]

    def _final(self, event: TurnCompleted) -> Message:
        more = {
            "language": event.language,
            "start_ms": event.start_ms,
            "end_ms": event.end_ms,
            "lag_ms": event.lag_ms,
        }
        message = {"text": event.transcript, "is_partial": False, "is_final": True}
        return self._with_more(message, event, more)

    def _failed(self, event: TurnFailed) -> Message:
        is_late = event.code == FailureCode.TIMED_OUT
        text = "[timeout]" if is_late else f"[error: {event.message}]"
        message = {"text": text, "is_partial": False, "is_final": True}
        return self._with_more(message, event, {"code": event.code})

    def _asked_for(self, event: SessionEvent) -> list[Message]:
        """What only those get who want events."""
        if not self._wishes.wants_events:
            return []
        if isinstance(event, EngineWarming):
            return [{"event": "warming_up"}]
        if isinstance(event, EngineReady):
            return [{"event": "ready"}]
        if isinstance(event, TurnStarted):
            message = {"event": "speech_started"}
            return [self._with_more(message, event, {"start_ms": event.start_ms})]
        if isinstance(event, TurnStopped):
            message = {"event": "speech_stopped"}
            return [self._with_more(message, event, {"end_ms": event.end_ms})]
        return []

    def _with_more(
        self,
        message: Message,
        event: TextChanged | TurnCompleted | TurnFailed | TurnStarted | TurnStopped,
        more: Message,
    ) -> Message:
        if self._has_two_channels:
            label = {"channel": event.channel, "track": TRACKS[event.channel]}
            message = {**message, **label}
        if self._wishes.wants_events:
            message = {**message, "item_id": event.item_id, "channel": event.channel, **more}
        return message

    def _say(self, message: Message) -> list[Request]:
        return [_reply(told) for told in self._answers.say(message)]


def _ending(event: SessionEnded) -> list[Message]:
    if event.code is None:
        return []
    if event.code == FailureCode.WORKER_UNAVAILABLE:
        return [_error("WORKER_STARTUP_FAILED", event.message, 503)]
    return [_error("WEBSOCKET_ERROR", event.message, 500)]


def _error(code: str, message: str, status: int = 400) -> Message:
    return {"code": code, "message": message, "statusCode": status}


def _reply(message: Message, *, may_drop: bool = False) -> Reply:
    return Reply(text_of(message), may_drop)
