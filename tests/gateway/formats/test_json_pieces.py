import json

import pytest

from gateway.formats.json_pieces import PIECE_BYTES, JsonList, cut, encoded, json_object


def test_an_object_and_its_lists_are_json() -> None:
    items = JsonList()
    for item in (1, {"a": None}, "ß"):
        items.add(item)
    pieces = list(
        json_object({"text": "你好\n", "items": items, "empty": JsonList(), "more": [0.5]})
    )

    assert json.loads(b"".join(pieces)) == {
        "text": "你好\n",
        "items": [1, {"a": None}, "ß"],
        "empty": [],
        "more": [0.5],
    }
    assert json.loads(b"".join(json_object({}))) == {}


def test_no_piece_is_large() -> None:
    items = JsonList()
    for number in range(30_000):
        items.add(number)
    pieces = list(json_object({"items": items, "text": "x" * 200_000}))

    assert max(map(len, pieces)) <= PIECE_BYTES
    assert json.loads(b"".join(pieces)) == {"items": list(range(30_000)), "text": "x" * 200_000}
    assert list(cut(b"")) == []


@pytest.mark.parametrize("character", ["\n", "\r", "\x85", "\u2028", "\u2029", "\x1e", "\x0b"])
def test_no_character_ends_a_line_for_any_client(character: str) -> None:
    written = encoded(f"a{character}b").decode()

    assert written.splitlines() == [written]
    assert json.loads(written) == f"a{character}b"


def test_what_is_no_number_in_json_is_a_fault() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encoded(float("nan"))
