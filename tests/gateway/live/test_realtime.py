"""Conversations with clients of OpenAI's realtime transcription, frame by frame."""

import json

import pytest

from gateway.errors import BadRequest
from gateway.live.events import (
    Audio,
    AudioCleared,
    ClearAudio,
    CommitRefused,
    CommitTurn,
    EngineReady,
    EngineWarming,
    Reconfigure,
    Reply,
    SessionEnded,
)
from gateway.live.realtime_session import SessionConfig, Transcription
from protocol.live import Encoding, StreamFormat
from tests.gateway.live.dialects import (
    Frame,
    appended,
    asked,
    committed,
    completed,
    error_of,
    failed,
    frames,
    grown,
    hear,
    realtime,
    say,
    started,
    stopped,
)

TRANSCRIPTION = "conversation.item.input_audio_transcription"
BETA = {"openai-beta": "realtime=v1"}
LOGPROBS = "item.input_audio_transcription.logprobs"
DEFAULT_SESSION = {
    "type": "transcription",
    "object": "realtime.transcription_session",
    "id": "sess_1",
    "expires_at": None,
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "Qwen/Qwen3-ASR-1.7B", "language": None, "prompt": ""},
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
            },
        }
    },
    "include": None,
}


def without_ids(told: list[Frame]) -> list[Frame]:
    return [{key: each[key] for key in each if key != "event_id"} for each in told]


def item(item_id: str, transcript: str | None = None) -> Frame:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": transcript}],
    }


def test_the_whole_session_is_told_first() -> None:
    [frame] = frames(realtime().greeting(is_ready=False))

    assert frame["type"] == "session.created"
    assert frame["session"] == DEFAULT_SESSION


def test_a_turn_found_by_the_server_is_told_in_the_order_clients_rely_on() -> None:
    told = hear(
        realtime(),
        started(),
        grown("zero", "zero", " one"),
        grown("", "zero", " one two"),
        stopped(),
        committed(previous="item_0"),
        completed("zero one", " one"),
    )

    ids = {"item_id": "item_1"}
    assert without_ids(told) == [
        {"type": "input_audio_buffer.speech_started", **ids, "audio_start_ms": 200},
        {"type": f"{TRANSCRIPTION}.delta", **ids, "content_index": 0, "delta": "zero"},
        {"type": "input_audio_buffer.speech_stopped", **ids, "audio_end_ms": 1700},
        {"type": "input_audio_buffer.committed", **ids, "previous_item_id": "item_0"},
        {
            "type": "conversation.item.added",
            "previous_item_id": "item_0",
            "item": item("item_1"),
        },
        {
            "type": "conversation.item.done",
            "previous_item_id": "item_0",
            "item": item("item_1"),
        },
        {"type": f"{TRANSCRIPTION}.delta", **ids, "content_index": 0, "delta": " one"},
        {
            "type": f"{TRANSCRIPTION}.completed",
            **ids,
            "content_index": 0,
            "transcript": "zero one",
            "usage": {
                "type": "tokens",
                "input_tokens": 20,
                "input_token_details": {"text_tokens": 7, "audio_tokens": 13},
                "output_tokens": 5,
                "total_tokens": 25,
            },
            "languages": [{"code": "en"}],
        },
    ]


def test_silence_that_was_committed_is_completed_without_a_delta() -> None:
    told = hear(realtime(), committed(by_client=True), completed(""))

    assert [frame["type"] for frame in told][-1] == f"{TRANSCRIPTION}.completed"
    assert told[-1]["transcript"] == ""
    assert told[-1]["languages"] == []
    assert f"{TRANSCRIPTION}.delta" not in [frame["type"] for frame in told]


def test_a_failed_item_leaves_the_session_open() -> None:
    [told] = hear(realtime(), failed())

    assert told["type"] == f"{TRANSCRIPTION}.failed"
    assert told["error"] == {
        "type": "server_error",
        "code": "inference_failed",
        "message": "This could not be transcribed.",
        "param": None,
    }


def test_clients_of_the_beta_get_its_events_and_the_flat_session() -> None:
    dialect = realtime(headers=BETA)
    [created] = frames(dialect.greeting(is_ready=True))
    requests = say(
        dialect,
        type="transcription_session.update",
        session={
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "de"},
            "turn_detection": None,
        },
    )
    told = hear(dialect, committed())

    assert created["type"] == "transcription_session.created"
    assert created["session"]["input_audio_format"] == "pcm16"
    [answer] = frames(requests)
    assert answer["type"] == "transcription_session.updated"
    assert answer["session"] == {
        "object": "realtime.transcription_session",
        "id": "sess_1",
        "expires_at": None,
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {
            "model": "gpt-4o-transcribe",
            "language": "de",
            "prompt": "",
        },
        "input_audio_noise_reduction": None,
        "turn_detection": None,
        "include": None,
    }
    [reconfigure] = asked(requests)
    assert isinstance(reconfigure, Reconfigure)
    assert reconfigure.format == StreamFormat(Encoding.MULAW, 8000, 1)
    assert reconfigure.options.language == "German"
    assert reconfigure.options.turn_detection is None
    assert [frame["type"] for frame in told] == [
        "input_audio_buffer.committed",
        "conversation.item.created",
    ]


