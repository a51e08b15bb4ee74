"""What callers write for a language, and what the model calls it."""

import pytest

from protocol.languages import _LANGUAGES, NAMES, UnknownLanguage, code_of, parse_language


def test_there_are_thirty_languages() -> None:
    assert len(NAMES) == len(set(NAMES)) == 30


@pytest.mark.parametrize("name", NAMES)
def test_every_language_is_found_by_its_name_and_its_code_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper(), code_of(name), code_of(name).upper()):
        assert parse_language(spelling) == name


def test_no_code_belongs_to_two_languages() -> None:
    keys = [key for name, codes in _LANGUAGES.items() for key in (name.lower(), *codes)]

    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("en", "English"),
        ("en-US", "English"),
        ("en_GB", "English"),
        (" eng ", "English"),
        ("zh-cn", "Chinese"),
        ("zh-Hans-CN", "Chinese"),
        ("zh_TW", "Chinese"),
        ("mandarin", "Chinese"),
        ("yue", "Cantonese"),
        ("yue-Hant-HK", "Cantonese"),
        ("zh-HK", "Cantonese"),
        ("tl", "Filipino"),
        ("fil-PH", "Filipino"),
        ("pt-BR", "Portuguese"),
        ("es-419", "Spanish"),
        ("fa", "Persian"),
        ("ger", "German"),
    ],
)
def test_codes_tags_and_other_names_are_understood(text: str, name: str) -> None:
    assert parse_language(text) == name


@pytest.mark.parametrize("text", ["", "  ", "auto", "AUTO", "und"])
def test_nothing_or_auto_asks_for_detection(text: str) -> None:
    assert parse_language(text) is None


@pytest.mark.parametrize(
    "text", ["xx", "Klingon", "en-", "-en", "en US", "e", "english-US!", "nb", "language English"]
)
def test_anything_else_is_refused_with_the_list_of_languages(text: str) -> None:
    with pytest.raises(UnknownLanguage, match=r"Macedonian \(mk\)"):
        parse_language(text)


def test_a_refusal_repeats_no_more_than_a_little_of_the_input() -> None:
    with pytest.raises(UnknownLanguage) as caught:
        parse_language("x" * 10_000)

    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("name", "code"), [("English", "en"), ("Cantonese", "yue"), ("Filipino", "fil")]
)
def test_a_name_has_one_code(name: str, code: str) -> None:
    assert code_of(name) == code


def test_a_code_of_no_language_is_refused() -> None:
    with pytest.raises(UnknownLanguage):
        code_of("en")
