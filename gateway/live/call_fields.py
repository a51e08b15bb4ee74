"""What followers of a call are told of a session's events: names and fields. Pure.

Times of a session count from its first audio; those of the call from when it began, so all
sessions of a call share one clock, as exactly as their audio began with their connections.
"""

from dataclasses import dataclass

from gateway.live.events import (
    AudioCleared,
    EngineReady,
    EngineWarming,
    SessionEnded,
    SessionEvent,
    TextChanged,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
)

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Told:
    """An event by its name."""

    kind: str
    fields: Fields
    item_id: str | None = None
    """Of what belongs to an item."""
    until: float | None = None
    """Of an item's outcome: where it ends."""


def told_of(event: SessionEvent, offset: float, now: float) -> Told | None:
    """How followers hear of an event; None where they do not. `offset`: where the session began in
    the call; `now`: what an item without an end of its own is taken to end at. In seconds."""
    if isinstance(event, TextChanged | TurnCompleted | TurnFailed):
        return _told_of_text(event, offset, now)
    if isinstance(event, TurnStarted):
        fields = _of_item(event, start=_seconds(event.start_ms, offset))
        return Told("speech.started", fields, event.item_id)
    if isinstance(event, TurnStopped):
        fields = _of_item(event, end=_seconds(event.end_ms, offset))
        return Told("speech.stopped", fields, event.item_id)
    if isinstance(event, SessionEnded):
        return Told("session.ended", {"code": event.code, "message": event.message or None})
    if isinstance(event, EngineWarming):
        return Told("engine.warming_up", {})
    if isinstance(event, EngineReady):
        return Told("engine.ready", {})
    return Told("speech.cleared", {}) if isinstance(event, AudioCleared) else None


def _told_of_text(
    event: TextChanged | TurnCompleted | TurnFailed, offset: float, now: float
) -> Told:
    if isinstance(event, TextChanged):
        fields = _of_item(
            event,
            language=event.language,
            stable=event.stable,
            tail=event.tail,
            lag=event.lag_ms / 1000,
        )
        return Told("text.partial", fields, event.item_id)
    if isinstance(event, TurnFailed):
        fields = _of_item(event, code=event.code, message=event.message)
        return Told("text.failed", fields, event.item_id, until=now)
    end = _seconds(event.end_ms, offset)
    fields = _of_item(
        event,
        text=event.transcript,
        language=event.language,
        start=_seconds(event.start_ms, offset),
        end=end,
        lag=event.lag_ms / 1000,
    )
    return Told("text.final", fields, event.item_id, until=end)


def _of_item(
    event: TurnStarted | TurnStopped | TextChanged | TurnCompleted | TurnFailed, **fields: object
) -> Fields:
    return {"item_id": event.item_id, "channel": event.channel, **fields}


def _seconds(milliseconds: int, offset: float) -> float:
    return round(offset + milliseconds / 1000, 3)
