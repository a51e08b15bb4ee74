"""What is told of a chunk's text while it is written. Pure bookkeeping of the main thread."""

from protocol.transcription import Partial, Transcribe
from worker.chunk_outcomes import joined_text, text_behind
from worker.chunk_tasks import ChunkTask
from worker.text.context_echo import may_become_copy_of_context
from worker.text.stable_prefix import settled_output
from worker.unfinished_chunks import is_expected

PARTIAL_INTERVAL = 0.1
"""Seconds between two Partial messages of one request."""


class PartialTexts:
    """Of one recording, and always of its next chunk to be reported."""

    def __init__(self, request: Transcribe) -> None:
        self._request = request
        self._index = -1
        self._told = ""
        self._last: float | None = None

    def __repr__(self) -> str:
        return f"<PartialTexts {len(self._told)} characters of chunk {self._index} told>"

    def is_due(self, now: float) -> bool:
        """Whether the last message is long enough ago."""
        return self._last is None or now - self._last >= PARTIAL_INTERVAL

    def told(self, index: int) -> str:
        """What was told of a chunk so far."""
        return self._told if index == self._index else ""

    def partial(self, task: ChunkTask, before: str, raw: str, now: float) -> Partial | None:
        """A message, where more of the output so far is settled than was told.

        `before`: the chunk's text before this task's.
        """
        index = task.chunk.index
        told = text_behind(before, self.told(index))
        output = settled_output(raw, task.request.language, told)
        if output.text == told or self._may_be_dropped(task, output.language, output.text):
            return None
        text = joined_text([text for text in (before, output.text) if text])
        self._index, self._told, self._last = index, text, now
        request = self._request
        return Partial(request.request_id, request.attempt, index, output.language, text)

    def _may_be_dropped(self, task: ChunkTask, language: str | None, text: str) -> bool:
        """Whether the chunk may be inferred again, or nothing may be left of its text."""
        if task.request.language is None and not is_expected(language, self._request.languages):
            return True
        may_be_echo = task.is_faint or bool(task.previous_context)
        return may_be_echo and may_become_copy_of_context(text, task.request.context)
