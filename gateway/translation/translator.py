"""Texts of a recording into another language, in bounded batches, a few at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from typing import Protocol

from gateway.errors import ApiError
from gateway.telemetry import event
from gateway.translation.chat import ModelAnswered, TranslationFailed
from gateway.translation.numbering import Batch, batches, one_line, read_answer

logger = logging.getLogger(__name__)

BATCHES_AT_ONCE = 4
"""Of one recording."""
TRIES = 2
"""Answers that may have wrong numbers, before a batch is asked line by line, or a line fails."""


CHECKED_CHARACTERS = 200
"""Of a text that is translated to see whether the model does."""


class Chat(Protocol):
    """What of a language model is used here."""

    def ask(self, messages: Sequence[dict[str, str]]) -> Awaitable[str]: ...


class Translator:
    """Translates with one language model."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def translate(self, texts: Sequence[str], language: str) -> list[str]:
        """As many texts in `language` (an English name), in the same order; empty ones stay so.

        Each is one line. Raises ApiError; when cancelled, nothing is asked any more.
        """
        translated = ["" for _ in texts]
        waiting = batches(texts)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(BATCHES_AT_ONCE):
                    tasks.create_task(self._work(waiting, language, translated))
        except BaseExceptionGroup as group:
            failure = _first(group)
            raise failure from failure.__cause__
        return translated

    async def check(self, text: str, language: str) -> None:
        """Have a little of a text translated, and throw it away: raises TranslationFailed where the
        model would refuse all of it later too. What may pass until then is only logged."""
        for batch in batches([one_line(text)[:CHECKED_CHARACTERS]]):
            try:
                await self._chat.ask(batch.messages(language))
            except ApiError as error:
                if isinstance(error, TranslationFailed) and error.is_lasting:
                    raise
                logger.warning(event("language model did not answer yet", {"cause": error.code}))

    async def _work(self, waiting: Iterator[Batch], language: str, translated: list[str]) -> None:
        for batch in waiting:
            for number, text in (await self._batch(batch, language)).items():
                translated[number - 1] = text

    async def _batch(self, batch: Batch, language: str) -> dict[int, str]:
        found = await self._asked(batch, language)
        if found is not None:
            return found
        if len(batch.texts) == 1:
            raise TranslationFailed(
                "The language model that translates did not give every line a translation. Try "
                "again, or have the operator set another TRANSLATE_MODEL."
            ) from ModelAnswered("the language model answered with wrong numbers again and again")
        logger.warning(event("batch translated line by line", {"lines": len(batch.texts)}))
        lines: dict[int, str] = {}
        for single in batch.singles():
            lines |= await self._batch(single, language)
        return lines

    async def _asked(self, batch: Batch, language: str) -> dict[int, str] | None:
        for _ in range(TRIES):
            content = await self._chat.ask(batch.messages(language))
            found = read_answer(content, batch)
            if found is not None:
                return found
        return None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to tell; where several batches fail together, any of them speaks for all."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if not isinstance(leaf, ApiError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
