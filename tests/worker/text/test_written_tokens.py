"""Tokens are cut to the text they wrote."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.model_output import parse_model_output
from worker.text.written_tokens import WrittenToken, tokens_of_text


def written(*contents: bytes) -> list[WrittenToken]:
    return [WrittenToken(number, content, -0.5) for number, content in enumerate(contents)]


def contents(text: str, output: list[WrittenToken]) -> list[bytes]:
    return [token.content for token in tokens_of_text(text, output)]


def test_the_preamble_and_white_space_around_the_text_belong_to_no_token() -> None:
    output = written(b"language", b" English", b"<asr_text>", b" We", b" met", b".", b"\n")

    tokens = tokens_of_text("We met.", output)

    assert [token.content for token in tokens] == [b"We", b" met", b"."]
    assert [token.id for token in tokens] == [3, 4, 5]


def test_characters_may_be_spread_over_tokens() -> None:
    assert contents("你好", written(b"\xe4\xbd", b"\xa0\xe5\xa5", b"\xbd", b"\xe5")) == [
        b"\xe4\xbd",
        b"\xa0\xe5\xa5",
        b"\xbd",
    ]


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("one two", b"one<asr_text>two"),
        ("We met.", b"We have met."),
        ("", b"language None<asr_text>"),
        ("We met.", b""),
    ],
)
def test_a_text_that_was_not_written_so_has_no_tokens(text: str, raw: bytes) -> None:
    assert contents(text, written(raw)) == []


@given(
    text=st.text(max_size=30),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    opening=st.sampled_from(["", "language English<asr_text>"]),
)
def test_together_the_tokens_are_the_text_or_none(text: str, cuts: list[int], opening: str) -> None:
    raw = (opening + text).encode("utf-8", "replace")
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    output = written(*(raw[a:b] for a, b in itertools.pairwise(places)))
    parsed = parse_model_output(raw.decode(), None if opening else "English").text

    together = b"".join(contents(parsed, output))

    assert together in (b"", parsed.encode())
    if "<" not in text and "language" not in text:
        assert together == parsed.encode()