def test_the_first_update_of_the_beta_makes_a_client_one_of_the_beta() -> None:
    dialect = realtime()
    say(dialect, type="transcription_session.update", session={})

    assert hear(dialect, committed())[-1]["type"] == "conversation.item.created"


def test_an_update_of_the_beta_that_is_refused_changes_nothing() -> None:
    dialect = realtime()
    say(dialect, type="transcription_session.update", session={"input_audio_format": "opus"})

    assert hear(dialect, committed())[-1]["type"] == "conversation.item.done"


def test_audio_goes_to_the_session_as_it_comes_and_is_not_answered() -> None:
    dialect = realtime()

    assert say(dialect, **appended(b"\1\2\3")) == [Audio(b"\1\2\3")]
    assert say(dialect, **appended(b"")) == []
    assert say(dialect, type="input_audio_buffer.commit") == [CommitTurn()]
    assert say(dialect, type="input_audio_buffer.clear") == [ClearAudio()]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "input_audio_buffer.append"}, "invalid_event", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_event", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "AAA"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "\xe4\xe4\xe4="}, "invalid_value", "audio"),
        ({"event_id": "a"}, "invalid_event", "type"),
        ({"type": ["session.update"]}, "invalid_event", "type"),
        ({"type": "session.delete"}, "unknown_event", "type"),
        ({"type": "response.create"}, "unsupported_event", "type"),
        ({"type": "conversation.item.create"}, "unsupported_event", "type"),
        ({"type": "conversation.item.retrieve"}, "invalid_event", "item_id"),
        ({"type": "conversation.item.delete", "item_id": "x"}, "item_not_found", "item_id"),
    ],
)
def test_an_event_that_cannot_be_served_is_answered_and_the_session_goes_on(
    message: Frame, code: str, param: str
) -> None:
    error = error_of(say(realtime(), **message))

    assert error["type"] == "invalid_request_error"
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize("text", ["", "{", "5", "[]", "null", "[" * 100_000, "\ud800"])
def test_what_is_no_json_object_is_answered(text: str) -> None:
    assert error_of(realtime().text_received(text))["code"] == "invalid_event"


def test_binary_frames_are_answered() -> None:
    assert error_of(realtime().bytes_received(b"\0\0"))["code"] == "invalid_event"


def test_more_audio_than_openai_takes_in_one_event_is_refused() -> None:
    most = 15 * 1024 * 1024

    assert say(realtime(), **appended(bytes(most))) == [Audio(bytes(most))]
    assert error_of(say(realtime(), **appended(bytes(most + 6))))["code"] == "invalid_value"


def test_a_commit_of_too_little_audio_names_the_clients_event() -> None:
    dialect = realtime()
    say(dialect, type="input_audio_buffer.commit", event_id="evt_7")
    error = error_of(dialect.event(CommitRefused(40)))

    assert error["code"] == "input_audio_buffer_commit_empty"
    assert error["event_id"] == "evt_7"
    assert "40 ms" in error["message"]


def test_an_event_id_with_half_a_character_is_repeated_as_text() -> None:
    requests = realtime().text_received('{"type": "x", "event_id": "\\ud800"}')

    assert error_of(requests)["event_id"] == "?"
    assert all(each.text.encode() for each in requests if isinstance(each, Reply))


def test_clearing_is_confirmed() -> None:
    assert without_ids(hear(realtime(), AudioCleared())) == [{"type": "input_audio_buffer.cleared"}]


def test_finished_items_can_be_asked_for_and_deleted() -> None:
    dialect = realtime()
    hear(dialect, committed(), committed("item_2", previous="item_1"), completed("zero"))
    retrieve = {"type": "conversation.item.retrieve", "item_id": "item_1"}

    [first] = frames(say(dialect, **retrieve))
    [second] = frames(say(dialect, **{**retrieve, "item_id": "item_2"}))
    [deleted] = frames(say(dialect, type="conversation.item.delete", item_id="item_1"))

    assert first["type"] == "conversation.item.retrieved"
    assert first["item"] == item("item_1", "zero")
    assert second["item"] == item("item_2")
    assert (deleted["type"], deleted["item_id"]) == ("conversation.item.deleted", "item_1")
    assert error_of(say(dialect, **retrieve))["code"] == "item_not_found"


def test_only_the_newest_items_are_kept() -> None:
    dialect = realtime()
    for number in range(1000):
        hear(dialect, committed(f"item_{number}"), completed("zero", item_id=f"item_{number}"))

    def kept(number: int) -> bool:
        requests = say(dialect, type="conversation.item.retrieve", item_id=f"item_{number}")
        return bool(frames(requests)[0]["type"] == "conversation.item.retrieved")

    assert [kept(number) for number in (0, 743, 744, 999)] == [False, False, True, True]


