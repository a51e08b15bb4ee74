"""OpenAI's own libraries against the whole server, one file for all their versions."""

from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import (
    CALL,
    CLIP,
    KEY,
    LONG,
    MORE_SDKS,
    SDKS,
    SILENCE,
    SPEECH,
    Clients,
)
from tests.clients.drivers import Driver
from tests.together.processes import Server

MODELS = ("whisper-1", "gpt-4o-transcribe", "embedded", "somebody/some-model")


NAMES = [*SDKS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE_SDKS)]


@pytest.fixture(params=NAMES)
def sdk(request: pytest.FixtureRequest, clients: Clients) -> Driver:
    return clients.get(request.param)


def spelled(logprobs: list[dict[str, Any]]) -> str:
    """The text of all tokens' bytes, which Python gives as floats where it is not a stream."""
    return bytes(int(byte) for token in logprobs for byte in token["bytes"]).decode()


def is_python(sdk: Driver) -> bool:
    return "python" in sdk.name


@pytest.mark.parametrize("file_as", ["stream", "bytes"])
def test_a_recording_is_transcribed(
    sdk: Driver, server: Server, words: list[str], file_as: str
) -> None:
    outcome = sdk.call("transcribe", server.port, CLIP, file_as=file_as, model="whisper-1")

    assert outcome["class"] == ("Transcription" if is_python(sdk) else "object")
    assert outcome["value"]["text"].split() == words
    assert outcome["value"]["languages"] == [{"code": "en"}]
    usage = outcome["value"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert outcome["request_id"] == outcome["attempts"][0]["headers"]["x-request-id"]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_name_is_served_by_the_one_model(
    sdk: Driver, server: Server, words: list[str], model: str
) -> None:
    outcome = sdk.call("transcribe", server.port, CLIP, model=model)

    assert outcome["value"]["text"].split() == words
    assert outcome["attempts"][0]["headers"]["x-model"] == "embedded"


@pytest.mark.parametrize(
    ("response_format", "begins", "line"),
    [
        ("srt", "1\n00:00:", " --> "),
        ("vtt", "WEBVTT\n\n", " --> "),
        ("ass", "[Script Info]\n", "Dialogue: "),
        ("lrc", "[", "[00:"),
    ],
    ids=["srt", "vtt", "ass", "lrc"],
)
def test_subtitles_come_as_text(
    sdk: Driver, server: Server, words: list[str], response_format: str, begins: str, line: str
) -> None:
    text = sdk.value(
        "transcribe", server.port, CLIP, model="whisper-1", response_format=response_format
    )

    assert text.startswith(begins)
    assert line in text
    assert all(word in text for word in words)


def test_text_comes_as_text(sdk: Driver, server: Server, words: list[str]) -> None:
    text = sdk.value("transcribe", server.port, CLIP, model="m", response_format="text")

    assert text == " ".join(words) + "\n"


def test_verbose_json_has_segments_with_all_ten_fields(
    sdk: Driver, server: Server, words: list[str]
) -> None:
    outcome = sdk.call(
        "transcribe", server.port, CLIP, model="whisper-1", response_format="verbose_json"
    )

    value = outcome["value"]
    if is_python(sdk):
        assert outcome["class"] == "TranscriptionVerbose"
    assert value["language"] == "english"
    assert value["duration"] > 1
    assert "words" not in value
    assert "".join(segment["text"] for segment in value["segments"]).split() == words
    for number, segment in enumerate(value["segments"]):
        assert segment["id"] == number
        assert 0 <= segment["start"] < segment["end"] <= value["duration"]
        for name in ("seek", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"):
            assert isinstance(segment[name], int | float), name
        assert segment["tokens"]


@pytest.mark.parametrize("granularities", [["word"], ["word", "segment"], ["segment"]])
def test_timestamp_granularities_choose_what_is_listed(
    sdk: Driver, server: Server, words: list[str], granularities: list[str]
) -> None:
    value = sdk.value(
        "transcribe",
        server.port,
        CLIP,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=granularities,
    )

    assert ("segments" in value) == ("segment" in granularities)
    if "word" in granularities:
        assert [word["word"] for word in value["words"]] == words
        starts = [word["start"] for word in value["words"]]
        assert starts == sorted(starts)
    else:
        assert "words" not in value


def test_speakers_on_two_channels_are_told_apart(sdk: Driver, server: Server) -> None:
    outcome = sdk.call(
        "transcribe",
        server.port,
        CALL,
        model="gpt-4o-transcribe-diarize",
        response_format="diarized_json",
        chunking_strategy="auto",
    )

    segments = outcome["value"]["segments"]
    if sdk.name in ("openai_python_2", "openai_python_3"):
        assert outcome["class"] == "TranscriptionDiarized"
    assert {segment["speaker"] for segment in segments} == {"A", "B"}
    assert segments[0]["id"] == "seg_001"
    assert outcome["value"]["text"].startswith("A: ")


def test_token_probabilities_spell_the_text(sdk: Driver, server: Server) -> None:
    value = sdk.value(
        "transcribe", server.port, CLIP, model="gpt-4o-transcribe", include=["logprobs"]
    )

    assert spelled(value["logprobs"]) == value["text"]
    assert all(token["logprob"] <= 0 for token in value["logprobs"])


def test_every_field_of_the_newest_sdk_is_taken(
    sdk: Driver, server: Server, words: list[str]
) -> None:
    value = sdk.value(
        "transcribe",
        server.port,
        CLIP,
        model="gpt-transcribe",
        languages=["en", "de"],
        keywords=["zero", "nine"],
        prompt="Digits.",
        temperature=0.2,
        chunking_strategy={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200},
        known_speaker_names=["agent"],
        known_speaker_references=["data:audio/wav;base64,UklGRg=="],
    )

    assert value["text"].split() == words


def test_silence_is_an_empty_text(sdk: Driver, server: Server) -> None:
    assert sdk.value("transcribe", server.port, SILENCE, model="whisper-1")["text"] == ""


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-mini-transcribe"])
def test_streamed_text_is_the_text_of_done(sdk: Driver, server: Server, model: str) -> None:
    plain = sdk.value("transcribe", server.port, LONG, model=model)
    events = sdk.call("transcribe", server.port, LONG, model=model, stream=True)["events"]

    *deltas, done = events
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert len(deltas) > 1
    assert "".join(event["delta"] for event in deltas) == done["text"] == plain["text"]
    assert done["usage"]["total_tokens"] > 0


def test_streamed_probabilities_spell_the_deltas(sdk: Driver, server: Server) -> None:
    outcome = sdk.call(
        "transcribe", server.port, CLIP, model="m", stream=True, include=["logprobs"]
    )

    *deltas, done = outcome["events"]
    assert deltas
    for event in [*deltas, {**done, "delta": done["text"]}]:
        assert spelled(event["logprobs"]) == event["delta"]


def test_streamed_turns_name_their_speakers(sdk: Driver, server: Server) -> None:
    outcome = sdk.call(
        "transcribe", server.port, CALL, model="m", stream=True, response_format="diarized_json"
    )

    segments = [event for event in outcome["events"] if event["type"] == "transcript.text.segment"]
    assert {event["speaker"] for event in segments} == {"A", "B"}
    assert outcome["events"][-1]["type"] == "transcript.text.done"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"language": "klingon"}, "language", "invalid_value"),
        ({"response_format": "docx"}, "response_format", "unsupported_value"),
        ({"temperature": 7}, "temperature", "invalid_value"),
        ({"response_format": "diarized_json"}, "response_format", "unsupported_value"),
    ],
    ids=["language", "format", "temperature", "one_channel"],
)
def test_what_cannot_be_done_is_a_bad_request_that_names_the_field(
    sdk: Driver, server: Server, fields: dict[str, Any], param: str, code: str, stream: bool
) -> None:
    outcome = sdk.call(
        "transcribe", server.port, CLIP, max_retries=2, model="m", stream=stream, **fields
    )

    error = outcome["error"]
    assert (error["class"], error["status"]) == ("BadRequestError", 400)
    assert error["code"] == code
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["request_id"]
    assert len(outcome["attempts"]) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_that_is_no_audio_is_a_bad_request(
    sdk: Driver, server: Server, stream: bool
) -> None:
    outcome = sdk.call(
        "transcribe", server.port, SPEECH / "README.md", max_retries=2, model="m", stream=stream
    )

    error = outcome["error"]
    assert (error["class"], error["code"]) == ("BadRequestError", "audio_undecodable")
    assert len(outcome["attempts"]) == 1


