"""A dialect under test, and events of a session as it may be told of them."""

import base64
import json
from dataclasses import replace
from typing import Any

from starlette.datastructures import Headers, QueryParams

from gateway.live.events import (
    Audio,
    AudioCleared,
    CommitRefused,
    Dialect,
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
    Usage,
)
from gateway.live.handshake import Handshake
from gateway.live.predecessor import PredecessorDialect, RefusingDialect
from gateway.live.predecessor import open_dialect as open_predecessor
from gateway.live.realtime import RealtimeDialect
from gateway.live.realtime import open_dialect as open_realtime
from gateway.live.realtime_session import SessionConfig
from gateway.settings import Settings
from protocol.transcription import Nats, Segment, Token

USAGE = Usage(prompt_tokens=20, audio_tokens=13, output_tokens=5, audio_ms=1500)
Frame = dict[str, Any]
LOGPROBS = "item.input_audio_transcription.logprobs"


def handshake(
    query: str | QueryParams = "",
    *,
    headers: dict[str, str] | None = None,
    client_session: SessionConfig | None = None,
    **settings: Any,
) -> Handshake:
    """One of a client without a key."""
    return Handshake(
        session_id="sess_1",
        path="/v1/realtime",
        query=query if isinstance(query, QueryParams) else QueryParams(query),
        headers=Headers(headers or {}),
        subprotocols=(),
        key=None,
        owner=None,
        served_model="Qwen/Qwen3-ASR-1.7B",
        settings=Settings(**settings),
        client_session=client_session,
    )


def realtime(query: str | QueryParams = "", **details: Any) -> RealtimeDialect:
    """A client of OpenAI's API."""
    return open_realtime(handshake(query, **details))


def predecessor(query: str = "", **settings: Any) -> PredecessorDialect:
    """A client of jaaacki/qwen3-asr's."""
    dialect = open_predecessor(handshake(query, **settings))
    assert isinstance(dialect, PredecessorDialect)
    return dialect


def refused(query: str) -> RefusingDialect:
    """A client of jaaacki/qwen3-asr's that asks for what cannot be had."""
    dialect = open_predecessor(handshake(query))
    assert isinstance(dialect, RefusingDialect)
    return dialect


def frames(requests: list[Request]) -> list[Frame]:
    """What the client gets."""
    return [json.loads(each.text) for each in requests if isinstance(each, Reply)]


def asked(requests: list[Request]) -> list[Request]:
    """What the session gets."""
    return [each for each in requests if not isinstance(each, Reply)]


def say(dialect: Dialect, **message: Any) -> list[Request]:
    """The client sends a message."""
    return dialect.text_received(json.dumps(message))


def hear(dialect: Dialect, *events: SessionEvent) -> list[Frame]:
    """The session tells something."""
    return [frame for event in events for frame in frames(dialect.event(event))]


def appended(content: bytes = b"\0\0") -> Frame:
    """Audio as clients of OpenAI send it."""
    return {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(content).decode(),
    }


AUDIO = Audio(b"\0\0")


def started(item_id: str = "item_1", channel: int = 0, start_ms: int = 200) -> TurnStarted:
    return TurnStarted(item_id, channel, start_ms)


def stopped(item_id: str = "item_1", channel: int = 0, end_ms: int = 1700) -> TurnStopped:
    return TurnStopped(item_id, channel, end_ms)


def committed(
    item_id: str = "item_1",
    channel: int = 0,
    previous: str | None = None,
    *,
    by_client: bool = False,
) -> TurnCommitted:
    return TurnCommitted(item_id, channel, previous, by_client)


def grown(
    delta: str, stable: str, tail: str = "", item_id: str = "item_1", channel: int = 0
) -> TextChanged:
    return TextChanged(item_id, channel, "English", delta, stable, tail, 40)


def completed(
    transcript: str,
    delta: str | None = None,
    item_id: str = "item_1",
    channel: int = 0,
    *,
    language: str | None = "English",
) -> TurnCompleted:
    event = TurnCompleted(
        item_id=item_id,
        channel=channel,
        transcript=transcript,
        delta=transcript if delta is None else delta,
        language=language if transcript else None,
        start_ms=200,
        end_ms=1700,
        segments=(),
        tokens=(),
        usage=USAGE,
        lag_ms=90,
    )
    if not transcript:
        return event
    segment = Segment(3200, 24_000, f" {transcript}", (), None, (), None, 0.1)
    token = Token(transcript.encode(), Nats(-0.25))
    return replace(event, segments=(segment,), tokens=(token,))


def failed(item_id: str = "item_1", channel: int = 0, code: str = "inference_failed") -> TurnFailed:
    return TurnFailed(item_id, channel, code, "This could not be transcribed.")


def error_of(requests: list[Request]) -> Frame:
    """The one event there is."""
    [request] = requests
    assert isinstance(request, Reply)
    assert not request.may_drop
    [frame] = frames(requests)
    assert frame["type"] == "error"
    error: Frame = frame["error"]
    assert set(error) == {"type", "code", "message", "param", "event_id"}
    return error


def conversation(query: str, headers: dict[str, str]) -> list[Frame]:
    """Every event a client of OpenAI's may be told."""
    dialect = realtime(query, headers=headers)
    told = frames(dialect.greeting(is_ready=True))
    for detection in (None, {"type": "semantic_vad"}, {"type": "server_vad"}):
        session = {
            "include": [LOGPROBS],
            "audio": {
                "input": {
                    "turn_detection": detection,
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"keywords": ["a"], "languages": ["de"], "delay": "high"},
                }
            },
        }
        told += frames(say(dialect, type="session.update", session=session))
    told += hear(
        dialect,
        started(),
        grown("zero", "zero", " one"),
        stopped(),
        committed(),
        completed("zero one", " one"),
        committed("item_2", previous="item_1"),
        failed("item_2"),
        AudioCleared(),
        CommitRefused(40),
    )
    told += frames(say(dialect, type="conversation.item.retrieve", item_id="item_1"))
    told += frames(say(dialect, type="conversation.item.delete", item_id="item_1"))
    told += frames(say(dialect, type="response.create", event_id="mine"))
    return told + hear(dialect, SessionEnded("worker_unavailable", "Try again."))
