"""Loops are repaired, what people say stays."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.repetition import Repetition, find_repetitions, repair_repetitions

SENTENCE = (
    "The quick brown fox jumps over the lazy dog and then it runs back into the forest again. "
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "ha ha",
        "ha ha ha ha ha ha ha ha",
        "haha" * 8,
        "哈" * 16,
        "no no no",
        "no, no, no, no, no, no, no!",
        "bye bye",
        "very very very very very good",
        "好好好",
        "对对对对对对对对",
        "はいはいはい",
        "ครับครับครับ",
        "네네네네",
        "la la la la la la la la la la la la",
        "Aaaaaaaaaaaaargh!",
        "Row, row, row your boat, gently down the stream.",
        "We will, we will rock you. " * 4,
        "Thank you. Thank you very much. Thank you. Thank you.",
        "go go go go go go go go go go go go go go go",
        "four more years! " * 12,
        "One more time. " * 10,
        SENTENCE * 3,
    ],
)
def test_what_people_say_again_and_again_stays(text: str) -> None:
    assert repair_repetitions(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "0000",
        "0" * 300,
        "zero " * 100,
        "one one one one one one one one one one one one one one one one one one one one one one",
        "call " + "zero zero zero " * 30 + "now",
        "five, six, " * 40,
        "hero " + "zero " * 50,
        "5-" * 60,
        "零" * 50,
        "一二三" * 40,
        "٣" * 50,
        "zerozero " * 3,
    ],
)
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_digits_are_never_touched(text: str, is_cut_off: bool) -> None:
    assert repair_repetitions(text, is_cut_off) == text


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("a" * 100, "a"),
        ("Well, " + "you " * 100, "Well, you"),
        ("Well, " + "you " * 100 + "know.", "Well, you know."),
        ("I said no" + " no" * 60, "I said no"),
        ("hello" + " o" * 60, "hello o"),
        ("So " + "thank you. " * 50 + "Thank", "So thank you. Thank"),
        ("thank you. " * 50 + "than", "thank you."),
        ("ha" * 200, "ha"),
        ("谢谢" * 80, "谢"),
        ("你好。" + "谢谢大家。" * 40, "你好。谢谢大家。"),
        ("ご視聴ありがとうございました" * 20, "ご視聴ありがとうございました"),
        ("ขอบคุณค่ะ" * 40, "ขอบคุณค่ะ"),
        ("감사합니다 " * 40, "감사합니다"),
        (SENTENCE * 6 + "The end.", SENTENCE + "The end."),
        ("I will go to the shop and " * 14, "I will go to the shop and"),
        ("." * 80, "."),
        ("one two " + "buckle my shoe " * 40, "one two buckle my shoe"),
        ("call 555 " * 60, "call 555"),
    ],
)
def test_a_loop_leaves_one_copy(text: str, repaired: str) -> None:
    assert repair_repetitions(text) == repaired


def test_a_phrase_of_any_length_is_recognised() -> None:
    words = [f"w{number}" for number in range(2_000)]
    phrase = " ".join(words) + " "

    assert repair_repetitions(phrase * 5) == phrase.rstrip()


def test_loops_within_a_loop_are_repaired() -> None:
    assert repair_repetitions(("na " * 30 + "hey ") * 30) == "na hey"


def test_two_loops_in_one_text_are_both_repaired() -> None:
    text = "First " + "yes " * 40 + "then " + "certainly not " * 40 + "end."

    assert repair_repetitions(text) == "First yes then certainly not end."


def test_a_loop_that_ran_into_the_token_limit_needs_fewer_copies() -> None:
    text = "We went home. " + "And then we " * 7 + "And th"

    assert repair_repetitions(text) == text
    assert repair_repetitions(text, is_cut_off=True) == "We went home. And then we"


@pytest.mark.parametrize(
    "text", ["no no no", "he laughed ha ha ha ha ha", "bye bye bye", "a b c d e", "aa"]
)
def test_even_at_the_token_limit_a_few_copies_are_speech(text: str) -> None:
    assert repair_repetitions(text, is_cut_off=True) == text


def test_the_token_limit_proves_nothing_about_the_middle() -> None:
    text = "And then we " * 7 + "went home."

    assert repair_repetitions(text, is_cut_off=True) == text


def test_the_place_and_period_of_a_loop_are_told() -> None:
    assert find_repetitions("Oh " + "you " * 30 + "know") == [Repetition(2, 123, 4)]


@pytest.mark.parametrize("copies", [20, 21])
def test_a_word_is_a_loop_from_the_21st_copy_on(copies: int) -> None:
    assert bool(find_repetitions("go! " * copies)) is (copies == 21)


_units = st.sampled_from(
    [
        "a",
        "ab",
        "no ",
        "zero ",
        "0",
        "谢谢",
        "好",
        "ค่ะ",
        "thank you. ",
        ", ",
        " ",
        SENTENCE,
        "x",
        ".",
    ]
)
_texts = st.lists(st.tuples(_units, st.integers(1, 45)), max_size=6).map(
    lambda parts: "".join(unit * copies for unit, copies in parts)
)


@settings(deadline=None)
@given(text=_texts | st.text(alphabet="ab ", max_size=300) | st.text(), is_cut_off=st.booleans())
def test_a_repaired_text_needs_no_more_repair(text: str, is_cut_off: bool) -> None:
    once = repair_repetitions(text, is_cut_off)

    assert repair_repetitions(once, is_cut_off) == once
    assert find_repetitions(once, is_cut_off) == []
    assert len(once) <= len(text)


@settings(deadline=None)
@given(text=_texts, is_cut_off=st.booleans())
def test_found_stretches_are_in_order_and_do_repeat(text: str, is_cut_off: bool) -> None:
    position = 0
    for found in find_repetitions(text, is_cut_off):
        assert position <= found.start
        first = text[found.start : found.end - found.period]
        assert first == text[found.start + found.period : found.end]
        position = found.end


def _fibonacci_word(length: int) -> str:
    shorter, longer = "a", "ab"
    while len(longer) < length:
        shorter, longer = longer, longer + shorter
    return longer[:length]


_generator = random.Random(1)
LONG_TEXTS = {
    "words": " ".join(_generator.choices(["the", "and", "speech", "you", "of", "no"], k=25_000)),
    "one letter": "a" * 100_000,
    "digits": "0" * 100_000,
    "two letters at random": "".join(_generator.choices("ab", k=100_000)),
    "just below a loop": ("a" * 20 + "b" * 20 + "c" * 20) * 1_000 + "d",
    "loops": "".join(chr(0x4E00 + number % 7_000) * 25 for number in range(4_000)),
    "a fibonacci word": _fibonacci_word(100_000),
    "digits with breaks": ("0" * 30 + "x") * 3_000,
    "a long period": "".join(_generator.choices("abcdefgh ", k=24_000)) * 4,
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_hundred_thousand_characters_take_little_time(kind: str, is_cut_off: bool) -> None:
    started = time.process_time()

    repair_repetitions(LONG_TEXTS[kind], is_cut_off)

    assert time.process_time() - started < 2.0  # a quadratic search would take minutes
