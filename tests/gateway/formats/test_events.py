import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import BadRequest, Unavailable
from gateway.formats.events import (
    KEEP_ALIVE,
    ConversationEvents,
    Events,
    TranscriptEvents,
    failure,
)
from gateway.formats.verbose import TimedLists
from protocol.transcription import ChunkDone, Partial
from tests.fakes import chunk_done, partial, segment, tokens_of


def stream(events: Events, messages: Sequence[ChunkDone | Partial]) -> list[Any]:
    """The data of all events but [DONE], which is checked to be the last."""
    written = b"".join(piece for message in messages for piece in events.of(message))
    written += b"".join(events.done(8.47))
    assert written.endswith(b"\n\ndata: [DONE]\n\n")
    blocks = written.decode().split("\n\n")[:-2]
    assert all(len(block.splitlines()) == 1 and block.startswith("data: ") for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def plain_events(*, with_logprobs: bool = False) -> TranscriptEvents:
    return TranscriptEvents(None, None, with_logprobs=with_logprobs)


def test_deltas_follow_partials_and_chunks_and_are_the_text() -> None:
    *deltas, done = stream(
        plain_events(),
        [
            partial("one"),
            partial("one two"),
            chunk_done("one two three.", segments=[segment("one two three.", 0.0, 1.0)]),
            partial("", index=1),
            chunk_done("", index=1),
            chunk_done("four", index=2, segments=[segment("four", 2.0, 3.0)]),
        ],
    )

    assert [each["delta"] for each in deltas] == ["one", " two", " three.", " four"]
    assert {each["type"] for each in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "one two three. four"
    assert done["segments"] == [
        {"id": 0, "start": 0.0, "end": 1.0, "text": "one two three."},
        {"id": 1, "start": 2.0, "end": 3.0, "text": "four"},
    ]
    assert done["usage"]["total_tokens"] == 75
    assert done["languages"] == [{"code": "en"}]
    assert done["duration"] == 8.47
    assert "logprobs" not in done


def test_silence_has_no_delta_and_one_done() -> None:
    (done,) = stream(plain_events(), [chunk_done("", language=None)])

    assert (done["type"], done["text"], done["segments"]) == ("transcript.text.done", "", [])


def test_logprobs_come_with_their_delta_and_again_in_the_end() -> None:
    first, second, done = stream(
        plain_events(with_logprobs=True),
        [
            chunk_done("my dog", tokens=tokens_of(b"my", b" dog")),
            chunk_done("barks", index=1, tokens=tokens_of(b"barks")),
        ],
    )

    assert b"".join(bytes(each["bytes"]) for each in first["logprobs"]) == b"my dog"
    assert second["logprobs"] == [{"token": " barks", "logprob": -0.5, "bytes": list(b" barks")}]
    assert done["logprobs"] == first["logprobs"] + second["logprobs"]


def test_verbose_json_has_its_own_segments_and_words_in_the_end() -> None:
    lists = TimedLists(0.0, with_segments=True, with_words=True)
    chunk = chunk_done("one two", segments=[segment("one two", 0.0, 1.0)])
    *_, done = stream(TranscriptEvents("English", lists, with_logprobs=False), [chunk])

    assert len(done["segments"][0]) == 10
    assert [word["word"] for word in done["words"]] == ["one", "two"]


def test_a_conversation_tells_each_turn_as_delta_and_segment() -> None:
    *events, done = stream(
        ConversationEvents(),
        [
            partial("Hel"),
            chunk_done(
                "Hello. Hi.",
                segments=[
                    segment("Hello.", 0.0, 1.0, channel=0),
                    segment("Hi.", 1.0, 2.0, channel=1),
                ],
            ),
        ],
    )

    assert events[0] == {
        "type": "transcript.text.delta",
        "delta": "A: Hello.",
        "segment_id": "seg_001",
    }
    assert events[1] == {
        "type": "transcript.text.segment",
        "id": "seg_001",
        "start": 0.0,
        "end": 1.0,
        "text": "Hello.",
        "speaker": "A",
    }
    assert (
        "".join(each.get("delta", "") for each in events) == done["text"] == ("A: Hello.\nB: Hi.")
    )
    assert done["segments"] == [events[1], events[3]]


def test_a_conversation_of_one_channel_is_refused() -> None:
    events = ConversationEvents()
    assert list(events.of(chunk_done("one"))) == []

    with pytest.raises(BadRequest):
        list(events.done(3.0))


def test_a_failure_is_an_object_named_error() -> None:
    name, content = failure(Unavailable("Try again.")).decode().removesuffix("\n\n").split("\n")

    assert name == "event: error"
    assert json.loads(content.removeprefix("data: ")) == {
        "type": "error",
        "error": {
            "message": "Try again.",
            "type": "server_error",
            "param": None,
            "code": "worker_unavailable",
        },
    }


def test_keep_alive_is_a_comment_and_a_blank_line() -> None:
    assert KEEP_ALIVE == b": keep-alive\n\n"