def test_models_like_whisper_tell_their_text_as_one_delta_and_count_seconds() -> None:
    dialect = realtime("model=whisper-1")
    told = hear(dialect, committed(), completed("zero one"))

    assert not dialect.opening.options.wants_partials
    assert [frame["delta"] for frame in told if "delta" in frame] == ["zero one"]
    assert told[-1]["usage"] == {"type": "duration", "seconds": 2}


def test_models_that_tell_speakers_have_segments_before_the_transcript() -> None:
    dialect = realtime("model=gpt-4o-transcribe-diarize&channels=2")
    told = hear(dialect, completed("zero one", channel=1))

    assert [frame["type"].rpartition(".")[2] for frame in told] == ["delta", "segment", "completed"]
    assert without_ids(told)[1] == {
        "type": f"{TRANSCRIPTION}.segment",
        "item_id": "item_1",
        "content_index": 0,
        "id": "item_1_seg_000",
        "text": "zero one",
        "speaker": "B",
        "start": 0.2,
        "end": 1.5,
        "channel": 1,
    }


def test_probabilities_are_told_where_they_are_asked_for() -> None:
    dialect = realtime()
    say(dialect, type="session.update", session={"include": [LOGPROBS]})
    told = hear(dialect, completed("zero"))

    assert dialect.opening.options.wants_logprobs
    expected = {"token": "zero", "logprob": -0.25, "bytes": list(b"zero")}
    assert told[-1]["logprobs"] == [expected]
    assert "logprobs" not in told[0]


def test_events_of_two_channels_say_their_channel() -> None:
    dialect = realtime("channels=2&call_id=call-7")
    told = hear(dialect, started(channel=1), committed(channel=1), completed("zero", channel=1))

    assert dialect.opening.format.channels == 2
    assert dialect.opening.call_id == "call-7"
    assert [frame["channel"] for frame in told] == [1] * len(told)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("sample_rate=44", "sample_rate"),
        ("sample_rate=high", "sample_rate"),
        ("channels=3", "channels"),
        ("call_id=%0a", "call_id"),
    ],
)
def test_a_parameter_that_cannot_be_used_refuses_the_handshake(query: str, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        realtime(query)

    assert refused.value.param == param


def test_nothing_but_openais_events_is_told_unasked() -> None:
    dialect = realtime()

    assert hear(dialect, EngineWarming(), EngineReady(), grown("", "", "zero")) == []


def test_extensions_tell_the_engines_state_and_what_may_still_change() -> None:
    dialect = realtime("extensions=1")
    told = hear(
        dialect,
        EngineWarming(),
        EngineReady(),
        grown("zero", "zero", " one"),
        completed("zero one", " one"),
    )

    assert [frame["type"] for frame in told] == [
        "qwen.warming_up",
        "qwen.ready",
        f"{TRANSCRIPTION}.delta",
        "qwen.text",
        f"{TRANSCRIPTION}.delta",
        f"{TRANSCRIPTION}.completed",
    ]
    assert without_ids(told)[3] == {
        "type": "qwen.text",
        "item_id": "item_1",
        "text": "zero",
        "tail": " one",
        "languages": [{"code": "en"}],
        "lag_ms": 40,
    }
    assert told[-1]["qwen"] == {"start_ms": 200, "end_ms": 1700, "lag_ms": 90}


def test_slow_readers_may_miss_what_may_change_and_nothing_else() -> None:
    requests = realtime("extensions=1").event(grown("zero", "zero", " one"))

    assert [
        (json.loads(each.text)["type"], each.may_drop)
        for each in requests
        if isinstance(each, Reply)
    ] == [(f"{TRANSCRIPTION}.delta", False), ("qwen.text", True)]


def test_a_session_that_fails_says_why_before_it_ends() -> None:
    dialect = realtime()
    [told] = hear(dialect, SessionEnded("worker_unavailable", "Try again later."))

    assert told["error"]["type"] == "server_error"
    assert told["error"]["code"] == "worker_unavailable"
    assert hear(dialect, SessionEnded(None, "")) == []


def test_every_event_has_an_id_of_its_own() -> None:
    dialect = realtime()
    told = frames(dialect.greeting(is_ready=True)) + hear(
        dialect, started(), stopped(), committed(), completed("zero")
    )

    assert len({frame["event_id"] for frame in told}) == len(told)
    assert all(frame["event_id"].startswith("event_") for frame in told)


def test_a_client_secret_brings_its_session_along() -> None:
    session = SessionConfig(
        Transcription("whisper-1", language="de"), Encoding.ALAW, 8000, turn_detection=None
    )
    dialect = realtime(client_session=session)
    [created] = frames(dialect.greeting(is_ready=True))

    assert dialect.opening.options.language == "German"
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcma"}
    assert created["session"]["audio"]["input"]["turn_detection"] is None


def test_a_call_without_a_name_is_given_one() -> None:
    first, second = realtime().opening.call_id, realtime().opening.call_id

    assert first.startswith("call_")
    assert first != second
