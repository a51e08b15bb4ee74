import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.translation.numbering import (
    BATCH_CHARACTERS,
    BATCH_TEXTS,
    CONTEXT_CHARACTERS,
    CONTEXT_TEXTS,
    Batch,
    batches,
    one_line,
    read_answer,
)

TEXTS = st.lists(st.text(max_size=300), max_size=150)
THREE = Batch({1: "eins", 2: "zwei", 3: "drei"}, (), ())


def answer(*entries: tuple[Any, Any]) -> str:
    listed = [{"number": number, "text": text} for number, text in entries]
    return json.dumps({"translations": listed}, ensure_ascii=False)


RIGHT = answer((1, "one"), (2, "two"), (3, "three"))
FOUND = {1: "one", 2: "two", 3: "three"}


@given(TEXTS)
def test_every_text_that_holds_anything_is_in_one_batch_under_its_place(texts: list[str]) -> None:
    asked = [item for batch in batches(texts) for item in batch.texts.items()]

    numbered = [(place, one_line(text)) for place, text in enumerate(texts, start=1)]
    assert asked == [(place, text) for place, text in numbered if text]


@given(TEXTS)
def test_batches_are_bounded(texts: list[str]) -> None:
    for batch in batches(texts):
        assert 1 <= len(batch.texts) <= BATCH_TEXTS
        assert sum(map(len, batch.texts.values())) <= BATCH_CHARACTERS or len(batch.texts) == 1
        for context in (batch.before, batch.after):
            assert len(context) <= CONTEXT_TEXTS
            assert all(len(text) <= CONTEXT_CHARACTERS for text in context)


def test_longest_text_is_a_batch_of_its_own() -> None:
    texts = ["a", "b" * (BATCH_CHARACTERS + 1), "c"]

    assert [list(batch.texts) for batch in batches(texts)] == [[1], [2], [3]]


def test_neighbours_are_shown_as_context() -> None:
    texts = [str(number) for number in range(BATCH_TEXTS + 5)]
    first, second = batches(texts)

    assert first.before == ()
    assert first.after == tuple(texts[BATCH_TEXTS : BATCH_TEXTS + CONTEXT_TEXTS])
    assert second.before == tuple(texts[BATCH_TEXTS - CONTEXT_TEXTS : BATCH_TEXTS])
    assert second.after == ()


def test_single_lines_keep_their_number_and_see_their_neighbours() -> None:
    batch = Batch({7: "b", 8: "c"}, ("a",), ("d",))

    assert list(batch.singles()) == [
        Batch({7: "b"}, ("a",), ("c", "d")),
        Batch({8: "c"}, ("a", "b"), ("d",)),
    ]


@given(st.text(max_size=200))
def test_text_travels_as_data_and_never_among_the_instructions(text: str) -> None:
    instructions, asked = Batch({1: text}, (text,), (text,)).messages("German")

    assert instructions == Batch({1: "x"}, (), ()).messages("German")[0]
    assert json.loads(asked["content"]) == {
        "before": [text],
        "translate": [{"number": 1, "text": text}],
        "after": [text],
    }


@given(st.dictionaries(st.integers(1, 999), st.text(min_size=1, max_size=80), max_size=30))
def test_right_answer_gives_each_number_its_text(texts: dict[int, str]) -> None:
    lines = {number: line for number, text in texts.items() if (line := one_line(text))}

    assert read_answer(answer(*lines.items()), Batch(lines, (), ())) == lines


@given(
    st.lists(st.integers(0, 5), max_size=6),
    st.sampled_from(["one", "", "\n", None, 5, ["one"], "x" * 1000]),
)
def test_answer_counts_only_with_exactly_the_numbers_asked_for(
    numbers: list[int], text: Any
) -> None:
    found = read_answer(answer(*((number, text) for number in numbers)), THREE)

    assert found == (
        {number: "one" for number in numbers}
        if sorted(numbers) == [1, 2, 3] and text == "one"
        else None
    )


@given(st.text(max_size=200))
def test_other_words_are_no_answer_and_no_fault(content: str) -> None:
    assert read_answer(content, THREE) is None


def test_answer_is_found_behind_thoughts_and_inside_fences() -> None:
    for content in (
        f"```json\n{RIGHT}\n```",
        f'<think>{{"translations": []}} Hm {{ no.</think>\n{RIGHT}',
        f"Here you are: {RIGHT} Enjoy!",
        answer(("1", "one"), ("2", "two"), ("3", "three")),
        answer((3, "three"), (1, "one"), (2, "two")),
    ):
        assert read_answer(content, THREE) == FOUND


def test_nested_and_endless_braces_are_no_answer() -> None:
    assert read_answer("{" * 100_000, THREE) is None
    assert read_answer('{"a":' * 100_000, THREE) is None
    assert read_answer('{"translations": [[], 1, {"number": true, "text": "one"}]}', THREE) is None


def test_translation_is_one_line_that_cannot_pass_for_a_cue() -> None:
    forged = "one\n\n2\n00:00:00,000 --> 09:00:00,000\u2028two\x00"

    assert read_answer(answer((1, forged)), Batch({1: "eins"}, (), ())) == {
        1: "one 2 00:00:00,000 --> 09:00:00,000 two"
    }
