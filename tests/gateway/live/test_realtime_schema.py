"""Every event is one that the official package reads, by its own types."""

import pytest
from openai.types.beta.realtime.transcription_session import TranscriptionSession
from openai.types.realtime import (
    ClientSecretCreateResponse,
    RealtimeErrorEvent,
    RealtimeTranscriptionSessionCreateResponse,
)
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.live.client_secret_requests import answer, parse_request
from tests.gateway.live.dialects import (
    conversation,
)

EVENT: TypeAdapter[RealtimeServerEvent] = TypeAdapter(RealtimeServerEvent)
QUERIES = ("", "model=whisper-1", "model=gpt-4o-transcribe-diarize", "extensions=1&channels=2")


@pytest.mark.parametrize("headers", [{}, {"openai-beta": "realtime=v1"}], ids=["ga", "beta"])
@pytest.mark.parametrize("query", QUERIES)
def test_every_event_is_read_by_the_official_package(query: str, headers: dict[str, str]) -> None:
    told = conversation(query, headers)
    of_openai = [
        frame for frame in told if not frame["type"].startswith(("qwen.", "transcription_session."))
    ]

    assert len({frame["type"] for frame in of_openai}) >= 14 - 3 * bool(headers)
    for frame in of_openai:
        read = EVENT.validate_python(frame)
        assert read.type == frame["type"]
        if frame["type"] == "error":
            assert RealtimeErrorEvent.model_validate(frame, strict=True)


def test_sessions_are_read_by_the_official_package() -> None:
    for frame in conversation("", {}):
        if frame["type"].startswith("session."):
            read = RealtimeTranscriptionSessionCreateResponse.model_validate(frame["session"])
            assert read.audio is not None
            assert read.audio.input is not None
            assert read.audio.input.transcription is not None
            assert not set(frame["session"]) - set(read.model_fields_set)


def test_client_secrets_are_read_by_the_official_package() -> None:
    asked = parse_request(b"", default_model="whisper-1", is_flat=False)
    told = answer(asked, value="ek_1", expires_at=5, session_id="sess_1", is_flat=False)
    flat = answer(asked, value="ek_1", expires_at=5, session_id="sess_1", is_flat=True)

    assert ClientSecretCreateResponse.model_validate(told).value == "ek_1"
    assert TranscriptionSession.model_validate(flat).client_secret.value == "ek_1"
