import pytest

from gateway.translation.chat import TranslationFailed
from gateway.translation.early_check import EarlyCheck
from protocol.transcription import Progress, Stage
from tests.fakes import chunk_done, partial

PROGRESS = Progress("req_1", 1, Stage.INFERRING, 1.0, None)


class FakeTranslator:
    """Remembers what it was asked, and fails where told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self.asked: list[tuple[str, str]] = []

    async def check(self, text: str, language: str) -> None:
        self.asked.append((text, language))
        if self._failure is not None:
            raise self._failure


async def test_the_first_foreign_text_is_asked_once_when_the_recording_goes_on() -> None:
    translator = FakeTranslator()
    check = EarlyCheck(translator, "English")

    for message in (
        chunk_done(" ", language=None),
        chunk_done("Guten Tag.", index=1, language="German"),
        PROGRESS,
        chunk_done("Wie geht's?", index=2, language="German"),
        partial("Gut", index=3),
    ):
        await check.take(message)

    assert translator.asked == [("Guten Tag.", "English")]


async def test_a_recording_of_one_chunk_is_not_asked_for_beforehand() -> None:
    translator = FakeTranslator()
    check = EarlyCheck(translator, "English")

    for message in (PROGRESS, partial("Guten"), chunk_done("Guten Tag.", language="German")):
        await check.take(message)

    assert translator.asked == []


async def test_what_is_said_in_the_target_language_is_not_sent() -> None:
    translator = FakeTranslator()
    check = EarlyCheck(translator, "English")

    for message in (
        chunk_done("Hello.", language="English"),
        chunk_done("there", index=1, language="English"),
        PROGRESS,
    ):
        await check.take(message)

    assert translator.asked == []


async def test_a_failure_reaches_who_gives_the_messages() -> None:
    failure = TranslationFailed("no", is_lasting=True)
    check = EarlyCheck(FakeTranslator(failure), "English")
    await check.take(chunk_done("Guten Tag.", language="German"))

    with pytest.raises(TranslationFailed) as caught:
        await check.take(PROGRESS)

    assert caught.value is failure
