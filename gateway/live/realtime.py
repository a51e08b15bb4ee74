"""OpenAI's realtime transcription sessions, as its GA clients and those of its beta speak. Pure.

What each event is stands in gateway.live.realtime_events, the configuration in
gateway.live.realtime_session.
"""

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from gateway.live import realtime_events as events
from gateway.live.events import (
    Audio,
    ClearAudio,
    CommitTurn,
    Opening,
    Reconfigure,
    Reply,
    Request,
    SessionEvent,
)
from gateway.live.handshake import Handshake
from gateway.live.messages import clean, read_object, text_of
from gateway.live.realtime_events import ErrorCode, ServerEvent
from gateway.live.realtime_items import FinishedItems
from gateway.live.realtime_session import (
    SessionConfig,
    flat,
    format_of,
    nested,
    options_of,
    usual_session,
)
from gateway.live.realtime_telling import Telling
from gateway.live.realtime_terms import Terms, terms_of
from gateway.live.realtime_update import updated
from gateway.live.realtime_values import BadValue

MAX_APPEND_BYTES = 15 * 1024 * 1024
MAX_EVENT_ID = 512
OF_CONVERSATIONS = frozenset(
    (
        "conversation.item.create",
        "conversation.item.truncate",
        "output_audio_buffer.clear",
        "response.cancel",
        "response.create",
    )
)
"""Client events of sessions in which a model speaks."""


