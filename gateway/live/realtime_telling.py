"""What a realtime client is told of its session. Pure."""

from collections.abc import Iterator

from gateway.live import realtime_events as events
from gateway.live.events import (
    LEAST_COMMIT_MS,
    AudioCleared,
    CommitRefused,
    EngineReady,
    EngineWarming,
    SessionEnded,
    SessionEvent,
    TextChanged,
    TurnCommitted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
)
from gateway.live.realtime_events import ErrorCode, ServerEvent
from gateway.live.realtime_items import FinishedItems
from gateway.live.realtime_session import SessionConfig
from gateway.live.realtime_terms import Terms


class Telling:
    """Of one session; its items are kept for the client to ask for."""

    def __init__(self, terms: Terms, finished: FinishedItems) -> None:
        self._terms = terms
        self._finished = finished

    def told(
        self, event: SessionEvent, config: SessionConfig, *, is_beta: bool, event_id: str | None
    ) -> Iterator[tuple[ServerEvent, bool]]:
        """Events, and whether a client that reads slowly may miss them. Deltas it may not: a hole
        among them could not be seen."""
        for told in self._of_turns(event, config, is_beta, event_id):
            yield self._labelled(told, event), False
        if self._terms.has_extensions:
            if isinstance(event, TextChanged):
                yield self._labelled(events.text_so_far(event), event), True
            elif isinstance(event, EngineWarming):
                yield {"type": "qwen.warming_up"}, False
            elif isinstance(event, EngineReady):
                yield {"type": "qwen.ready"}, False

    def _of_turns(
        self, event: SessionEvent, config: SessionConfig, is_beta: bool, event_id: str | None
    ) -> Iterator[ServerEvent]:
        buffer = "input_audio_buffer"
        if isinstance(event, TurnStarted):
            times: ServerEvent = {"item_id": event.item_id, "audio_start_ms": event.start_ms}
            yield {"type": f"{buffer}.speech_started", **times}
        elif isinstance(event, TurnStopped):
            times = {"item_id": event.item_id, "audio_end_ms": event.end_ms}
            yield {"type": f"{buffer}.speech_stopped", **times}
        elif isinstance(event, TurnCommitted):
            yield from self._committed(event, is_beta)
        elif isinstance(event, TextChanged):
            if event.delta:
                yield events.delta(event.item_id, event.delta)
        elif isinstance(event, TurnCompleted):
            self._finished.complete(event.item_id, event.transcript)
            yield from self._completed(event, config)
        elif isinstance(event, TurnFailed):
            yield events.failed(event)
        elif isinstance(event, AudioCleared):
            yield {"type": f"{buffer}.cleared"}
        elif isinstance(event, CommitRefused):
            yield _too_short(event, event_id)
        elif isinstance(event, SessionEnded) and event.code is not None:
            yield events.error(event.code, event.message, is_ours=True)

    def _committed(self, event: TurnCommitted, is_beta: bool) -> Iterator[ServerEvent]:
        item_id, previous = event.item_id, event.previous_item_id
        self._finished.add(item_id)
        ids = {"item_id": item_id, "previous_item_id": previous}
        yield {"type": "input_audio_buffer.committed", **ids}
        kinds = ("created",) if is_beta else ("added", "done")
        for kind in kinds:
            yield events.item_event(f"conversation.item.{kind}", item_id, previous)

    def _completed(self, event: TurnCompleted, config: SessionConfig) -> Iterator[ServerEvent]:
        *others, completed = events.outcome(event, config)
        yield from others
        if self._terms.has_extensions:
            times = {"start_ms": event.start_ms, "end_ms": event.end_ms, "lag_ms": event.lag_ms}
            completed["qwen"] = times
        yield completed

    def _labelled(self, told: ServerEvent, event: SessionEvent) -> ServerEvent:
        """With two channels every event of an item says its own."""
        channel = getattr(event, "channel", None)
        if channel is None or self._terms.channels == 1:
            return told
        return {**told, "channel": channel}


def _too_short(event: CommitRefused, event_id: str | None) -> ServerEvent:
    text = (
        f"The audio buffer is too small to commit: expected at least {LEAST_COMMIT_MS} ms of "
        f"audio, but it has {event.buffered_ms} ms."
    )
    return events.error(ErrorCode.COMMIT_EMPTY, text, event_id=event_id)
