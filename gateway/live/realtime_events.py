"""The server's events of OpenAI's realtime API, as JSON objects without their event_id. Pure."""

from collections.abc import Iterator
from enum import StrEnum

from gateway.formats.openai_json import (
    language_objects,
    seconds,
    usage_by_duration,
    usage_by_tokens,
)
from gateway.formats.transcripts import Usage
from gateway.live.events import TextChanged, TurnCompleted, TurnFailed
from gateway.live.realtime_session import SessionConfig

ServerEvent = dict[str, object]
TRANSCRIPTION = "conversation.item.input_audio_transcription"
SPEAKERS = ("A", "B")
"""By channel."""


class ErrorCode(StrEnum):
    """What is wrong with a client's event; the connection stays open. A server_error, before the
    connection closes, has a FailureCode."""

    INVALID_EVENT = "invalid_event"
    """No JSON object, without a type, or without a field it needs."""
    UNKNOWN_EVENT = "unknown_event"
    """No event of this API."""
    UNSUPPORTED_EVENT = "unsupported_event"
    """One of conversations with a model that speaks."""
    INVALID_VALUE = "invalid_value"
    COMMIT_EMPTY = "input_audio_buffer_commit_empty"
    ITEM_NOT_FOUND = "item_not_found"


def error(
    code: str,
    message: str,
    *,
    param: str | None = None,
    event_id: str | None = None,
    is_ours: bool = False,
) -> ServerEvent:
    """`event_id`: of the client's event at fault, where it had one."""
    kind = "server_error" if is_ours else "invalid_request_error"
    details = {
        "type": kind,
        "code": code,
        "message": message,
        "param": param,
        "event_id": event_id,
    }
    return {"type": "error", "error": details}


def item_object(item_id: str, transcript: str | None) -> dict[str, object]:
    """An item; transcript: None until it is known."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": transcript}],
    }


def item_event(kind: str, item_id: str, previous_item_id: str | None) -> ServerEvent:
    """An item is there: conversation.item.added, .done, or .created."""
    return {
        "type": kind,
        "previous_item_id": previous_item_id,
        "item": item_object(item_id, None),
    }


def delta(item_id: str, text: str, logprobs: list[dict[str, object]] | None = None) -> ServerEvent:
    """More of an item's text."""
    told: ServerEvent = {
        "type": f"{TRANSCRIPTION}.delta",
        "item_id": item_id,
        "content_index": 0,
        "delta": text,
    }
    return told if logprobs is None else {**told, "logprobs": logprobs}


def outcome(event: TurnCompleted, config: SessionConfig) -> Iterator[ServerEvent]:
    """What is left of an item's text, and all of it."""
    logprobs = _logprobs(event) if config.wants_logprobs else None
    if event.delta:
        yield delta(event.item_id, event.delta, logprobs if config.tells_text_whole else None)
    if config.tells_speakers:
        yield from _segments(event)
    completed: ServerEvent = {
        "type": f"{TRANSCRIPTION}.completed",
        "item_id": event.item_id,
        "content_index": 0,
        "transcript": event.transcript,
        "usage": _usage(event, config),
        "languages": language_objects([event.language] if event.language else []),
    }
    yield completed if logprobs is None else {**completed, "logprobs": logprobs}


def failed(event: TurnFailed) -> ServerEvent:
    """An item will have no text."""
    return {
        "type": f"{TRANSCRIPTION}.failed",
        "item_id": event.item_id,
        "content_index": 0,
        "error": {
            "type": "server_error",
            "code": event.code,
            "message": event.message,
            "param": None,
        },
    }


def text_so_far(event: TextChanged) -> ServerEvent:
    """An extension: also what may still change."""
    return {
        "type": "qwen.text",
        "item_id": event.item_id,
        "text": event.stable,
        "tail": event.tail,
        "languages": language_objects([event.language] if event.language else []),
        "lag_ms": event.lag_ms,
    }


def _logprobs(event: TurnCompleted) -> list[dict[str, object]]:
    return [
        {
            "token": token.content.decode("utf-8", "replace"),
            "logprob": token.logprob,
            "bytes": list(token.content),
        }
        for token in event.tokens
    ]


def _segments(event: TurnCompleted) -> Iterator[ServerEvent]:
    for number, segment in enumerate(event.segments):
        yield {
            "type": f"{TRANSCRIPTION}.segment",
            "item_id": event.item_id,
            "content_index": 0,
            "id": f"{event.item_id}_seg_{number:03}",
            "text": segment.text.strip(),
            "speaker": SPEAKERS[event.channel],
            "start": seconds(segment.start),
            "end": seconds(segment.end),
        }


def _usage(event: TurnCompleted, config: SessionConfig) -> dict[str, object]:
    usage = event.usage
    if config.model.startswith("whisper"):
        return usage_by_duration(usage.audio_ms / 1000)
    return usage_by_tokens(Usage(usage.prompt_tokens, usage.audio_tokens, usage.output_tokens))
