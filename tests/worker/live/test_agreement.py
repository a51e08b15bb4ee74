"""What of a growing text is told for good."""

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.live.agreement import AgreedText
from worker.text.repetition import repair_repetitions


def told(*texts: str) -> list[tuple[str, str]]:
    agreed = AgreedText()
    found = []
    for text in texts:
        tail = agreed.update(text)
        found.append((agreed.stable, tail))
    return found


def test_a_first_text_is_told_as_what_may_change() -> None:
    assert told("one two three") == [("", "one two three")]


def test_what_two_texts_agree_on_is_stable_up_to_the_last_whole_word() -> None:
    assert told("one two th", "one two three four")[-1] == ("one two", " three four")


def test_a_word_that_ends_a_text_is_stable_once_another_follows_it() -> None:
    assert told("one two", "one two")[-1] == ("one", " two")
    assert told("one two", "one two", "one two three")[-1] == ("one two", " three")


def test_texts_that_disagree_make_nothing_stable() -> None:
    assert told("won too", "one two")[-1] == ("", "one two")


def test_what_is_stable_stays_where_a_text_says_otherwise_which_then_has_no_tail() -> None:
    stable_then = told("one two three", "one two three", "won two three four")

    assert stable_then[1] == ("one two", " three")
    assert stable_then[2] == ("one two", "")


def test_texts_that_come_back_to_what_is_stable_go_on() -> None:
    texts = told(
        "one two three", "one two three", "won", "one two three four", "one two three four"
    )

    assert texts[-1] == ("one two three", " four")


def test_punctuation_that_changes_holds_its_word_back() -> None:
    assert told("one two.", "one two, three")[-1] == ("one", " two, three")


def test_scripts_without_spaces_are_stable_character_by_character() -> None:
    assert told("我想喝", "我想喝茶")[-1] == ("我想喝", "茶")
    assert told("我想喝", "我想吃饭")[-1] == ("我想", "吃饭")


def test_where_scripts_change_a_word_is_still_whole_by_what_follows() -> None:
    assert told("我用 Pyth", "我用 Python 写")[-1] == ("我用", " Python 写")
    assert told("喝tea吧好", "喝tea吧不")[-1] == ("喝tea吧", "不")


def test_an_ending_that_stands_in_the_text_before_is_held_back() -> None:
    """It may be the second copy of a loop that repair takes away."""
    stable, _ = told("go home now go home x", "go home now go home y")[-1]

    assert stable == "go home now"


def test_an_empty_text_takes_nothing_back() -> None:
    texts = told("one two three", "one two three", "")

    assert texts[-1] == ("one two", "")


words = st.lists(st.sampled_from(["one", "two", "two,", "three.", "今", "天", "ha", "<", "a"]))
written = st.builds(" ".join, words) | st.builds("".join, words)


@settings(max_examples=200, deadline=None)
@given(st.lists(written, max_size=12))
def test_stable_text_only_grows_and_every_tail_follows_it(texts: list[str]) -> None:
    agreed = AgreedText()
    before = ""
    for text in texts:
        tail = agreed.update(text)

        assert agreed.stable.startswith(before)
        assert agreed.stable + tail == text or tail == ""
        before = agreed.stable


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["one", "two", "three", "ha"]), max_size=40), st.data())
def test_a_text_that_only_grows_is_never_contradicted_by_its_repair(
    spoken: list[str], data: st.DataObject
) -> None:
    agreed = AgreedText()
    shown = 0
    while shown < len(spoken):
        shown = min(len(spoken), shown + data.draw(st.integers(1, 6)))
        agreed.update(" ".join(spoken[:shown]))
    whole = " ".join(spoken)

    final = repair_repetitions(whole, False, len(agreed.stable))

    assert final.startswith(agreed.stable)
