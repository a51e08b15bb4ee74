import unicodedata

import pytest

from gateway.formats.display_width import columns, is_zero_width
from tests.gateway.formats.speech import SENTENCES


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("plain", 5),
        ("Größe", 5),
        ("你好", 4),
        ("カタカナー", 10),
        ("ｶﾅ", 2),
        ("안녕", 4),
        ("A你", 3),
        ("，。", 4),
        ("e\u0301", 1),
        ("が", 2),
        ("か\u3099", 2),
        ("น้ำ", 2),
        ("हिन्दी", 5),
        ("a\u200bb", 2),
        ("😀", 2),
        ("𠀀", 2),
    ],
)
def test_wide_characters_take_two_columns_and_marks_none(text: str, width: int) -> None:
    assert columns(text) == width


def test_own_tables_agree_with_unicode_on_letters_of_the_models_languages() -> None:
    blocks = [(0x20, 0x530), (0x600, 0x700), (0x900, 0x980), (0xE00, 0xE5C), (0x1E00, 0x2000)]
    blocks += [(0x3041, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFF01, 0xFFA0)]
    differing = [
        hex(code)
        for first, last in blocks
        for code in range(first, last)
        if unicodedata.category(chr(code))[0] in "LNPM"
        and columns(chr(code)) != _columns_by_unicode(chr(code))
    ]

    assert differing == []


def test_a_mark_belongs_to_the_character_before_it() -> None:
    assert [is_zero_width(character) for character in "ดี่a\u0301"] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert not any(map(is_zero_width, SENTENCES["Korean"]))


def _columns_by_unicode(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
