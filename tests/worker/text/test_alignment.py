"""Measured times of units -> words with times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.text.test_word_times import texts
from worker.text.alignment import (
    MOST_UNMEASURED_RUN,
    Alignment,
    TimedText,
    TimedUnit,
    kept,
    timed_words,
    units_of,
)
from worker.text.word_times import MIN_WORD_SAMPLES

MILLISECOND = 16
CHUNK = 10_000 * MILLISECOND

SHE_SAID = (("she", 1200, 1360), ("said", 1360, 1600))
A_TEST = (("a", 160, 160), ("test", 160, 400))


def timed(
    text: str, *units: tuple[str, int, int], language: str | None = "English", start: int = 0
) -> TimedText:
    """Of units with their times in milliseconds, in a chunk of ten seconds."""
    found = tuple(TimedUnit(unit, a * MILLISECOND, b * MILLISECOND) for unit, a, b in units)
    return timed_words(Alignment(text, found), language, start=start, end=start + CHUNK)


def written(result: TimedText) -> list[tuple[str, int, int]]:
    """Words with their times in milliseconds."""
    return [
        (word.text, word.start // MILLISECOND, word.end // MILLISECOND) for word in result.words
    ]


def estimated(result: TimedText) -> list[str]:
    return [word.text for word in result.words if word.is_estimated]


def test_words_get_the_times_of_their_units_and_keep_their_punctuation() -> None:
    found = timed("“Don't go,” she said.", ("Don't", 80, 400), ("go", 400, 560), *SHE_SAID)

    assert written(found) == [
        ("“Don't", 80, 400),
        ("go,”", 400, 560),
        ("she", 1200, 1360),
        ("said.", 1360, 1600),
    ]
    assert estimated(found) == []


def test_positions_are_those_of_the_recording() -> None:
    found = timed("Go.", ("Go", 80, 400), start=CHUNK)

    (word,) = found.words
    assert (word.start, word.end) == (CHUNK + 80 * MILLISECOND, CHUNK + 400 * MILLISECOND)


@pytest.mark.parametrize(
    ("language", "text", "units", "words"),
    [
        ("Chinese", "你好,世界。", ["你", "好", "世", "界"], ["你", "好,", "世", "界。"]),
        ("Chinese", "买 iPhone 15吧", ["买", "iPhone", "15", "吧"], ["买", "iPhone", "15", "吧"]),
        (
            "Japanese",
            "東京へ、行った。",
            ["東京", "へ", "行っ", "た"],
            ["東京", "へ、", "行っ", "た。"],
        ),
        ("Japanese", "ﾊﾟﾝを2つ", ["パン", "を", "2", "つ"], ["ﾊﾟﾝ", "を", "2", "つ"]),
        (
            "Korean",
            "저는 학교에 갑니다.",
            ["저는", "학교", "에", "갑니다"],
            ["저는", "학교에", "갑니다."],
        ),
        ("English", "a well-known café", ["a", "wellknown", "café"], ["a", "well-known", "café"]),
        ("French", "été 50 % là", ["ete", "50", "la"], None),
        ("French", "e\u0301te\u0301 ici", ["ete", "ici"], ["e\u0301te\u0301", "ici"]),
        ("English", "50 % off", ["50", "off"], ["50 %", "off"]),
        ("English", "$ 5", ["5"], ["$ 5"]),
    ],
)
def test_a_word_is_whole_to_the_aligner_and_to_the_text(
    language: str, text: str, units: list[str], words: list[str] | None
) -> None:
    found = timed(
        text,
        *((unit, 200 * place, 200 * place + 200) for place, unit in enumerate(units)),
        language=language,
    )

    assert [word.text for word in found.words] == (words or [])
    assert [text[piece.start : piece.end] for piece in found.pieces] == (words or [])


def test_a_word_without_length_is_given_one_and_marked() -> None:
    found = timed("This is a test.", ("This", 0, 80), ("is", 80, 160), *A_TEST)

    assert written(found) == [
        ("This", 0, 80),
        ("is", 80, 160),
        ("a", 160, 180),
        ("test.", 180, 400),
    ]
    assert estimated(found) == ["a"]


def test_a_word_that_runs_ahead_is_put_between_its_neighbours_and_marked() -> None:
    found = timed("One two three.", ("One", 0, 400), ("two", 8000, 8080), ("three", 1000, 1400))

    assert written(found) == [("One", 0, 400), ("two", 600, 800), ("three.", 1000, 1400)]
    assert estimated(found) == ["two"]


def test_times_outside_the_chunk_are_brought_inside() -> None:
    found = timed("One two.", ("One", -80, 400), ("two", 9600, 11_000))

    assert written(found) == [("One", 0, 400), ("two.", 9600, 10_000)]


@pytest.mark.parametrize(
    "units",
    [
        [("one", 0, 80), ("two", 80, 160), ("three", 160, 240)],
        [("one", 800, 880), ("two", 480, 560), ("three", 160, 240), ("four", 0, 80)],
        [(number, 400, 400) for number in ("one", "two", "three", "four")],
        [],
    ],
    ids=["of another text", "backwards", "all at once", "none"],
)
def test_nonsense_gives_no_words(units: list[tuple[str, int, int]]) -> None:
    assert timed("One two three four", *units) == TimedText((), ())


def test_an_aligner_that_lost_its_place_for_long_is_not_believed() -> None:
    def said(lost: int) -> TimedText:
        words = [f"w{number}" for number in range(40)]
        units = [(word, 200 * place, 200 * place + 80) for place, word in enumerate(words)]
        units[10 : 10 + lost] = [(word, 2000, 2000) for word, _, _ in units[10 : 10 + lost]]
        return timed(" ".join(words), *units)

    assert len(estimated(said(MOST_UNMEASURED_RUN))) == MOST_UNMEASURED_RUN
    assert said(MOST_UNMEASURED_RUN + 1) == TimedText((), ())


@given(st.data(), texts(), st.integers(1, 40_000))
def test_words_are_in_order_apart_and_inside_their_chunk(
    data: st.DataObject, text: str, length: int
) -> None:
    parts = units_of(text)
    times = st.integers(-1, 12).map(lambda tick: tick * 80 * MILLISECOND)
    units = tuple(TimedUnit(part, data.draw(times), data.draw(times)) for part in parts)
    start = data.draw(st.integers(0, 100_000))

    found = timed_words(Alignment(text, units), "English", start=start, end=start + length)

    edge = start
    least = min(MIN_WORD_SAMPLES, length // max(1, len(found.words)))
    for word in found.words:
        assert edge <= word.start < word.end <= start + length
        assert word.end - word.start >= least > 0
        edge = word.end
    if found.words:
        assert "".join("".join(word.text.split()) for word in found.words) == "".join(text.split())
        assert [text[piece.start : piece.end] for piece in found.pieces] == [
            word.text for word in found.words
        ]


@given(texts())
def test_units_spell_the_text(text: str) -> None:
    assert "".join(units_of(text)) == kept(text)
    assert all(units_of(text))
