"""What clients of OpenAI's realtime transcription set, and what is made of it."""

from typing import Any

import pytest

from gateway.live.events import (
    Reconfigure,
)
from protocol.live import Encoding, StreamFormat, TurnDetection
from tests.gateway.live.dialects import (
    Frame,
    appended,
    asked,
    error_of,
    frames,
    realtime,
    say,
)


def updated(query: str = "", **wishes: Any) -> tuple[Frame, Reconfigure]:
    """The answer to an update of audio.input, and what the session is asked."""
    requests = say(realtime(query), type="session.update", session={"audio": {"input": wishes}})
    [frame] = frames(requests)
    assert frame["type"] == "session.updated", frame
    [reconfigure] = asked(requests)
    assert isinstance(reconfigure, Reconfigure)
    return frame["session"]["audio"]["input"], reconfigure


@pytest.mark.parametrize("model", ["gpt-live-transcribe", "gpt-realtime-whisper"])
def test_models_that_end_no_turns_leave_them_to_clients_that_do_not_say(model: str) -> None:
    dialect = realtime()

    def detection(**wishes: Any) -> Any:
        [frame] = frames(say(dialect, type="session.update", session={"audio": {"input": wishes}}))
        return frame["session"]["audio"]["input"]["turn_detection"]

    assert detection(transcription={"model": model}) is None
    assert detection(transcription={"model": "gpt-transcribe"}) is not None
    assert detection(transcription={"model": model}, turn_detection={}) is not None
    assert detection(transcription={"model": model}) is not None


def test_a_model_named_in_the_handshake_decides_about_turns_from_the_beginning() -> None:
    [created] = frames(realtime("model=gpt-realtime-whisper").greeting(is_ready=True))

    assert created["session"]["audio"]["input"]["turn_detection"] is None
    told, asked = updated("model=gpt-realtime-whisper", noise_reduction=None)
    assert told["turn_detection"] is None
    assert asked.options.turn_detection is None


@pytest.mark.parametrize(
    ("wish", "told", "format"),
    [
        ({"type": "audio/pcm"}, {"type": "audio/pcm", "rate": 24000}, (Encoding.PCM16, 24000)),
        (
            {"type": "audio/pcm", "rate": 16000},
            {"type": "audio/pcm", "rate": 16000},
            (Encoding.PCM16, 16000),
        ),
        ({"type": "audio/pcmu"}, {"type": "audio/pcmu"}, (Encoding.MULAW, 8000)),
        ({"type": "audio/pcma", "rate": 8000}, {"type": "audio/pcma"}, (Encoding.ALAW, 8000)),
        (None, {"type": "audio/pcm", "rate": 24000}, (Encoding.PCM16, 24000)),
    ],
)
def test_formats_are_those_of_openai_and_any_rate(
    wish: Any, told: Frame, format: tuple[Encoding, int]
) -> None:
    effective, reconfigure = updated(format=wish)

    assert effective["format"] == told
    assert reconfigure.format == StreamFormat(*format, channels=1)


@pytest.mark.parametrize(
    ("wish", "detection"),
    [
        (None, None),
        ({}, TurnDetection(0.5, 300, 500)),
        ({"silence_duration_ms": 25}, TurnDetection(0.5, 300, 25)),
        (
            {
                "type": "server_vad",
                "threshold": 0.7,
                "prefix_padding_ms": 600,
                "silence_duration_ms": 350,
                "create_response": False,
                "interrupt_response": True,
                "idle_timeout_ms": 5000,
            },
            TurnDetection(0.7, 600, 350),
        ),
        ({"type": "semantic_vad"}, TurnDetection(0.5, 300, 1000)),
        ({"type": "semantic_vad", "eagerness": "low"}, TurnDetection(0.5, 300, 2000)),
        ({"type": "semantic_vad", "eagerness": "medium"}, TurnDetection(0.5, 300, 1000)),
        ({"type": "semantic_vad", "eagerness": "high"}, TurnDetection(0.5, 300, 500)),
    ],
)
def test_turns_end_as_the_client_wants(wish: Any, detection: TurnDetection | None) -> None:
    effective, reconfigure = updated(turn_detection=wish)

    assert reconfigure.options.turn_detection == detection
    assert (effective["turn_detection"] is None) == (detection is None)


def test_what_an_update_leaves_out_stays() -> None:
    dialect = realtime()
    inputs: list[Frame] = [
        {"transcription": {"language": "de", "prompt": "Berlin"}},
        {"transcription": {"keywords": [" Spree ", ""]}, "turn_detection": {"threshold": 0.9}},
        {"turn_detection": {"prefix_padding_ms": 100}, "format": {"rate": 8000}},
        {"transcription": {"prompt": None}},
    ]
    for each in inputs:
        requests = say(dialect, type="session.update", session={"audio": {"input": each}})

    assert frames(requests)[0]["session"]["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 8000},
        "transcription": {
            "model": "Qwen/Qwen3-ASR-1.7B",
            "language": "de",
            "prompt": "",
            "keywords": ["Spree"],
        },
        "noise_reduction": None,
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.9,
            "prefix_padding_ms": 100,
            "silence_duration_ms": 500,
        },
    }


def test_null_clears_transcription_and_its_options() -> None:
    dialect = realtime()
    german = {"audio": {"input": {"transcription": {"language": "de"}}}}
    say(dialect, type="session.update", session=german)
    cleared = {"audio": {"input": {"transcription": None}}}
    requests = say(dialect, type="session.update", session=cleared)

    assert frames(requests)[0]["session"]["audio"]["input"]["transcription"] is None
    [reconfigure] = asked(requests)
    assert isinstance(reconfigure, Reconfigure)
    assert reconfigure.options.language is None


