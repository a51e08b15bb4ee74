import asyncio
import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.translation.chat import TranslationFailed
from gateway.translation.numbering import BATCH_TEXTS, one_line
from gateway.translation.translator import (
    BATCHES_AT_ONCE,
    CHECKED_CHARACTERS,
    TRIES,
    Translator,
)
from tests.gateway.web_server import translations

Model = Callable[[dict[int, str]], dict[int, str]]


class FakeChat:
    """A language model as a function of numbered lines."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.asked: list[list[int]] = []
        self.running = 0
        self.most_running = 0

    async def ask(self, messages: Sequence[dict[str, str]]) -> str:
        listed = json.loads(messages[1]["content"])["translate"]
        lines = {line["number"]: line["text"] for line in listed}
        self.asked.append(list(lines))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(0)
            return translations(self._model(lines))
        finally:
            self.running -= 1


def shouted(lines: dict[int, str]) -> dict[int, str]:
    return {number: text.upper() for number, text in lines.items()}


def translator(model: Model = shouted) -> tuple[Translator, FakeChat]:
    chat = FakeChat(model)
    return Translator(chat), chat


@given(st.lists(st.text(max_size=60), max_size=100))
def test_as_many_texts_come_back_in_the_same_order(texts: list[str]) -> None:
    found = asyncio.run(translator(lambda lines: dict(lines))[0].translate(texts, "English"))

    assert found == [one_line(text) for text in texts]


async def test_few_batches_are_asked_at_once() -> None:
    texts = [f"line {number}" for number in range(BATCH_TEXTS * 20)]
    subject, chat = translator()

    assert await subject.translate(texts, "English") == [text.upper() for text in texts]
    assert chat.most_running == BATCHES_AT_ONCE
    assert len(chat.asked) == 20


async def test_nothing_to_translate_asks_nothing() -> None:
    subject, chat = translator()

    assert await subject.translate(["", " \n"], "English") == ["", ""]
    assert chat.asked == []


async def test_wrong_numbers_are_asked_once_more() -> None:
    def forgetful(lines: dict[int, str]) -> dict[int, str]:
        return shouted(lines) if len(chat.asked) == 2 else {1: "ONE"}

    subject, chat = translator(forgetful)

    assert await subject.translate(["one", "two"], "English") == ["ONE", "TWO"]
    assert chat.asked == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "confused",
    [
        lambda lines: {number + 1: text for number, text in lines.items()},
        lambda lines: {**lines, 99: "more"},
        lambda lines: {1: " ".join(lines.values())},
    ],
)
async def test_batch_whose_numbers_stay_wrong_is_translated_line_by_line(confused: Model) -> None:
    subject, chat = translator(lambda lines: shouted(lines) if len(lines) == 1 else confused(lines))

    assert await subject.translate(["one", "", "two"], "English") == ["ONE", "", "TWO"]
    assert chat.asked == [[1, 3]] * TRIES + [[1], [3]]


async def test_line_that_never_gets_its_number_fails_the_request() -> None:
    subject, chat = translator(lambda lines: {})

    with pytest.raises(TranslationFailed) as caught:
        await subject.translate(["one", "two"], "English")

    assert caught.value.status == 502
    assert caught.value.__cause__ is not None
    assert chat.asked == [[1, 2]] * TRIES + [[1]] * TRIES


async def test_first_failure_ends_the_other_batches() -> None:
    gone: list[int] = []

    class Failing(FakeChat):
        async def ask(self, messages: Sequence[dict[str, str]]) -> str:
            if '"number": 1,' in messages[1]["content"]:
                raise TranslationFailed("no")
            try:
                await asyncio.Event().wait()
            finally:
                gone.append(1)
            raise AssertionError

    with pytest.raises(TranslationFailed):
        await Translator(Failing(shouted)).translate(["line"] * BATCH_TEXTS * 20, "English")

    assert len(gone) == BATCHES_AT_ONCE - 1


@pytest.mark.parametrize("is_lasting", [True, False])
async def test_a_check_fails_by_what_lasts_and_by_nothing_else(is_lasting: bool) -> None:
    class Failing(FakeChat):
        async def ask(self, messages: Sequence[dict[str, str]]) -> str:
            await super().ask(messages)
            raise TranslationFailed("no", is_lasting=is_lasting)

    chat = Failing(shouted)
    raised = None

    try:
        await Translator(chat).check("Guten Tag.", "English")
    except TranslationFailed as failure:
        raised = failure

    assert chat.asked == [[1]]
    assert (raised is not None) is is_lasting


async def test_a_check_asks_for_a_little_of_a_long_text_and_takes_any_answer() -> None:
    lengths: list[int] = []

    def confused(lines: dict[int, str]) -> dict[int, str]:
        lengths.extend(map(len, lines.values()))
        return {}

    subject, chat = translator(confused)
    await subject.check("x" * 4000, "English")

    assert len(chat.asked) == 1
    assert lengths == [CHECKED_CHARACTERS]
