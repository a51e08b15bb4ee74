import pytest

from gateway.formats.cue_words import joined, units_of
from tests.gateway.formats.speech import SENTENCES, segment, spoken, word


def texts(text: str, max_columns: int = 42) -> list[str]:
    return [unit.text for unit in units_of(segment(text, 0, 10), max_columns)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Well, hello there!", ["Well,", "hello", "there!"]),
        (" two \n lines\t", ["two", "lines"]),
        ("twenty-three e.g. don't", ["twenty-three", "e.g.", "don't"]),
        ("你好，世界。", ["你", "好，", "世", "界。"]),
        ("他说：「好」", ["他", "说：", "「好」"]),
        ("用iPhone手机", ["用", "iPhone", "手", "机"]),
        ("2024年3月", ["2024年", "3月"]),
        ("ちょっとアニメー", ["ちょっ", "と", "ア", "ニ", "メー"]),
        ("안녕하세요, 여러분", ["안녕하세요,", "여러분"]),
        ("น้ำเย็น", ["น้ำ", "เย็", "น"]),
        ("Bonjour ! Ça « va » bien", ["Bonjour !", "Ça", "« va »", "bien"]),
        ("wait … what", ["wait …", "what"]),
        ("a\x00b", ["a\ufffdb"]),
        ("", []),
        ("  ", []),
    ],
)
def test_lines_may_end_between_words_or_characters_but_never_at_a_stray_mark(
    text: str, parts: list[str]
) -> None:
    assert texts(text) == parts


def test_units_say_where_spaces_stood() -> None:
    units = units_of(segment("我用 Python 写代码", 0, 2), 42)

    assert joined(units) == "我用 Python 写代码"


def test_words_of_an_aligner_stay_whole_unless_one_alone_is_too_wide() -> None:
    words = [word("昨日", 0, 1), word("は", 1, 1.5), word("映画", 1.5, 2)]

    assert [u.text for u in units_of(segment("昨日は映画。", 0, 2, words=words), 26)] == [
        "昨日",
        "は",
        "映画。",
    ]
    whole = [word("昨日は映画", 0, 2)]
    assert len(units_of(segment("昨日は映画。", 0, 2, words=whole), 8)) == 5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Donaudampfschifffahrt", ["Donaudam", "pfschiff", "fahrt"]),
        ("ein Rindfleischetikett.", ["ein", "Rindflei", "schetike", "tt."]),
        ("한국어를공부합니다", ["한국어를", "공부합니", "다"]),
        ("👩\u200d👧👍🏽🇩🇪🇫🇷🇩🇪", ["👩\u200d👧👍🏽", "🇩🇪🇫🇷🇩🇪"]),
        ("é" * 9, ["é" * 8, "é"]),
        ("!" * 9, ["!" * 8, "!"]),
    ],
)
def test_a_word_longer_than_a_line_is_cut_between_characters_as_readers_see_them(
    text: str, parts: list[str]
) -> None:
    assert texts(text, max_columns=8) == parts
    assert joined(units_of(segment(text, 0, 10), 8)) == text


def test_the_pieces_of_a_word_share_its_time() -> None:
    units = units_of(segment("abcdefghij", 0, 2, words=[word("abcdefghij", 1, 2)]), 5)

    assert [(unit.start, unit.end) for unit in units] == [(1000, 1500), (1500, 2000)]


def test_units_take_the_times_of_their_words() -> None:
    words = [word("Hello", 1.0, 1.4), word("world", 2.0, 2.5)]

    units = units_of(segment('"Hello," world!', 0.5, 3, words=words), 42)

    assert [(unit.text, unit.start, unit.end) for unit in units] == [
        ('"Hello,"', 1000, 1400),
        ("world!", 2000, 2500),
    ]


def test_text_without_words_is_spread_over_the_time_between() -> None:
    words = [word("one", 1.0, 1.5), word("four", 3.5, 4.0)]

    units = units_of(segment("one two three four", 1, 4, words=words), 42)

    assert [(unit.text, unit.start, unit.end) for unit in units] == [
        ("one", 1000, 1500),
        ("two", 1500, 2250),
        ("three", 2250, 3500),
        ("four", 3500, 4000),
    ]


def test_words_that_are_not_in_the_text_are_not_believed() -> None:
    words = [word("three", 1.0, 1.2), word("hundred", 1.2, 4.0)]

    units = units_of(segment("300 times", 1, 4, words=words), 42)

    assert [(unit.text, unit.start, unit.end) for unit in units] == [
        ("300", 1000, 2125),
        ("times", 2125, 4000),
    ]


@pytest.mark.parametrize("language", SENTENCES)
def test_no_character_is_lost_and_time_never_runs_back(language: str) -> None:
    text = SENTENCES[language]
    for source in (segment(text, 1, 20), spoken(text, 1)):
        units = units_of(source, 42)

        assert joined(units) == text
        starts = [unit.start for unit in units]
        assert starts == sorted(starts)
        assert all(unit.end > unit.start for unit in units)
