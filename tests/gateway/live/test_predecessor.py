"""Conversations with clients of jaaacki/qwen3-asr's /ws/transcribe, frame by frame."""

from typing import Any

import pytest

from gateway.live.events import (
    Audio,
    AudioCleared,
    ClearAudio,
    CommitTurn,
    EngineReady,
    EngineWarming,
    Hangup,
    Reconfigure,
    Reply,
    SessionEnded,
)
from protocol.live import Encoding, Strategy, StreamFormat, TurnDetection
from tests.gateway.live.dialects import (
    Frame,
    asked,
    committed,
    completed,
    failed,
    frames,
    grown,
    hear,
    predecessor,
    refused,
    say,
    started,
    stopped,
)

SERVER_VAD = TurnDetection(0.5, 300, 500)


def final(text: str) -> Frame:
    return {"text": text, "is_partial": False, "is_final": True}


def connected(query: str = "", **settings: Any) -> Frame:
    [frame] = frames(predecessor(query, **settings).greeting(is_ready=True))
    return frame


def test_the_first_message_has_what_clients_read_and_the_state_of_the_engine() -> None:
    [warming] = frames(predecessor("call_id=7").greeting(is_ready=False))

    assert warming == {
        "status": "connected",
        "sample_rate": 16000,
        "format": "pcm_s16le",
        "buffer_size": 14400,
        "window_max_s": 6.0,
        "use_server_vad": True,
        "engine": "warming_up",
        "call_id": "7",
    }
    assert connected()["engine"] == "ready"


def test_english_is_expected_until_a_client_says_otherwise() -> None:
    options = predecessor().opening.options

    assert options.language == "English"
    assert options.turn_detection == SERVER_VAD
    assert options.step_seconds == 0.45
    assert options.strategy is Strategy.VERIFY
    assert options.wants_partials


def test_operators_set_what_clients_do_not_say() -> None:
    told = connected(ws_server_vad=False, ws_buffer_bytes=6400, ws_window_max=12.0)
    options = predecessor(ws_server_vad=False, ws_buffer_bytes=6400).opening.options

    assert (told["buffer_size"], told["window_max_s"], told["use_server_vad"]) == (
        6400,
        12.0,
        False,
    )
    assert options.turn_detection is None
    assert options.step_seconds == 0.2
    assert connected("use_server_vad=yes", ws_server_vad=False)["use_server_vad"] is True


@pytest.mark.parametrize(
    ("word", "is_on"),
    [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("maybe", False)],
)
def test_server_vad_is_switched_in_the_query(word: str, is_on: bool) -> None:
    assert connected(f"use_server_vad={word}")["use_server_vad"] is is_on


def test_partials_replace_each_other_and_finals_come_when_somebody_is_silent() -> None:
    told = hear(
        predecessor(),
        EngineWarming(),
        EngineReady(),
        started(),
        grown("", "", ""),
        grown("zero", "zero", " won"),
        grown("", "zero", " one"),
        stopped(),
        committed(),
        completed("zero one", " one"),
        committed("item_2"),
        completed("", item_id="item_2"),
        SessionEnded(None, ""),
    )

    assert told == [
        {"text": "zero won", "is_partial": True, "is_final": False},
        {"text": "zero one", "is_partial": True, "is_final": False},
        final("zero one"),
    ]


def test_slow_readers_miss_partials_and_no_finals() -> None:
    dialect = predecessor()
    requests = dialect.event(grown("zero", "zero")) + dialect.event(completed("zero"))

    assert [each.may_drop for each in requests if isinstance(each, Reply)] == [True, False]


def test_audio_goes_to_the_session_as_it_comes() -> None:
    assert predecessor().bytes_received(b"\1\2\3") == [Audio(b"\1\2\3")]
    assert predecessor().bytes_received(b"") == []


def test_a_flush_is_answered_by_one_final_also_where_nobody_spoke() -> None:
    dialect = predecessor()

    assert say(dialect, action="flush") == [CommitTurn(even_if_empty=True)]
    assert hear(dialect, committed(by_client=True)) == []
    assert hear(dialect, completed("")) == [final("")]


def test_a_flush_answers_what_has_ended_but_was_not_told() -> None:
    dialect = predecessor()
    told = hear(dialect, started(), stopped(), committed())
    say(dialect, action="flush")
    told += hear(dialect, committed("item_2"))
    told += hear(dialect, committed("item_3", by_client=True))
    told += hear(dialect, completed("", item_id="item_3"), completed("two", item_id="item_2"))

    assert told == []
    assert hear(dialect, completed("zero one")) == [final("zero one two")]


def test_what_is_said_behind_a_flush_has_a_final_of_its_own() -> None:
    dialect = predecessor()
    say(dialect, action="flush")
    told = hear(dialect, committed(by_client=True), committed("item_2"))
    told += hear(dialect, completed("two", item_id="item_2"))
    told += hear(dialect, completed("zero"))

    assert told == [final("two"), final("zero")]


