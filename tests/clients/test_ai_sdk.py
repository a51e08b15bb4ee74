"""The Vercel AI SDK, whose schema of an answer is strict, against the whole server."""

import pytest

from tests.clients.conftest import AI_SDKS, CALL, CLIP, MORE_AI_SDKS, SILENCE, SPEECH, Clients
from tests.clients.drivers import Driver
from tests.together.processes import Server

NAMES = [*AI_SDKS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE_AI_SDKS)]


@pytest.fixture(params=NAMES)
def sdk(request: pytest.FixtureRequest, clients: Clients) -> Driver:
    return clients.get(request.param)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "somebody/some-model"])
def test_a_recording_is_transcribed_under_every_model_name(
    sdk: Driver, server: Server, words: list[str], model: str
) -> None:
    value = sdk.value("transcribe", server.port, CLIP, model=model)

    assert value["text"].split() == words
    assert value["warnings"] == []


def test_segments_duration_and_language_reach_the_caller(
    sdk: Driver, server: Server, words: list[str]
) -> None:
    value = sdk.value(
        "transcribe", server.port, CLIP, model="whisper-1", timestampGranularities=["segment"]
    )

    assert value["language"] == "en"
    assert value["durationInSeconds"] > 1
    assert "".join(segment["text"] for segment in value["segments"]).split() == words
    for segment in value["segments"]:
        assert 0 <= segment["startSecond"] < segment["endSecond"] <= value["durationInSeconds"]


def test_words_reach_the_caller(sdk: Driver, server: Server, words: list[str]) -> None:
    value = sdk.value(
        "transcribe", server.port, CLIP, model="whisper-1", timestampGranularities=["word"]
    )

    assert [segment["text"] for segment in value["segments"]] == words


def test_every_option_is_taken(sdk: Driver, server: Server, words: list[str]) -> None:
    value = sdk.value(
        "transcribe",
        server.port,
        CLIP,
        model="gpt-4o-transcribe",
        include=["logprobs"],
        language="en",
        prompt="Digits.",
        temperature=0.2,
        timestampGranularities=["segment"],
    )

    assert value["text"].split() == words


def test_the_chunking_strategy_of_the_newest_is_taken(
    clients: Clients, server: Server, words: list[str]
) -> None:
    strategy = {"type": "server_vad", "threshold": 0.5, "silenceDurationMs": 200}
    sdk = clients.get("ai_sdk_4")
    value = sdk.value(
        "transcribe", server.port, CLIP, model="gpt-4o-transcribe", chunkingStrategy=strategy
    )

    assert value["text"].split() == words


def test_speakers_on_two_channels_reach_callers_of_the_newest(
    clients: Clients, server: Server
) -> None:
    value = clients.get("ai_sdk_4").value(
        "transcribe", server.port, CALL, model="gpt-4o-transcribe-diarize"
    )

    assert {segment["speaker"] for segment in value["diarized"]} == {"A", "B"}
    assert value["text"].startswith("A: ")


def test_silence_is_told_from_a_failure(sdk: Driver, server: Server) -> None:
    outcome = sdk.call("transcribe", server.port, SILENCE, model="whisper-1", max_retries=2)

    if sdk.name == "ai_sdk_3":  # has an error of its own for an empty text
        assert outcome["error"]["class"] == "AI_NoTranscriptGeneratedError"
    else:
        assert outcome["value"]["text"] == ""
    assert [attempt["status"] for attempt in outcome["attempts"]] == [200]


def test_what_cannot_be_done_is_said_once_and_with_our_words(sdk: Driver, server: Server) -> None:
    outcome = sdk.call(
        "transcribe", server.port, CLIP, model="whisper-1", language="klingon", max_retries=2
    )

    error = outcome["error"]
    assert (error["status"], error["isRetryable"]) == (400, False)
    assert (error["param"], error["code"]) == ("language", "invalid_value")
    assert "klingon" in error["message"]
    assert len(outcome["attempts"]) == 1


def test_a_file_that_is_no_audio_is_refused(sdk: Driver, server: Server) -> None:
    error = sdk.call("transcribe", server.port, SPEECH / "README.md", model="whisper-1")["error"]

    assert (error["status"], error["code"]) == (400, "audio_undecodable")


def test_a_wrong_key_is_refused(sdk: Driver, strict: Server) -> None:
    error = sdk.call("transcribe", strict.port, CLIP, model="whisper-1", key="sk-wrong")["error"]

    assert (error["status"], error["code"]) == (401, "invalid_api_key")
