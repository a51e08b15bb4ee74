"""A prompt handed back is no transcript."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.context_echo import is_copy_of_context, may_become_copy_of_context

CONTEXT = "Meeting of the Kubernetes storage group. Names: Żaneta, O'Brien, Nguyễn."


@pytest.mark.parametrize(
    "text",
    [
        CONTEXT,
        CONTEXT.upper(),
        "meeting of the kubernetes storage group names zaneta o brien nguyen",
        "of the Kubernetes storage",
        "Names: Żaneta, O'Brien",
        "  Meeting of the Kubernetes storage group.  ",
    ],
)
def test_the_context_or_a_long_run_of_it_is_a_copy(text: str) -> None:
    assert is_copy_of_context(text, CONTEXT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " . ",
        "Kubernetes",
        "storage group",
        "the Kubernetes storage",
        "Welcome to the meeting of the Kubernetes storage group.",
        "Meeting of the Kubernetes storage groups",
        "eeting of the Kubernetes stor",
        "Names: O'Brien, Żaneta, Nguyễn",
        "Meeting of Kubernetes storage group",
    ],
)
def test_anything_said_beyond_it_or_little_of_it_is_speech(text: str) -> None:
    assert not is_copy_of_context(text, CONTEXT)


def test_a_short_context_is_copied_only_as_a_whole() -> None:
    assert is_copy_of_context("Acme Rocket!", "acme rocket")
    assert not is_copy_of_context("Acme", "acme rocket")


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        ("通义千问语音", "通义千问语音识别", True),
        ("通义千", "通义千问语音识别", False),
        ("日本語の音声", "日本語の音声認識です。", True),
        ("การประชุม", "การประชุมวันนี้", True),
        ("我们开始吧", "通义千问语音识别", False),
        ("ＡＢＣ ｄｅｆ", "abc def", True),
    ],
)
def test_scripts_without_spaces_count_by_character(text: str, context: str, expected: bool) -> None:
    assert is_copy_of_context(text, context) is expected


def test_without_a_context_nothing_is_a_copy() -> None:
    assert not is_copy_of_context("hello there my friend", "")
    assert not is_copy_of_context("", "")


@given(text=st.text(alphabet=st.characters(max_codepoint=127)))
def test_a_text_copies_itself_if_it_says_anything(text: str) -> None:
    says_something = any(character.isalnum() for character in text)

    assert is_copy_of_context(text, text) is says_something


_words = st.lists(st.sampled_from(["storage", "group", "Żaneta", "the", "a"]), max_size=6)


@given(before=_words, run=_words, after=_words)
def test_four_words_in_a_row_are_a_copy_wherever_they_stand(
    before: list[str], run: list[str], after: list[str]
) -> None:
    context = ", ".join([*before, *run, *after])

    if len(run) >= 4:
        assert is_copy_of_context(" ".join(run).upper(), context)


@pytest.mark.parametrize(
    ("beginning", "may"),
    [
        ("", True),
        ("...", True),
        ("Budget", True),
        ("meeting with", True),
        ("budget meeting with Ada", True),
        ("budget with", False),
        ("meet", False),
    ],
)
def test_a_beginning_may_become_a_copy_while_it_stands_in_the_context(
    beginning: str, may: bool
) -> None:
    assert may_become_copy_of_context(beginning, "Budget meeting with Ada") is may
