import json
from dataclasses import replace

import pytest

from gateway.errors import BadRequest
from gateway.formats.diarized import Conversation, DiarizedJson
from protocol.limits import SAMPLE_RATE
from protocol.transcription import ChunkDone
from tests.fakes import chunk_done, segment


def call() -> list[ChunkDone]:
    return [
        chunk_done(
            "Hello. Hi, I have a question. Yes?",
            segments=[
                segment("Hello.", 0.0, 1.0, channel=1),
                segment("Hi, I have", 1.0, 2.0, channel=0),
                segment("a question.", 2.5, 3.0, channel=0),
                segment("Yes?", 3.0, 3.5, channel=1),
            ],
        ),
        chunk_done("", index=1),
        chunk_done("Well.", index=2, segments=[segment("Well.", 31.0, 32.0, channel=1)]),
    ]


def test_channels_are_speakers_by_first_appearance() -> None:
    document = DiarizedJson()
    for chunk in call():
        document.add(chunk)
    answer = json.loads(b"".join(document.finish(40.0)))

    assert [(each["id"], each["speaker"], each["text"]) for each in answer["segments"]] == [
        ("seg_001", "A", "Hello."),
        ("seg_002", "B", "Hi, I have"),
        ("seg_003", "B", "a question."),
        ("seg_004", "A", "Yes?"),
        ("seg_005", "A", "Well."),
    ]
    assert answer["segments"][0] == {
        "type": "transcript.text.segment",
        "id": "seg_001",
        "start": 0.0,
        "end": 1.0,
        "text": "Hello.",
        "speaker": "A",
    }
    assert answer["text"] == "A: Hello.\nB: Hi, I have a question.\nA: Yes? Well."
    assert (answer["task"], answer["duration"]) == ("transcribe", 40.0)
    assert answer["usage"] == {"type": "duration", "seconds": 40}


def test_deltas_of_the_turns_are_the_text() -> None:
    conversation = Conversation()
    deltas = [turn.delta for chunk in call() for turn in conversation.add(chunk)]

    assert "".join(deltas) == conversation.text


@pytest.mark.parametrize(
    "chunk",
    [chunk_done("one"), chunk_done("one", segments=[segment("one", 0, 1, channel=None)])],
)
def test_one_voice_for_all_is_refused_with_advice(chunk: ChunkDone) -> None:
    document = DiarizedJson()
    document.add(chunk)
    with pytest.raises(BadRequest) as caught:
        document.finish(3.0)

    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_value")
    assert "stereo" in caught.value.message


def of_both(text: str, end: int, index: int = 0) -> ChunkDone:
    """A chunk with the same sound in both channels; `end` in seconds."""
    start = end - 30
    chunk = chunk_done(text, index=index, segments=[segment(text, start, end, channel=None)])
    return replace(chunk, start=start * SAMPLE_RATE, end=end * SAMPLE_RATE)


def test_what_all_hear_before_the_call_waits_for_it_and_is_one_more_speakers() -> None:
    conversation = Conversation()
    *_, behind = call()

    assert conversation.add(of_both("Please hold.", 30)) == []
    turns = conversation.add(replace(behind, index=1))

    assert [(turn.speaker, turn.segment.text) for turn in turns] == [
        ("A", "Please hold."),
        ("B", "Well."),
    ]
    assert conversation.text == "A: Please hold.\nB: Well."
    assert [turn.speaker for turn in conversation.add(of_both("Good bye.", 300, 2))] == ["A"]
    conversation.finish()


def test_a_long_recording_with_one_sound_is_refused_before_it_is_heard_to_its_end() -> None:
    conversation = Conversation()
    conversation.add(of_both("one", 30))
    conversation.add(of_both("two", 60, 1))

    with pytest.raises(BadRequest):
        conversation.add(of_both("three", 90, 2))


def test_silence_is_an_empty_conversation() -> None:
    document = DiarizedJson()
    document.add(chunk_done("", language=None))
    answer = json.loads(b"".join(document.finish(2.0)))

    assert (answer["text"], answer["segments"], answer["languages"]) == ("", [], [])
