import pytest

from gateway.formats.cue_syntax import CLAUSE, CLINGING, PLAIN, SENTENCE, Syntax
from gateway.formats.cue_words import units_of
from tests.gateway.formats.speech import segment


def cost(text: str, language: str | None) -> float:
    """Of a break at the bar; a space before the bar stays."""
    left = text.split("|")[0]
    units = units_of(segment(text.replace("|", ""), 0, 10), 42)
    letters = 0
    for unit, here in zip(units, Syntax(language).break_costs(units), strict=True):
        letters += len("".join(unit.text.split()))
        if letters == len("".join(left.split())):
            return here
    raise AssertionError("the bar stands inside a unit")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("It ends. |Next", "English"),
        ('It ends." |Next', "English"),
        ("Really? |yes", "English"),
        ("他走了。|我", "Chinese"),
        ("行った。」|私", "Japanese"),
        ("क्या है। |हाँ", "Hindi"),
        ("Ende. |Anfang", None),
    ],
)
def test_the_end_of_a_sentence_costs_nothing(text: str, language: str | None) -> None:
    assert cost(text, language) == SENTENCE


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Mr. |Miller", "English"),
        ("J. |Miller", "English"),
        ("e.g. |Paris", "English"),
        ("approx. |nine", "English"),
        ("the |lighthouse", "English"),
        ("because |nobody", "English"),
        ("eine |Brücke", "German"),
        ("une |maison", "French"),
        ("我|的书", "Chinese"),
        ("本|は高い", "Japanese"),
        ("アニ|メ", "Japanese"),
    ],
)
def test_what_belongs_together_is_parted_last(text: str, language: str) -> None:
    assert cost(text, language) == CLINGING


@pytest.mark.parametrize(
    ("text", "language"),
    [("Well, |yes", "English"), ("好，|我", "Chinese"), ("วันนี้ |อากาศ", "Thai"), ("así; |no", None)],
)
def test_a_clause_ends_better_than_a_word(text: str, language: str | None) -> None:
    assert cost(text, language) == CLAUSE


@pytest.mark.parametrize(
    ("better", "worse", "language"),
    [
        ("boat |because", "boat |sank", "English"),
        ("boat |sank", "New |York", "English"),
        ("boat |sank", "20 |boats", "English"),
        ("Boot |und", "Boot |sank", "German"),
        ("本は|高い", "高|い", "Japanese"),
        ("本は|高い", "高い|本", "Japanese"),
        ("高い|本", "高|校", "Japanese"),
        ("我的|书", "图|书", "Chinese"),
    ],
)
def test_phrases_are_parted_where_they_begin(better: str, worse: str, language: str) -> None:
    assert cost(better, language) < cost(worse, language)


def test_german_nouns_are_no_names() -> None:
    assert cost("Herbert |Frankfurt", "German") == PLAIN
    assert cost("Herbert |Frankfurt", "English") > PLAIN


@pytest.mark.parametrize(
    "text", ["明日はお|客様が", "これはご|飯です", "新しい御|所です", "冷たいお|ビール"]
)
def test_a_polite_prefix_stays_with_its_word(text: str) -> None:
    assert cost(text, "Japanese") == CLINGING


def test_a_word_that_is_cut_is_parted_last() -> None:
    word = "a" * 42

    assert cost(f"{word}|aaa", "English") == CLINGING
    assert cost(f"{word[1:]}.|.aaa", None) == CLINGING
