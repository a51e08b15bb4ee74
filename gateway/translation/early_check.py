"""Finds out while a recording is still heard that its language model will not translate it."""

from collections.abc import Awaitable
from typing import Protocol

from protocol.transcription import ChunkDone, Partial, Progress


class Checker(Protocol):
    """What of a translator is used here."""

    def check(self, text: str, language: str) -> Awaitable[None]: ...


class EarlyCheck:
    """Asks once, with the first text in another language than the target, for recordings that go on
    behind it; the others are translated at once, which tells as much."""

    def __init__(self, translator: Checker, language: str) -> None:
        """`language`: the target, an English name."""
        self._translator = translator
        self._language = language
        self._text: str | None = None
        self._has_asked = False

    def __repr__(self) -> str:
        return f"<EarlyCheck {'asked' if self._has_asked else 'waits'}>"

    async def take(self, message: ChunkDone | Partial | Progress) -> None:
        """The next message of the transcription. Raises TranslationFailed where no translation
        will come. Later messages may wait meanwhile: they are kept, and the engine goes on."""
        if self._has_asked:
            return
        if self._text is not None:
            self._has_asked = True
            await self._translator.check(self._text, self._language)
        elif isinstance(message, ChunkDone) and self._is_foreign(message):
            self._text = message.text

    def _is_foreign(self, chunk: ChunkDone) -> bool:
        return bool(chunk.text.strip()) and chunk.language not in (None, self._language)