def test_models_are_listed_and_found_by_ids_with_a_slash(sdk: Driver, strict: Server) -> None:
    listed = sdk.call("models", strict.port, key=KEY)["value"]
    outcome = sdk.call("model", strict.port, key=KEY, id="Qwen/Qwen3-ASR-0.6B")

    assert listed[0]["id"] == outcome["value"]["id"] == "Qwen/Qwen3-ASR-0.6B"
    slash = "/" if sdk.name == "openai_python_1" else "%2F"
    assert outcome["attempts"][0]["path"] == f"/v1/models/Qwen{slash}Qwen3-ASR-0.6B"
    assert sdk.value("model", strict.port, key=KEY, id="whisper-1")["id"] == "whisper-1"


def test_an_unknown_model_is_not_found(sdk: Driver, strict: Server) -> None:
    error = sdk.call("model", strict.port, key=KEY, id="some/body", max_retries=2)["error"]

    assert (error["class"], error["code"]) == ("NotFoundError", "model_not_found")


def test_a_wrong_key_is_refused(sdk: Driver, strict: Server) -> None:
    outcome = sdk.call("transcribe", strict.port, CLIP, key="sk-wrong", max_retries=2, model="m")

    error = outcome["error"]
    assert (error["class"], error["status"]) == ("AuthenticationError", 401)
    assert error["code"] == "invalid_api_key"
    assert len(outcome["attempts"]) == 1


@pytest.mark.parametrize("file_as", ["stream", "bytes"])
def test_a_file_that_is_too_large_is_refused_once_and_not_by_a_broken_connection(
    sdk: Driver, strict: Server, file_as: str, tmp_path: Path
) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(5_000_000))
    outcome = sdk.call(
        "transcribe", strict.port, large, file_as=file_as, key=KEY, max_retries=2, model="m"
    )

    assert outcome["error"]["status"] == 413
    assert outcome["error"]["code"] == "upload_too_large"
    assert len(outcome["attempts"]) == 1


def test_a_translation_nobody_can_make_is_not_tried_again(sdk: Driver, server: Server) -> None:
    outcome = sdk.call(
        "translate", server.port, CLIP, max_retries=2, model="whisper-1", target_language="de"
    )

    error = outcome["error"]
    assert (error["class"], error["status"]) == ("InternalServerError", 502)
    assert error["code"] == "translation_failed"
    [attempt] = outcome["attempts"]
    assert attempt["headers"]["x-should-retry"] == "false"