def test_two_flushes_are_answered_in_their_order() -> None:
    dialect = predecessor()
    say(dialect, action="flush")
    say(dialect, action="flush")
    told = hear(
        dialect,
        committed(by_client=True),
        committed("item_2", by_client=True),
        completed("", item_id="item_2"),
    )

    assert told == []
    assert hear(dialect, completed("zero")) == [final("zero"), final("")]


def test_a_reset_is_confirmed_and_forgets_what_was_not_told() -> None:
    dialect = predecessor()
    hear(dialect, started(), stopped(), committed())

    assert say(dialect, action="reset") == [ClearAudio()]
    assert hear(dialect, AudioCleared()) == [{"status": "buffer_reset"}]
    assert hear(dialect, completed("zero")) == []


def test_actions_are_answered_in_their_order() -> None:
    dialect = predecessor()
    told = frames(say(dialect, action="flush"))
    told += hear(dialect, committed(by_client=True))
    told += frames(say(dialect, action="reset"))
    told += hear(dialect, AudioCleared())
    told += frames(say(dialect, action="config", language="de"))

    assert told == []
    assert hear(dialect, completed("zero")) == [
        final("zero"),
        {"status": "buffer_reset"},
        {"status": "configured", "language": "de", "use_server_vad": True},
    ]


def test_a_flush_that_no_engine_answers_is_answered_before_the_end() -> None:
    dialect = predecessor()
    say(dialect, action="flush")
    told = hear(dialect, committed(by_client=True), SessionEnded("timed_out", "Try again."))

    error = {"code": "WEBSOCKET_ERROR", "message": "Try again.", "statusCode": 500}
    assert told == [final(""), error]


@pytest.mark.parametrize("query", ["", "channels=2"])
def test_more_actions_than_can_wait_are_refused(query: str) -> None:
    dialect = predecessor(query)
    for _ in range(64):
        assert asked(say(dialect, action="flush"))

    for action in ("flush", "reset", "config"):
        requests = say(dialect, action=action)
        assert asked(requests) == []
        assert frames(requests)[0]["code"] == "TOO_MANY_ACTIONS"


@pytest.mark.parametrize(
    ("wishes", "language", "name", "uses_server_vad"),
    [
        ({"language": "de"}, "de", "German", True),
        ({"language": "German"}, "German", "German", True),
        ({"language": "auto"}, "auto", None, True),
        ({"language": None}, "auto", None, True),
        ({}, "English", "English", True),
        ({"use_server_vad": False}, "English", "English", False),
        ({"use_server_vad": "false"}, "English", "English", False),
        ({"use_server_vad": "1", "language": "zh"}, "zh", "Chinese", True),
    ],
)
def test_a_client_configures_language_and_server_vad(
    wishes: Frame, language: str, name: str | None, uses_server_vad: bool
) -> None:
    requests = say(predecessor(), action="config", **wishes)

    configured = {
        "status": "configured",
        "language": language,
        "use_server_vad": uses_server_vad,
    }
    assert frames(requests) == [configured]
    [reconfigure] = asked(requests)
    assert isinstance(reconfigure, Reconfigure)
    assert reconfigure.options.language == name
    assert reconfigure.options.turn_detection == (SERVER_VAD if uses_server_vad else None)


@pytest.mark.parametrize("language", ["tlh", 5, ["de"], "a" * 65])
def test_a_language_that_is_not_known_changes_nothing(language: Any) -> None:
    requests = say(predecessor(), action="config", language=language)

    assert asked(requests) == []
    assert frames(requests)[0]["code"] == "UNSUPPORTED_LANGUAGE"
    assert frames(requests)[0]["statusCode"] == 400


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "INVALID_JSON"),
        ("[]", "INVALID_JSON"),
        ("[" * 100_000, "INVALID_JSON"),
        ("{}", "UNKNOWN_ACTION"),
        ('{"action": "stop"}', "UNKNOWN_ACTION"),
        ('{"action": ["flush"]}', "UNKNOWN_ACTION"),
    ],
)
def test_what_is_no_action_is_answered_and_the_connection_stays(text: str, code: str) -> None:
    requests = predecessor().text_received(text)

    [error] = frames(requests)
    assert asked(requests) == []
    assert set(error) == {"code", "message", "statusCode"}
    assert (error["code"], error["statusCode"]) == (code, 400)


def test_what_cannot_be_transcribed_is_said_as_text() -> None:
    dialect = predecessor()

    assert hear(dialect, failed()) == [final("[error: This could not be transcribed.]")]
    assert hear(dialect, failed("item_2", code="timed_out")) == [final("[timeout]")]


def test_an_engine_that_cannot_be_started_has_a_code_of_its_own() -> None:
    [told] = hear(predecessor(), SessionEnded("worker_unavailable", "Try again later."))

    assert (told["code"], told["statusCode"]) == ("WORKER_STARTUP_FAILED", 503)


