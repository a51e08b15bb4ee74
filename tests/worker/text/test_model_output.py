"""What the model wrote, and what is made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.model_output import ModelOutput, parse_model_output


@pytest.mark.parametrize(
    ("raw", "language", "text"),
    [
        ("language English<asr_text>hello", "English", "hello"),
        ("language Chinese<asr_text>你好。", "Chinese", "你好。"),
        ("language English<asr_text> hello \n", "English", "hello"),
        ("language english<asr_text>hello", "English", "hello"),
        ("language English<asr_text>", "English", ""),
        ("language Chinese\nsome note\n<asr_text>你好", "Chinese", "你好"),
    ],
)
def test_language_and_text_are_told_apart(raw: str, language: str, text: str) -> None:
    assert parse_model_output(raw) == ModelOutput(language, text)


@pytest.mark.parametrize("raw", ["language None<asr_text>", "language none<asr_text> ", "", "  "])
def test_no_speech_is_no_language_and_no_text(raw: str) -> None:
    assert parse_model_output(raw) == ModelOutput(None, "")


def test_text_after_no_language_is_kept() -> None:
    assert parse_model_output("language None<asr_text>uh") == ModelOutput(None, "uh")


def test_of_several_languages_the_first_counts() -> None:
    assert parse_model_output("language Chinese,English<asr_text>你好 hello") == ModelOutput(
        "Chinese", "你好 hello"
    )


def test_a_forced_language_leaves_text_alone() -> None:
    assert parse_model_output("hello there", "English") == ModelOutput("English", "hello there")
    assert parse_model_output("", "English") == ModelOutput("English", "")


def test_a_model_that_announces_a_forced_language_again_is_cleaned_up() -> None:
    assert parse_model_output("language English<asr_text>hello", "German") == ModelOutput(
        "German", "hello"
    )


def test_speech_about_language_is_speech() -> None:
    spoken = "Language English is what I said."

    assert parse_model_output(f"language English<asr_text>{spoken}").text == spoken
    assert parse_model_output("language English is spoken", "English").text == (
        "language English is spoken"
    )
    assert parse_model_output("language English<asr_text>my language skills").text == (
        "my language skills"
    )


@pytest.mark.parametrize(
    ("raw", "language", "text"),
    [
        ("hello", None, "hello"),
        ("language English", "English", ""),
        ("language English hello", "English", "hello"),
        ("language", None, ""),
        ("language English<asr", "English", ""),
        ("language English<asr_text>hello<|im_end|>", "English", "hello"),
        ("<|im_start|>language English<asr_text>hello<|im_end|><|endoftext|>", "English", "hello"),
        ("language English<asr_text>hello<|im_e", "English", "hello"),
        ("language English<asr_text>hello<asr_te", "English", "hello"),
        ("language English<asr_text>cut <|im_<|im_end|>end|>off", "English", "cut off"),
        ("language English<asr_text>hi language Chinese<asr_text>你好", "English", "hi 你好"),
        ("language English<asr_text>hi<asr_text>there", "English", "hi there"),
        ("<asr_text>hello", None, "hello"),
        ("language <asr_text>hello", None, "hello"),
        ("language 123<asr_text>hello", None, "hello"),
        ("language Chinese<asr_text>半个字\ufffd", "Chinese", "半个字"),
        ("hello <asr_text> there", None, "hello there"),
        ("language English<asr_text>", "English", ""),
    ],
)
def test_malformed_output_is_made_the_best_of(raw: str, language: str | None, text: str) -> None:
    assert parse_model_output(raw) == ModelOutput(language, text)


@pytest.mark.parametrize(
    "text", ["a < b", "2 <3", "x | y", "<laughs>", "if a<b|c>d", "100 �% sure"]
)
def test_ordinary_angles_and_bars_stay(text: str) -> None:
    assert parse_model_output(f"language English<asr_text>{text}").text == text


_PIECES = (
    "language |English|None|<asr_text>|<asr|<¦im_end¦>|<¦|¦>|<|>|¦|im_end|\n| |hello|你好|\ufffd|,"
)
_pieces = st.sampled_from([piece.replace("¦", "|") for piece in _PIECES.split("|")])


@given(raw=st.lists(_pieces, max_size=14).map("".join), forced=st.sampled_from([None, "English"]))
def test_markup_never_leaks(raw: str, forced: str | None) -> None:
    text = parse_model_output(raw, forced).text

    assert "<asr_text>" not in text.lower()
    assert "<|im_end|>" not in text
    assert text == text.strip()


@pytest.mark.parametrize("piece", ["<", " ", "\ufffd", "<asr", "<|", "language ", "<asr_text>"])
def test_a_long_output_is_no_trouble(piece: str) -> None:
    parse_model_output(piece * 20_000 + "x")


@given(text=st.text())
def test_any_text_is_accepted(text: str) -> None:
    parse_model_output(text)


def test_an_opening_written_into_a_word_goes_as_a_whole() -> None:
    raw = "language English<asr_text>one twlanguage English<asr_text>three"

    assert parse_model_output(raw).text == "one tw three"
