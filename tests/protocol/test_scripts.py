import pytest

from protocol.scripts import UNSPACED, is_unspaced


@pytest.mark.parametrize("character", "ก中かカー。ｶ𠀀")
def test_thai_chinese_and_japanese_write_no_spaces(character: str) -> None:
    assert is_unspaced(character)


@pytest.mark.parametrize("character", " aé7я한ᄀأक-…")
def test_alphabets_and_korean_do(character: str) -> None:
    assert not is_unspaced(character)


def test_edges_belong_to_their_ranges() -> None:
    for first, last in UNSPACED:
        assert is_unspaced(chr(first))
        assert is_unspaced(chr(last))
    assert not is_unspaced(chr(UNSPACED[0][0] - 1))
    assert not is_unspaced(chr(UNSPACED[-1][1] + 1))
