"""Whatever text a client sends, its dialect answers, and its session goes on."""

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.live.events import Dialect, Hangup, Reply, Request, SessionEvent
from gateway.live.room import Rooms
from gateway.live.session import LiveSession
from gateway.worker_client.live_calls import EngineFound
from protocol.codec import encode
from tests.gateway.live.dialects import appended, predecessor, realtime

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TYPES = st.sampled_from(
    (
        "conversation.item.delete",
        "conversation.item.retrieve",
        "input_audio_buffer.append",
        "input_audio_buffer.clear",
        "input_audio_buffer.commit",
        "response.create",
        "session.update",
        "transcription_session.update",
    )
)
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "format": JSON
        | st.sampled_from(({"type": "audio/pcmu"}, {"rate": 8000}, {"type": "audio/pcm"})),
        "transcription": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                name: JSON
                for name in ("model", "language", "languages", "keywords", "prompt", "delay")
            },
        ),
        "turn_detection": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                name: JSON
                for name in (
                    "type",
                    "eagerness",
                    "threshold",
                    "prefix_padding_ms",
                    "silence_duration_ms",
                )
            },
        ),
        "noise_reduction": JSON,
    },
)
SESSION = JSON | st.fixed_dictionaries(
    {},
    optional={
        "audio": JSON | st.fixed_dictionaries({"input": JSON | INPUT}),
        "include": JSON,
        "input_audio_format": JSON | st.sampled_from(("pcm16", "g711_ulaw")),
        "input_audio_transcription": JSON,
        "turn_detection": JSON,
    },
)
EVENTS = st.fixed_dictionaries(
    {"type": TYPES | JSON},
    optional={
        "event_id": JSON,
        "session": SESSION,
        "audio": JSON | st.just(appended(bytes(320))["audio"]),
        "item_id": JSON,
    },
)
ACTIONS = st.fixed_dictionaries(
    {"action": st.sampled_from(("flush", "reset", "config")) | JSON},
    optional={"language": JSON | st.just("de"), "use_server_vad": JSON},
)


class Engine:
    """In place of a LiveCall: takes what can be sent over the link."""

    is_full = False
    wants_reminder = False

    def send(self, attempt: int, message: object) -> bool:
        assert encode(message)
        return True


def as_text(message: Any) -> str:
    return json.dumps(message)


def converse(dialect: Dialect, texts: list[str | bytes]) -> list[str]:
    """What the client is told; asserts that the session goes on."""
    told: list[str] = []
    untold: deque[SessionEvent] = deque()
    session = LiveSession(
        "sess_1",
        dialect.opening,
        Engine(),
        room=Rooms(each=1 << 30, together=1 << 30, most_sessions=1).enter(),
        new_path=lambda: Path("/nowhere/at/all"),
        tell=untold.append,
    )

    def perform(requests: list[Request]) -> None:
        for request in requests:
            assert not isinstance(request, Hangup)
            if isinstance(request, Reply):
                told.append(request.text)
            else:
                session.take(request)
            while untold:
                perform(dialect.event(untold.popleft()))

    perform(dialect.greeting(is_ready=False))
    session.learn(EngineFound(1))
    for text in texts:
        before = len(told)
        if isinstance(text, bytes):
            perform(dialect.bytes_received(text))
        else:
            perform(dialect.text_received(text))
        assert len(told) - before <= 6
    assert not session.is_over
    assert not session.is_finishing
    session.close()
    return told


def frames_of(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[str | bytes]]:
    texts = kind.map(as_text) | JSON.map(as_text) | st.text() | st.binary(max_size=8)
    return st.lists(texts, max_size=8)


@pytest.mark.parametrize("query", ["", "channels=2&extensions=1&sample_rate=16000"])
@settings(max_examples=150, deadline=None)
@given(texts=frames_of(EVENTS))
def test_nothing_a_realtime_client_sends_ends_its_session(
    query: str, texts: list[str | bytes]
) -> None:
    told = converse(realtime(query), texts)

    for text in told:
        assert text.encode("utf-8")
        assert json.loads(text, parse_constant=pytest.fail)["event_id"]


@pytest.mark.parametrize("query", ["", "channels=2&events=1"])
@settings(max_examples=150, deadline=None)
@given(texts=frames_of(ACTIONS))
def test_nothing_a_client_of_the_predecessor_sends_ends_its_session(
    query: str, texts: list[str | bytes]
) -> None:
    told = converse(predecessor(query), texts)

    for text in told:
        assert text.encode("utf-8")
        json.loads(text, parse_constant=pytest.fail)