@pytest.mark.parametrize(
    ("query", "format", "name"),
    [
        ("sample_rate=8000", StreamFormat(Encoding.PCM16, 8000, 1), "pcm_s16le"),
        ("encoding=mulaw", StreamFormat(Encoding.MULAW, 8000, 1), "mulaw"),
        ("encoding=alaw&channels=2", StreamFormat(Encoding.ALAW, 8000, 2), "alaw"),
        ("sample_rate=48000&events=1", StreamFormat(Encoding.PCM16, 48000, 1), "pcm_s16le"),
    ],
)
def test_audio_may_be_of_other_formats(query: str, format: StreamFormat, name: str) -> None:
    assert predecessor(query).opening.format == format
    assert connected(query)["format"] == name
    assert connected(query)["sample_rate"] == format.sample_rate


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sample_rate=24000", "UNSUPPORTED_SAMPLE_RATE"),
        ("sample_rate=fast", "UNSUPPORTED_SAMPLE_RATE"),
        ("sample_rate=96000&events=1", "INVALID_PARAMETER"),
        ("sample_rate=8001&events=1", "INVALID_PARAMETER"),
        ("encoding=opus", "INVALID_PARAMETER"),
        ("channels=3", "INVALID_PARAMETER"),
        ("threshold=2", "INVALID_PARAMETER"),
        ("language=tlh", "INVALID_PARAMETER"),
        ("strategy=guess", "INVALID_PARAMETER"),
        ("call_id=%0a", "INVALID_PARAMETER"),
    ],
)
def test_what_cannot_be_served_is_told_inside_the_connection_which_is_then_closed(
    query: str, code: str
) -> None:
    dialect = refused(query)
    requests = dialect.greeting(is_ready=True)

    [error] = frames(requests)
    assert (error["code"], error["statusCode"]) == (code, 400)
    assert asked(requests) == [Hangup(1008, code)]
    assert dialect.text_received('{"action": "flush"}') == dialect.bytes_received(b"\0") == []
    assert dialect.event(EngineWarming()) == []
    assert dialect.opening.format == StreamFormat(Encoding.PCM16, 16000, 1)


def test_rules_of_server_vad_can_be_set() -> None:
    query = "threshold=0.7&prefix_padding_ms=100&silence_duration_ms=900&use_server_vad=0"
    dialect = predecessor(query)
    [reconfigure] = asked(say(dialect, action="config", use_server_vad=True))

    assert dialect.opening.options.turn_detection is None
    assert isinstance(reconfigure, Reconfigure)
    assert reconfigure.options.turn_detection == TurnDetection(0.7, 100, 900)


def test_the_official_packages_strategy_can_be_asked_for() -> None:
    usual = predecessor("strategy=rollback").opening.options
    own = predecessor(
        "strategy=rollback&chunk_size_sec=1.5&unfixed_chunk_num=3&unfixed_token_num=7"
        "&max_new_tokens=20"
    ).opening.options

    assert usual.strategy is own.strategy is Strategy.ROLLBACK
    assert (usual.step_seconds, usual.unfixed_steps, usual.unfixed_tokens) == (2.0, 2, 5)
    assert (own.step_seconds, own.unfixed_steps, own.unfixed_tokens) == (1.5, 3, 7)
    assert own.max_new_tokens == 20


def test_those_who_want_events_are_told_more() -> None:
    told = hear(
        predecessor("events=1"),
        EngineWarming(),
        EngineReady(),
        started(),
        grown("zero", "zero", " one"),
        stopped(),
        committed(),
        completed("zero one", " one"),
    )

    ids = {"item_id": "item_1", "channel": 0}
    heard = {"language": "English", "lag_ms": 40}
    assert told == [
        {"event": "warming_up"},
        {"event": "ready"},
        {"event": "speech_started", **ids, "start_ms": 200},
        {
            "text": "zero one",
            "is_partial": True,
            "is_final": False,
            **ids,
            "stable": "zero",
            **heard,
        },
        {"event": "speech_stopped", **ids, "end_ms": 1700},
        {**final("zero one"), **ids, **heard, "lag_ms": 90, "start_ms": 200, "end_ms": 1700},
    ]


def test_results_of_two_channels_say_whose_they_are_and_each_has_its_own() -> None:
    dialect = predecessor("channels=2")
    hear(dialect, committed("item_1"))
    say(dialect, action="flush")
    told = hear(
        dialect,
        grown("two", "two", item_id="item_2", channel=1),
        committed("item_2", channel=1, by_client=True),
        completed("zero"),
        completed("", item_id="item_2", channel=1),
        committed("item_3"),
        completed("", item_id="item_3"),
    )

    caller, callee = {"channel": 0, "track": "caller"}, {"channel": 1, "track": "callee"}
    assert told == [
        {"text": "two", "is_partial": True, "is_final": False, **callee},
        {**final("zero"), **caller},
        {**final(""), **callee},
    ]


def test_a_reset_of_two_channels_forgets_what_was_not_told() -> None:
    dialect = predecessor("channels=2")
    hear(dialect, committed("item_1"))
    say(dialect, action="reset")

    assert hear(dialect, AudioCleared()) == [{"status": "buffer_reset"}]
    assert hear(dialect, completed("zero"), SessionEnded(None, "")) == []
