"""Text is shown as soon as nothing written later can take it back, and not before."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.text.model_output import parse_model_output
from worker.text.repetition import repair_repetitions
from worker.text.stable_prefix import settled_output


def settled(raw: str, forced_language: str | None = "English") -> str:
    return settled_output(raw, forced_language).text


@pytest.mark.parametrize(
    "raw", ["", "lang", "language English", "language English<asr_", "Hello, this has no preamble "]
)
def test_nothing_is_settled_before_the_preamble_is_complete(raw: str) -> None:
    output = settled_output(raw)

    assert (output.language, output.text) == (None, "")


def test_the_language_and_whole_words_behind_the_preamble_are_settled() -> None:
    output = settled_output("language German<asr_text>Guten Morg")

    assert (output.language, output.text) == ("German", "Guten")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("We met", "We"),
        ("We met ", "We met"),
        ("We met.", "We"),
        ("你好", "你好"),
        ("你好\ufffd", "你好"),
        ("你好\ufffd\ufffd", "你好"),
        ("カメラcam", "カメラ"),
        ("감사합니다 여러", "감사합니다"),
        ("We met <asr_te", "We"),
        ("We met <|im_", "We"),
        ("We met <", "We met"),
        ("We said 5 < 6 is true ", "We said 5"),
        ("We met language German", "We met"),
        ("We met language German<asr_text>Guten Tag ", "We met Guten Tag"),
        ("language German", ""),
        ("Our language is here", "Our language is"),
    ],
)
def test_what_may_turn_out_to_be_no_text_is_held_back(raw: str, shown: str) -> None:
    assert settled(raw) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("I said no no no ", "I said no"),
        ("I said no no no but", "I said no no no"),
        ("Stop. " + "Thank you. " * 30, "Stop. Thank"),
        ("谢谢大家" * 3, "谢谢大家"),
    ],
)
def test_what_repeats_is_shown_once_until_something_else_follows(raw: str, shown: str) -> None:
    assert settled(raw) == shown


def test_behind_a_loop_nothing_more_is_shown() -> None:
    raw = "Stop. " + "Thank you. " * 60 + "And now for something completely different "

    assert settled(raw) == "Stop. Thank"


def test_what_was_settled_stays_where_the_output_begins_anew() -> None:
    assert settled_output("Somet", "English", "Something was").text == "Something was"
    assert settled_output("Another thing is ", "English", "Something was").text == "Something was"
    assert settled_output("lang", None, "Something was").text == "Something was"


def shown_step_by_step(raw: str, places: list[int], forced_language: str | None) -> list[str]:
    shown = [""]
    for place in sorted(places):
        shown.append(settled_output(raw[:place], forced_language, shown[-1]).text)
    return shown[1:]


_words = [
    "a",
    "ab ",
    "no ",
    "no, no ",
    "zero ",
    "5",
    "谢谢",
    "好",
    "ค่ะ",
    "thank you. ",
    "hey ",
    "dog ",
]
_sentences = ["And then we went home again. ", "one two three four five six seven "]
_markup = ["language ", "language English", "<asr_text>", "<", "|>", "<|x|>", "<|", "\ufffd"]
_units = st.sampled_from([*_words, *_sentences, *_markup, ", ", " ", "x. ", "\n"])
_texts = st.lists(st.tuples(_units, st.integers(1, 30)), max_size=6).map(
    lambda parts: "".join(unit * copies for unit, copies in parts)
)
_nested = st.tuples(_texts.map(lambda text: text[:80]), st.integers(2, 12), _texts).map(
    lambda parts: parts[0] * parts[1] + parts[2]
)
_raws = st.sampled_from(["", "language English<asr_text>", "language None<asr_text>"]).flatmap(
    lambda opening: (_texts | _nested | st.text(alphabet="ab <|>", max_size=60)).map(
        lambda text: opening + text
    )
)


@settings(deadline=None, max_examples=300)
@given(
    raw=_raws,
    places=st.lists(st.integers(0, 700), min_size=1, max_size=12),
    forced_language=st.sampled_from([None, "English"]),
    is_cut_off=st.booleans(),
)
@example(raw="a\ufffd \ufffd<|x|>", places=[5], forced_language="English", is_cut_off=False)
@example(raw="x <|a<|b|>|> y", places=[4, 6, 12], forced_language="English", is_cut_off=False)
@example(
    raw="big dog Q " * 2 + "big dog " + ("dog " * 30 + "Q big dog ") * 9,
    places=list(range(300)),
    forced_language="English",
    is_cut_off=False,
)
def test_settled_texts_only_grow_and_the_final_text_begins_with_them(
    raw: str, places: list[int], forced_language: str | None, is_cut_off: bool
) -> None:
    shown = shown_step_by_step(raw, places, forced_language)
    whole = parse_model_output(raw, forced_language).text

    for earlier, later in zip(shown, [*shown[1:], shown[-1]], strict=True):
        assert later.startswith(earlier)
    assert repair_repetitions(whole, is_cut_off, len(shown[-1])).startswith(shown[-1])


@settings(deadline=None, max_examples=300)
@given(
    before=st.text(alphabet="abcdef ", max_size=30),
    unit=st.text(alphabet="klmn. ", min_size=1, max_size=30) | _units,
    copies=st.integers(1, 60),
    part=st.integers(0, 30),
    after=st.text(alphabet="uvw ", max_size=30),
    is_cut_off=st.booleans(),
    stride=st.integers(1, 40),
)
def test_a_single_loop_is_repaired_as_if_nothing_had_been_shown(
    before: str, unit: str, copies: int, part: int, after: str, is_cut_off: bool, stride: int
) -> None:
    raw = before + unit * copies + unit[:part] + after
    shown = shown_step_by_step(raw, list(range(0, len(raw), stride)), "English")
    whole = parse_model_output(raw, "English").text

    repaired = repair_repetitions(whole, is_cut_off)
    assert repaired.startswith(shown[-1])
    assert repair_repetitions(whole, is_cut_off, len(shown[-1])) == repaired


def test_ordinary_speech_is_held_back_by_few_words() -> None:
    generator = random.Random(3)
    words = [f"{generator.choice('bcdfgh')}{generator.choice('aeiou')}{n}" for n in range(200)]
    text = " ".join(generator.choices(words, k=120)) + " "
    held = [len(text[:end]) - len(settled(text[:end])) for end in range(len(text))]

    assert max(held) <= 24
