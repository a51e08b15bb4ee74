from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.transcripts import (
    GrowingText,
    Transcript,
    TranscriptBuilder,
    Usage,
    timed_segments,
)
from protocol.transcription import ChunkDone
from tests.fakes import chunk_done, segment


def join_texts(texts: Iterable[str]) -> str:
    growing = GrowingText()
    deltas = [growing.finish_chunk(text) for text in texts]
    assert "".join(deltas) == growing.text
    return growing.text


def join_chunks(chunks: Iterable[ChunkDone]) -> Transcript:
    builder = TranscriptBuilder()
    for chunk in chunks:
        builder.add(chunk)
    return builder.transcript()


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["Hello.", "How are you?"], "Hello. How are you?"),
        (["你好。", "今天很好。"], "你好。今天很好。"),
        (["こんにちは", "カタカナ"], "こんにちはカタカナ"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "반갑습니다"], "안녕하세요 반갑습니다"),
        (["你好", "world"], "你好 world"),
        (["价格,", "「一」"], "价格, 「一」"),
        (["（一）", "，二"], "（一），二"),
        (["  padded ", "\ntext\t"], "padded text"),
        (["one", "", "  ", "two"], "one two"),
        (["", ""], ""),
        ([], ""),
        (["𠀀", "𠀁"], "𠀀𠀁"),
    ],
)
def test_texts_are_joined_as_their_scripts_are_written(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


def test_language_is_the_one_most_of_the_audio_is_in() -> None:
    transcript = join_chunks(
        [
            chunk_done("Hallo", language="German", start=0, end=16_000),
            chunk_done("hello hello", language="English", start=16_000, end=64_000),
            chunk_done("Tschüss", language="German", start=64_000, end=80_000),
        ]
    )

    assert transcript.language == "English"
    assert transcript.languages == ("German", "English")
    assert transcript.text == "Hallo hello hello Tschüss"


def test_silent_chunks_have_no_say_in_the_language() -> None:
    transcript = join_chunks(
        [
            chunk_done("", language=None, start=0, end=960_000),
            chunk_done("hello", language="English", start=960_000, end=976_000),
        ]
    )

    assert (transcript.language, transcript.languages) == ("English", ("English",))


def test_nothing_heard_is_no_language() -> None:
    transcript = join_chunks([chunk_done("", language=None)])

    assert (transcript.text, transcript.language, transcript.languages) == ("", None, ())


def test_tokens_of_all_chunks_are_summed() -> None:
    assert join_chunks([chunk_done("a"), chunk_done("b")]).usage == Usage(40, 26, 10)
    assert join_chunks([]).usage == Usage(0, 0, 0)


def test_deltas_carry_the_space_before_them() -> None:
    growing = GrowingText()

    assert growing.settle("one") == "one"
    assert growing.settle("one two") == " two"
    assert growing.finish_chunk("one two three.") == " three."
    assert growing.settle(" four ") == " four"
    assert growing.finish_chunk(" four five ") == " five"
    assert growing.finish_chunk("") == ""
    assert growing.text == "one two three. four five"


def test_a_text_told_again_is_nothing_new() -> None:
    growing = GrowingText()

    assert growing.settle("one two") == "one two"
    assert growing.settle("one two") == ""
    assert growing.finish_chunk("one two") == ""


def test_a_chunk_that_begins_anew_takes_nothing_back() -> None:
    growing = GrowingText()
    growing.settle("one two three")

    assert growing.settle("one") == ""
    assert growing.settle("one two three four") == " four"
    assert growing.finish_chunk("one two three four five") == " five"


@pytest.mark.parametrize(
    ("told", "text", "whole"),
    [
        ("one two", "won, two three four", "one two three four"),
        ("one two three", "one", "one two three"),
        ("你好世", "您好世界", "你好世界"),
    ],
)
def test_what_was_told_stands_where_the_next_engine_hears_otherwise(
    told: str, text: str, whole: str
) -> None:
    growing = GrowingText()
    growing.settle(told)

    assert growing.settle(text[:1]) == ""
    assert told + growing.finish_chunk(text) == growing.text == whole
    assert growing.finish_chunk("五") in ("五", " 五")


@given(
    st.lists(
        st.tuples(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=3)), max_size=5
    )
)
def test_deltas_are_the_text_whatever_engines_say(history: list[tuple[str, list[str]]]) -> None:
    growing = GrowingText()
    deltas: list[str] = []
    for text, partials in history:
        deltas += [growing.settle(partial) for partial in partials]
        deltas.append(growing.finish_chunk(text))

    assert "".join(deltas) == growing.text


@given(st.lists(st.tuples(st.text(max_size=12), st.integers(0, 12)), max_size=5))
def test_partials_leave_the_text_as_it_would_be_without_them(
    chunks: list[tuple[str, int]],
) -> None:
    growing = GrowingText()
    for text, settled in chunks:
        growing.settle(text[:settled])
        growing.finish_chunk(text)

    assert growing.text == join_texts(text for text, _ in chunks)


def test_text_without_times_is_one_segment() -> None:
    timed = chunk_done("one", segments=[segment("one", 0.2, 0.5)])
    (whole,) = timed_segments(chunk_done(" one two ", start=16_000, end=48_000))

    assert timed_segments(timed) == timed.segments
    assert (whole.start, whole.end, whole.text) == (16_000, 48_000, "one two")
    assert timed_segments(chunk_done(" ")) == ()
