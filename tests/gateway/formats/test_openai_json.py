import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.openai_json import (
    language_objects,
    logprob_objects,
    plain_segment,
    seconds,
    usage_by_duration,
    usage_by_tokens,
    word_object,
)
from gateway.formats.transcripts import GrowingText, Usage
from protocol.transcription import Nats, Token, Word
from tests.fakes import segment, tokens_of


def test_positions_are_seconds_to_the_millisecond() -> None:
    assert [seconds(samples) for samples in (0, 1, 7, 16_000, 23_457)] == [0, 0, 0, 1, 1.466]


def test_usage_by_tokens_has_both_details_and_the_total() -> None:
    assert usage_by_tokens(Usage(70, 55, 9)) == {
        "type": "tokens",
        "input_tokens": 70,
        "input_token_details": {"text_tokens": 15, "audio_tokens": 55},
        "output_tokens": 9,
        "total_tokens": 79,
    }


@pytest.mark.parametrize(("length", "counted"), [(0.0, 0), (0.1, 1), (8.0, 8), (8.47, 9)])
def test_usage_by_duration_counts_every_second_begun(length: float, counted: int) -> None:
    assert usage_by_duration(length) == {"type": "duration", "seconds": counted}


def test_languages_are_codes() -> None:
    assert language_objects(["German", "Cantonese"]) == [{"code": "de"}, {"code": "yue"}]


def test_a_language_that_only_the_model_has_heard_of_is_no_fault() -> None:
    assert language_objects(["Klingon", "German"]) == [{"code": "de"}]


def test_only_words_whose_times_are_not_measured_say_so() -> None:
    assert word_object(Word(16_000, 24_000, " one", False)) == {
        "word": "one",
        "start": 1.0,
        "end": 1.5,
    }
    assert word_object(Word(16_000, 24_000, "one", True))["estimated"] is True


def test_a_plain_segment_is_its_text_and_times() -> None:
    assert plain_segment(3, segment("one two", 0.5, 1.25)) == {
        "id": 3,
        "start": 0.5,
        "end": 1.25,
        "text": "one two",
    }


def test_tokens_have_their_probability_and_bytes() -> None:
    tokens = (Token(b"my", Nats(-0.002)), Token(b" dog", Nats(0.0)))

    assert list(logprob_objects(tokens, "my dog", "my dog")) == [
        {"token": "my", "logprob": -0.002, "bytes": [109, 121]},
        {"token": " dog", "logprob": 0.0, "bytes": [32, 100, 111, 103]},
    ]


def test_half_a_character_is_told_by_its_bytes() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    objects = list(logprob_objects(tokens_of(first, second), "é", "é"))

    assert [entry["token"] for entry in objects] == ["\ufffd", "\ufffd"]
    assert [entry["bytes"] for entry in objects] == [[0xC3], [0xA9]]


def test_tokens_of_another_text_are_not_shown() -> None:
    assert list(logprob_objects(tokens_of(b"one"), "two", "two")) == []
    assert list(logprob_objects((), "two", "two")) == []


@given(st.lists(st.lists(st.text(max_size=4), max_size=5), max_size=4))
def test_the_bytes_of_all_tokens_are_the_transcript(chunks: list[list[str]]) -> None:
    growing = GrowingText()
    content = b""
    for pieces in chunks:
        text = "".join(pieces)
        delta = growing.finish_chunk(text)
        tokens = tokens_of(*(piece.encode() for piece in pieces))
        for entry in logprob_objects(tokens, text, delta):
            assert isinstance(entry["bytes"], list)
            assert entry["bytes"]
            content += bytes(entry["bytes"])

    assert content.decode() == growing.text
