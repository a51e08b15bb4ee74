"""OpenAI's own library for Python in live sessions."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import openai
import pytest
from openai.resources.realtime.realtime import RealtimeConnection
from openai.types.realtime import (
    ConversationItemInputAudioTranscriptionCompletedEvent as Completed,
)
from openai.types.realtime import (
    InputAudioBufferCommittedEvent,
    RealtimeErrorEvent,
    RealtimeServerEvent,
    SessionCreatedEvent,
    SessionUpdatedEvent,
)
from pydantic import TypeAdapter
from websockets.exceptions import InvalidStatus

from tests import speech
from tests.clients.conftest import KEY, SAID, TURN, clip
from tests.together.processes import Server
from tests.together.realtime_client import TRANSCRIPTION, alaw, mulaw, pcm, session

E = TypeVar("E")

EVENTS: TypeAdapter[RealtimeServerEvent] = TypeAdapter(RealtimeServerEvent)
SILENCE = np.zeros(speech.SAMPLE_RATE, np.float32)

FORMATS: dict[str, tuple[dict[str, object], Callable[[speech.Samples], bytes]]] = {
    "24 kHz": ({"type": "audio/pcm", "rate": 24_000}, lambda samples: pcm(samples, 24_000)),
    "16 kHz": ({"type": "audio/pcm", "rate": 16_000}, pcm),
    "pcmu": ({"type": "audio/pcmu"}, mulaw),
    "pcma": ({"type": "audio/pcma"}, alaw),
}
PACKETS = 50


class Session:
    """One connection of the library. Every event is of one of its types, field by field; but where
    the session `is_extended`, the library has no type for its configuration."""

    def __init__(self, connection: RealtimeConnection) -> None:
        self.connection = connection
        self.is_extended = False
        self.kinds: list[str] = []

    def receive(self) -> RealtimeServerEvent:
        content = self.connection.recv_bytes()
        event = self.connection.parse_event(content)
        if not (self.is_extended and event.type == "session.updated"):
            EVENTS.validate_json(content)
        self.kinds.append(event.type)
        return event

    def until(self, kind: type[E]) -> E:
        while not isinstance(event := self.receive(), kind):
            assert event.type != "error", event
        return event

    def configure(self, **audio_input: object) -> None:
        wanted: Any = session(**audio_input)
        self.is_extended = audio_input.get("format") == FORMATS["16 kHz"][0]
        self.connection.session.update(session=wanted)
        self.until(SessionUpdatedEvent)

    def say(self, content: bytes) -> None:
        size = len(content) // PACKETS + 1  # samples may be split between two packets
        for start in range(0, len(content), size):
            audio = base64.b64encode(content[start : start + size]).decode()
            self.connection.input_audio_buffer.append(audio=audio)


@contextmanager
def connected(server: Server, key: str = "any") -> Iterator[Session]:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key)
    with (
        client,
        client.realtime.connect(extra_query={"intent": "transcription"}, max_retries=0) as opened,
    ):
        talk = Session(opened)
        talk.until(SessionCreatedEvent)
        yield talk


@pytest.mark.parametrize("name", FORMATS)
def test_turns_are_ended_by_the_server_and_come_in_the_order_clients_expect(
    server: Server, name: str
) -> None:
    wanted, write = FORMATS[name]
    with connected(server) as talk:
        talk.configure(
            format=wanted,
            transcription={"model": "gpt-live-transcribe", "language": "en"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 800},
        )
        talk.say(write(np.concatenate([clip(TURN), SILENCE])))
        completed = talk.until(Completed)

    assert completed.transcript == SAID[TURN]
    assert set(talk.kinds[:-1]) >= {f"{TRANSCRIPTION}.delta"}
    assert [kind for kind in talk.kinds if not kind.endswith(".delta")] == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_client_that_ends_turns_itself_gets_one_item_for_each(server: Server, name: str) -> None:
    wanted, write = FORMATS[name]
    transcripts, order = [], []
    with connected(server) as talk:
        talk.configure(format=wanted, turn_detection=None)
        for said in (TURN, "digits_british.flac"):
            talk.say(write(clip(said)))
            talk.connection.input_audio_buffer.commit()
            committed = talk.until(InputAudioBufferCommittedEvent)
            order.append((committed.previous_item_id, committed.item_id))
            completed = talk.until(Completed)
            assert completed.item_id == committed.item_id
            transcripts.append(completed.transcript)

    assert transcripts == [SAID[TURN], SAID["digits_british.flac"]]
    [(nothing, first), (previous, _)] = order
    assert nothing is None
    assert previous == first
    assert "input_audio_buffer.speech_started" not in talk.kinds


def test_what_is_wrong_is_said_and_the_session_goes_on(server: Server) -> None:
    with connected(server) as talk:
        talk.configure(format={"type": "audio/pcm", "rate": 24_000}, turn_detection=None)
        talk.connection.send({"type": "input_audio_buffer.append", "audio": "?", "event_id": "one"})
        talk.connection.send({"type": "input_audio_buffer.commit", "event_id": "two"})
        talk.connection.send({"type": "response.create", "event_id": "three"})
        errors = [talk.receive() for _ in range(3)]
        talk.say(pcm(clip(TURN), 24_000))
        talk.connection.input_audio_buffer.commit()
        completed = talk.until(Completed)

    assert completed.transcript == SAID[TURN]
    details = [event.error for event in errors if isinstance(event, RealtimeErrorEvent)]
    assert [(error.event_id, error.code) for error in details] == [
        ("one", "invalid_value"),
        ("two", "input_audio_buffer_commit_empty"),
        ("three", "unsupported_event"),
    ]
    assert {error.type for error in details} == {"invalid_request_error"}


def test_a_wrong_key_is_refused_before_the_upgrade(strict: Server) -> None:
    with pytest.raises(InvalidStatus) as refusal, connected(strict, "sk-wrong"):
        pass

    assert refusal.value.response.status_code == 401
    assert json.loads(refusal.value.response.body)["error"]["code"] == "invalid_api_key"


def test_a_key_opens_a_session_though_no_engine_is_there(strict: Server) -> None:
    with connected(strict, KEY) as talk:
        talk.configure(turn_detection=None)

    assert talk.kinds == ["session.created", "session.updated"]
