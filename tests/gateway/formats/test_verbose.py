import json
from typing import Any

import pytest

from gateway.formats.verbose import TimedLists, VerboseJson, compression_ratio
from protocol.transcription import ChunkDone, Segment
from tests.fakes import chunk_done, segment

TEN_FIELDS = {
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
}


def answer(
    *chunks: ChunkDone,
    asked: str | None = None,
    with_segments: bool = True,
    with_words: bool = False,
) -> Any:
    lists = TimedLists(0.2, with_segments=with_segments, with_words=with_words)
    document = VerboseJson(asked, lists)
    for chunk in chunks:
        document.add(chunk)
    return json.loads(b"".join(document.finish(8.4704)))


def two_chunks() -> list[ChunkDone]:
    return [
        chunk_done("Hello you.", segments=[segment("Hello you.", 0.5, 1.5)]),
        chunk_done(
            "How are you? Fine.",
            index=1,
            segments=[segment("How are you?", 3.0, 4.5), segment("Fine.", 5.0, 5.5)],
        ),
    ]


def test_all_ten_fields_have_real_values() -> None:
    first, second, third = answer(*two_chunks())["segments"]

    assert set(first) == set(second) == set(third) == TEN_FIELDS
    assert first == {
        "id": 0,
        "seek": 0,
        "start": 0.5,
        "end": 1.5,
        "text": "Hello you.",
        "tokens": [100, 101],
        "temperature": 0.2,
        "avg_logprob": -0.25,
        "compression_ratio": pytest.approx(10 / 18),
        "no_speech_prob": 0.125,
    }
    assert (second["id"], third["id"]) == (1, 2)


def test_texts_of_segments_together_are_the_text() -> None:
    whole = answer(*two_chunks())

    assert "".join(each["text"] for each in whole["segments"]) == whole["text"]
    assert whole["text"] == "Hello you. How are you? Fine."


def test_language_is_a_lower_case_name_and_duration_a_number() -> None:
    whole = answer(*two_chunks())

    assert (whole["task"], whole["language"], whole["duration"]) == ("transcribe", "english", 8.47)
    assert whole["usage"] == {"type": "duration", "seconds": 9}
    assert whole["languages"] == [{"code": "en"}]


def test_words_are_there_only_if_asked_for() -> None:
    assert "words" not in answer(*two_chunks())
    both = answer(*two_chunks(), with_words=True)
    words = answer(*two_chunks(), with_segments=False, with_words=True)

    assert len(both["segments"]) == 3
    assert "segments" not in words
    assert words["words"] == both["words"]
    assert words["words"][:2] == [
        {"word": "Hello", "start": 0.5, "end": 1.0},
        {"word": "you.", "start": 1.0, "end": 1.5},
    ]


def test_what_was_asked_for_and_is_empty_is_an_empty_list() -> None:
    whole = answer(chunk_done("", language=None), asked="German", with_words=True)

    assert (whole["segments"], whole["words"], whole["text"]) == ([], [], "")
    assert whole["language"] == "german"


def test_a_probability_that_is_not_known_is_no_null() -> None:
    unknown = Segment(0, 16_000, "one", (), None, (), None, 0.0)
    (only,) = answer(chunk_done("one", segments=[unknown]))["segments"]

    assert (only["avg_logprob"], only["tokens"]) == (0.0, [])


def test_text_that_repeats_itself_has_a_high_compression_ratio() -> None:
    assert compression_ratio("no " * 200) > 10
    assert compression_ratio("The beach was a popular spot.") < 1.1
