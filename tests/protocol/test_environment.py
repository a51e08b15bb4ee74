from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.environment import (
    BadSettings,
    byte_count,
    choice,
    comma_list,
    flag,
    number,
    read_settings,
    setting,
    variables,
    whole_number,
)


def _colour(text: str) -> str:
    if text not in ("red", "green"):
        raise ValueError("must be red or green")
    return text


@dataclass(frozen=True)
class Paint:
    colour: str = setting("COLOUR", "red", _colour)
    litres: float = setting("LITRES", 1.5, number(0, 10))
    folder: Path = setting("FOLDER", lambda: Path("/paint"), Path)


def test_defaults_hold_where_nothing_is_set() -> None:
    assert read_settings(Paint, {}) == Paint("red", 1.5, Path("/paint"))


def test_an_empty_value_counts_as_unset() -> None:
    assert read_settings(Paint, {"COLOUR": "", "LITRES": "  "}) == Paint()


def test_values_are_read_without_the_spaces_around_them() -> None:
    chosen = {"COLOUR": " green ", "LITRES": "3", "FOLDER": "/other", "UNRELATED": "x"}

    assert read_settings(Paint, chosen) == Paint("green", 3.0, Path("/other"))


def test_all_bad_values_are_reported_in_the_order_of_the_settings() -> None:
    with pytest.raises(BadSettings) as caught:
        read_settings(Paint, {"LITRES": "many", "COLOUR": "blue"})

    assert str(caught.value) == (
        "COLOUR: must be red or green\nLITRES: must be a number from 0 to 10"
    )


def test_a_settings_class_names_its_variables() -> None:
    assert variables(Paint) == ["COLOUR", "LITRES", "FOLDER"]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (number(0, 10), "0", 0.0),
        (number(0, 10), "1e1", 10.0),
        (whole_number(-5, 5), "-5", -5),
        (whole_number(0, 65535), "8000", 8000),
        (flag, "TRUE", True),
        (flag, "off", False),
        (choice("cpu", "cuda"), "CUDA", "cuda"),
        (byte_count, "17", 17),
        (byte_count, "2G", 2 * 1024**3),
        (byte_count, "500m", 500 * 1024**2),
        (byte_count, "1K", 1024),
        (comma_list, " a, b ,,c ", ("a", "b", "c")),
        (comma_list, ",", ()),
    ],
)
def test_what_operators_write_is_understood(
    parse: Callable[[str], Any], text: str, value: Any
) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "fault"),
    [
        (number(0, 10), "10.1", "from 0 to 10"),
        (number(0, 10), "nan", "from 0 to 10"),
        (number(0, 10), "inf", "from 0 to 10"),
        (whole_number(0, 9), "1.0", "whole number from 0 to 9"),
        (whole_number(0, 9), "-1", "whole number from 0 to 9"),
        (whole_number(0, 9), "--1", "whole number from 0 to 9"),
        (whole_number(0, 9), "²", "whole number from 0 to 9"),
        (flag, "maybe", "true or false"),
        (choice("cpu", "cuda"), "tpu", "one of cpu, cuda"),
        (byte_count, "0", "size in bytes"),
        (byte_count, "-1", "size in bytes"),
        (byte_count, "²", "size in bytes"),
        (byte_count, "1.5G", "size in bytes"),
        (byte_count, "G", "size in bytes"),
    ],
)
def test_what_is_wrong_says_what_would_be_right(
    parse: Callable[[str], Any], text: str, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(text)


@given(st.text("0123456789-+.eE_²٣ infkmg", min_size=1))
def test_faults_are_told_in_our_own_words_whatever_was_written(text: str) -> None:
    parsers = (number(0, 10), whole_number(0, 10), flag, choice("a", "b"), byte_count)

    assert {_fault(parse, text)[:8] for parse in parsers} <= {"", "must be "}


def _fault(parse: Callable[[str], Any], text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return ""