@pytest.mark.parametrize(
    "session",
    [
        {},
        {"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief.", "tools": []},
        {"include": ["what.nobody.knows"], "tracing": "auto"},
        {"include": None, "audio": None},
        {"include": 5, "audio": {"input": None, "output": {"voice": "alloy"}}},
        {"audio": {"input": {"noise_reduction": {"type": "near_field", "strength": 2}}}},
        {"audio": {"input": {"noise_reduction": {"type": "studio"}}}},
        {"audio": {"input": {"noise_reduction": 1, "echo_cancellation": True}}},
        {"audio": {"input": {"transcription": {"delay": "ultra", "temperature": 0.2}}}},
        {"audio": {"input": {"transcription": {"language": "", "languages": []}}}},
        {"input_audio_noise_reduction": {"type": "far_field"}},
    ],
)
def test_options_that_do_no_harm_are_taken(session: Frame) -> None:
    requests = say(realtime(), type="session.update", session=session)

    assert [frame["type"] for frame in frames(requests)] == ["session.updated"]


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"audio": {"input": {"format": {"rate": 7999}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"format": {"rate": 8001}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"format": {"rate": True}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"format": {"type": "opus"}}}}, "session.audio.input.format.type"),
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        (
            {"audio": {"input": {"transcription": {"language": 5}}}},
            "session.audio.input.transcription.language",
        ),
        (
            {"audio": {"input": {"transcription": {"keywords": [1]}}}},
            "session.audio.input.transcription.keywords",
        ),
        (
            {"audio": {"input": {"transcription": {"prompt": "a" * 8193}}}},
            "session.audio.input.transcription.prompt",
        ),
        ({"turn_detection": {"threshold": 1.1}}, "session.turn_detection.threshold"),
        ({"turn_detection": {"type": "vad"}}, "session.turn_detection.type"),
        (
            {"turn_detection": {"type": "semantic_vad", "eagerness": ["low"]}},
            "session.turn_detection.eagerness",
        ),
        (
            {"turn_detection": {"silence_duration_ms": "500"}},
            "session.turn_detection.silence_duration_ms",
        ),
        ({"turn_detection": 5}, "session.turn_detection"),
        ({"audio": 5}, "session.audio"),
        (None, "session"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_changes_nothing(session: Any, param: str) -> None:
    dialect = realtime()
    before = dialect.opening.options
    error = error_of(say(dialect, type="session.update", event_id="mine", session=session))

    assert error["type"] == "invalid_request_error"
    assert (error["code"], error["event_id"]) == ("invalid_value", "mine")
    assert error["param"] == param
    assert dialect.opening.options == before


def test_the_format_cannot_change_once_there_is_audio() -> None:
    dialect = realtime()
    say(dialect, **appended())
    same = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}}
    other = {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}

    [reconfigure] = asked(say(dialect, type="session.update", session=same))
    error = error_of(say(dialect, type="session.update", session=other))

    assert isinstance(reconfigure, Reconfigure)
    assert reconfigure.format is None
    assert error["param"] == "session.audio.input.format"
    assert dialect.opening.format.encoding is Encoding.PCM16


@pytest.mark.parametrize(
    ("wish", "language", "languages"),
    [
        ({"language": "en-GB"}, "English", ()),
        ({"language": "Portuguese"}, "Portuguese", ()),
        ({"language": None}, None, ()),
        ({"languages": ["de", "en", "de-AT"]}, None, ("German", "English")),
        ({"languages": ["de"]}, "German", ()),
        ({"languages": ["de", "en"], "language": "fr"}, "French", ()),
    ],
)
def test_languages_are_codes_or_names(
    wish: Frame, language: str | None, languages: tuple[str, ...]
) -> None:
    _, reconfigure = updated(transcription=wish)

    assert reconfigure.options.language == language
    assert reconfigure.options.languages == languages


def test_an_operator_may_have_a_language_detected_that_clients_always_send() -> None:
    dialect = realtime(realtime_ignore_language=("English",))
    options = []
    for language in ("en", "de"):
        session = {"audio": {"input": {"transcription": {"language": language}}}}
        say(dialect, type="session.update", session=session)
        options.append(dialect.opening.options.language)

    assert options == [None, "German"]


@pytest.mark.parametrize(
    ("delay", "seconds"), [("minimal", 0.25), ("low", 0.5), ("high", 1.5), (None, 0.5)]
)
def test_delay_says_how_often_there_is_a_text(delay: str | None, seconds: float) -> None:
    _, reconfigure = updated(transcription={"delay": delay})

    assert reconfigure.options.step_seconds == seconds


def test_the_rate_of_the_query_wins_over_what_a_client_says() -> None:
    effective, reconfigure = updated("sample_rate=16000", format={"type": "audio/pcm"})

    assert effective["format"] == {"type": "audio/pcm", "rate": 16000}
    assert reconfigure.format == StreamFormat(Encoding.PCM16, 16000, 1)
    _, reconfigure = updated("sample_rate=16000", format={"type": "audio/pcmu"})
    assert reconfigure.format == StreamFormat(Encoding.MULAW, 8000, 1)


def test_a_language_that_the_model_does_not_know_is_detected() -> None:
    dialect = realtime()
    update = {"audio": {"input": {"transcription": {"language": "tlh", "languages": ["tlh"]}}}}

    requests = say(dialect, type="session.update", session=update)

    assert [type(request).__name__ for request in requests] == ["Reconfigure", "Reply"]
    assert dialect.opening.options.language is None
    assert dialect.opening.options.languages == ()