class BadEvent(Exception):
    """A client's event that cannot be served; the session goes on."""

    def __init__(self, code: ErrorCode, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def open_dialect(handshake: Handshake) -> "RealtimeDialect":
    """Raises BadRequest where a parameter of the query cannot be used."""
    terms = terms_of(handshake)
    config = handshake.client_session or usual_session(terms.default_model)
    return RealtimeDialect(terms, config)


class RealtimeDialect:
    """One client's Dialect."""

    def __init__(self, terms: Terms, config: SessionConfig) -> None:
        self._terms = terms
        self._is_beta = terms.is_beta
        self._config = terms.applied_to(config)
        self._finished = FinishedItems()
        self._telling = Telling(terms, self._finished)
        self._has_audio = False
        self._sent = 0
        """Events so far."""
        self._event_id: str | None = None
        """Of the client's event that is dealt with."""

    def __repr__(self) -> str:
        return f"<RealtimeDialect {self._terms.session_id} {self._sent} events sent>"

    # --- Dialect ----------------------------------------------------------------------------

    @property
    def opening(self) -> Opening:
        """See Dialect."""
        return Opening(
            format_of(self._config, self._terms.channels),
            options_of(self._config, ignored_languages=self._terms.ignored_languages),
            self._terms.call_id,
        )

    def greeting(self, *, is_ready: bool) -> list[Request]:
        """See Dialect. How the engine stands is told by the session's own events."""
        kind = "transcription_session.created" if self._is_beta else "session.created"
        return [self._session(kind)]

    def text_received(self, text: str) -> list[Request]:
        """See Dialect."""
        self._event_id = None
        try:
            return list(self._dealt_with(text))
        except BadEvent as bad:
            return [self._error(bad.code, bad.message, bad.param)]
        except BadValue as bad:
            return [self._error(ErrorCode.INVALID_VALUE, bad.message, bad.param)]

    def bytes_received(self, content: bytes) -> list[Request]:
        """See Dialect."""
        self._event_id = None
        message = (
            "Send events as JSON in text frames, audio as base64 in input_audio_buffer.append."
        )
        return [self._error(ErrorCode.INVALID_EVENT, message)]

    def event(self, event: SessionEvent) -> list[Request]:
        """See Dialect."""
        told = self._telling.told(
            event, self._config, is_beta=self._is_beta, event_id=self._event_id
        )
        return [self._reply(each, may_drop=may_drop) for each, may_drop in told]

    # --- the client -------------------------------------------------------------------------

    def _dealt_with(self, text: str) -> Iterable[Request]:
        message = read_object(text)
        if message is None:
            raise BadEvent(ErrorCode.INVALID_EVENT, "Send each event as one JSON object.")
        event_id = message.get("event_id")
        if isinstance(event_id, str) and len(event_id) <= MAX_EVENT_ID:
            self._event_id = clean(event_id)
        kind = message.get("type")
        if not isinstance(kind, str):
            raise BadEvent(ErrorCode.INVALID_EVENT, "Every event needs a type.", "type")
        if kind in OF_CONVERSATIONS:
            text = "This server transcribes: there are no conversations and no responses here."
            raise BadEvent(ErrorCode.UNSUPPORTED_EVENT, text, "type")
        if (handler := self._handlers.get(kind)) is None:
            known = ", ".join(sorted(self._handlers))
            text = f"This type of event is not known here. Known are: {known}."
            raise BadEvent(ErrorCode.UNKNOWN_EVENT, text, "type")
        return handler(self, message)

    def _append(self, message: dict[str, Any]) -> list[Request]:
        audio = message.get("audio")
        if not isinstance(audio, str):
            raise BadEvent(ErrorCode.INVALID_EVENT, "audio must be base64 text.", "audio")
        if len(audio) > MAX_APPEND_BYTES * 4 // 3 + 4:
            text = f"audio holds at most {MAX_APPEND_BYTES} bytes. Send smaller pieces."
            raise BadEvent(ErrorCode.INVALID_VALUE, text, "audio")
        try:
            content = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            text = "audio is not base64. Nothing of this event was taken."
            raise BadEvent(ErrorCode.INVALID_VALUE, text, "audio") from None
        self._has_audio = self._has_audio or bool(content)
        return [Audio(content)] if content else []

    def _commit(self, message: dict[str, Any]) -> list[Request]:
        return [CommitTurn()]

    def _clear(self, message: dict[str, Any]) -> list[Request]:
        return [ClearAudio()]

    def _update(self, message: dict[str, Any]) -> list[Request]:
        return self._updated(message, "session.updated")

    def _update_beta(self, message: dict[str, Any]) -> list[Request]:
        was_beta, self._is_beta = self._is_beta, True
        try:
            return self._updated(message, "transcription_session.updated")
        except BadValue:
            self._is_beta = was_beta
            raise

    def _updated(self, message: dict[str, Any], answer: str) -> list[Request]:
        terms, before = self._terms, self._config
        session = message.get("session")
        config = terms.applied_to(updated(before, session, default_model=terms.default_model))
        format = format_of(config, terms.channels)
        if self._has_audio and format != format_of(before, terms.channels):
            text = "The format cannot change once there is audio. Open a new session."
            raise BadValue("session.audio.input.format", text)
        self._config = config
        options = options_of(config, ignored_languages=terms.ignored_languages)
        return [
            Reconfigure(options, None if self._has_audio else format),
            self._session(answer),
        ]

    def _retrieve(self, message: dict[str, Any]) -> list[Request]:
        item_id = self._known_item(message)
        item = events.item_object(item_id, self._finished.transcript(item_id))
        return [self._reply({"type": "conversation.item.retrieved", "item": item})]

    def _delete(self, message: dict[str, Any]) -> list[Request]:
        item_id = self._known_item(message)
        self._finished.delete(item_id)
        return [self._reply({"type": "conversation.item.deleted", "item_id": item_id})]

    def _known_item(self, message: dict[str, Any]) -> str:
        item_id = message.get("item_id")
        if not isinstance(item_id, str):
            raise BadEvent(ErrorCode.INVALID_EVENT, "item_id must be an item's id.", "item_id")
        if item_id not in self._finished:
            text = "No item of this id is kept: it was deleted, is too long ago, or never was."
            raise BadEvent(ErrorCode.ITEM_NOT_FOUND, text, "item_id")
        return item_id

    _Handler = Callable[["RealtimeDialect", dict[str, Any]], list[Request]]
    _handlers: ClassVar[dict[str, _Handler]] = {
        "conversation.item.delete": _delete,
        "conversation.item.retrieve": _retrieve,
        "input_audio_buffer.append": _append,
        "input_audio_buffer.clear": _clear,
        "input_audio_buffer.commit": _commit,
        "session.update": _update,
        "transcription_session.update": _update_beta,
    }

    # --- helpers ----------------------------------------------------------------------------

    def _session(self, kind: str) -> Reply:
        """The whole of it, in the shape of this event."""
        shape = nested if kind.startswith("session.") else flat
        return self._reply({"type": kind, "session": shape(self._config, self._terms.session_id)})

    def _error(self, code: ErrorCode, message: str, param: str | None = None) -> Reply:
        return self._reply(events.error(code, message, param=param, event_id=self._event_id))

    def _reply(self, told: ServerEvent, *, may_drop: bool = False) -> Reply:
        self._sent += 1
        event_id = f"event_{self._terms.session_id.removeprefix('sess_')}_{self._sent}"
        return Reply(text_of({"type": told["type"], "event_id": event_id, **told}), may_drop)
