"""Chunks of one recording between their cut and their text: what is inferred next, and how often.

Pure bookkeeping of the engine's main thread. A chunk is one task for the engine, or one a turn
where channels are told apart; the outcomes of a chunk's tasks are its outcome together.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocol.transcription import Transcribe
from worker.audio.chunking import Chunk, is_faint
from worker.audio.conversation import Turn
from worker.chunk_outcomes import (
    end_of,
    is_echo,
    joined,
    joined_text,
    outcome_of,
    tail_of,
    text_behind,
)
from worker.chunk_tasks import ChunkTask
from worker.engine.interface import ChunkRequest, ChunkText
from worker.recordings import ChunkOutcome
from worker.text.context_echo import is_copy_of_context


@dataclass(frozen=True, slots=True)
class Taken:
    """What an answer led to."""

    outcome: ChunkOutcome | None = None
    """The chunk's, where it was the last of its tasks."""
    again: ChunkTask | None = None
    """To be inferred once more instead, differently."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """A task that is done."""

    task: ChunkTask
    outcome: ChunkOutcome
    tail: str
    """What of its text may be context for the next chunk."""


class ToldOtherwise(Exception):
    """The text does not begin with what was told of it while it was written."""


class UnfinishedChunks:
    """Those of one recording that need inference. `context`: the caller's prompt and keywords."""

    def __init__(self, request: Transcribe, context: str) -> None:
        self._request = request
        self._context = context
        self._waiting: deque[Chunk] = deque()
        """For the chunk before them, whose text they get; bounded by what is cut ahead."""
        self._running: dict[int, ChunkTask] = {}
        self._next_number = 0
        self._heard: dict[int, list[_Heard]] = {}
        """By chunk, its turns that are done while others of them run."""
        self._tails: dict[int | None, tuple[int, str]] = {}
        """By channel, the chunk heard last and the end of its text."""

    def __repr__(self) -> str:
        return f"<UnfinishedChunks {sorted(self._running)} run, {len(self._waiting)} wait>"

    @property
    def is_running(self) -> bool:
        """Whether the engine has any."""
        return bool(self._running)

    @property
    def numbers(self) -> list[int]:
        """Of the tasks that the engine has."""
        return list(self._running)

    def add(self, chunk: Chunk) -> None:
        """A chunk that holds something to hear was cut."""
        self._waiting.append(chunk)

    def next_tasks(self) -> Iterator[ChunkTask]:
        """What to submit now, in order; afterwards they count as running."""
        while self._waiting and not (self._request.uses_previous_context and self._running):
            chunk = self._waiting.popleft()
            tasks = self._tasks_of(chunk)
            self._running |= {task.number: task for task in tasks}
            yield from tasks

    def next_to_tell(self, index: int) -> tuple[ChunkTask, str] | None:
        """The first task of a chunk that runs, and the text before it.

        None where turns of two sides, whose order their words decide, make up the text.
        """
        running = [task for task in self._running.values() if task.chunk.index == index]
        if not running:
            return None
        first = min(running, key=lambda task: task.number)
        if first.turn.channel is not None and len(first.chunk.turns) > 1:
            return None
        return first, self._text_before(first)

    def task(self, number: int) -> ChunkTask:
        """The running task of this number."""
        return self._running[number]

    def retry(self, number: int) -> ChunkTask | None:
        """A failed task once more, by itself; None where it failed before."""
        task = self._running[number]
        if task.has_failed:
            return None
        return self._rerun(replace(task, has_failed=True))

    def take(self, number: int, answer: ChunkText, told: str) -> Taken:
        """An answer came; `told` is what the gateway has heard of its text already.

        Raises ToldOtherwise.
        """
        task = self._running[number]
        again = self._heard_better(task, answer)
        if again is not None:
            return Taken(again=self._rerun(again))
        del self._running[number]
        told = self._told_of(task, told)
        outcome = outcome_of(task, answer, len(told), wants_tokens=self._request.wants_logprobs)
        if not outcome.text.startswith(told):
            raise ToldOtherwise
        index = task.chunk.index
        tail = tail_of(task, answer, outcome)
        self._heard.setdefault(index, []).append(_Heard(task, outcome, tail))
        if any(other.chunk.index == index for other in self._running.values()):
            return Taken()
        heard = sorted(self._heard.pop(index), key=lambda each: each.task.number)
        self._keep_tails(index, heard)
        return Taken(outcome=joined([each.outcome for each in heard]))

    def _told_of(self, task: ChunkTask, told: str) -> str:
        """What of the chunk's told text is this task's."""
        is_later = any(
            other.chunk.index == task.chunk.index and other.number < task.number
            for other in self._running.values()
        )
        return "" if is_later else text_behind(self._text_before(task), told)

    def _text_before(self, task: ChunkTask) -> str:
        heard = sorted(self._heard.get(task.chunk.index, ()), key=lambda each: each.task.number)
        texts = [each.outcome.text for each in heard if each.task.number < task.number]
        return joined_text([text for text in texts if text])

    def _keep_tails(self, index: int, heard: Sequence[_Heard]) -> None:
        for channel in {each.task.turn.channel for each in heard}:
            own = [each for each in heard if each.task.turn.channel == channel]
            self._tails[channel] = (index, _tail(own))

    def _rerun(self, task: ChunkTask) -> ChunkTask:
        self._running[task.number] = task
        return task

    def _heard_better(self, task: ChunkTask, answer: ChunkText) -> ChunkTask | None:
        """How to infer a task again whose answer cannot be right; each way once."""
        if task.previous_context and is_copy_of_context(answer.text, task.previous_context):
            request = replace(task.request, context=self._context)
            return replace(task, request=request, previous_context="")
        if task.request.language is None and not is_echo(task, answer):
            if is_expected(answer.language, self._request.languages):
                return None
            request = replace(task.request, language=self._request.languages[0])
            return replace(task, request=request)
        return None

    def _tasks_of(self, chunk: Chunk) -> list[ChunkTask]:
        return [self._task(chunk, turn) for turn in chunk.turns]

    def _task(self, chunk: Chunk, turn: Turn) -> ChunkTask:
        samples = chunk.samples[turn.start - chunk.start : turn.end - chunk.start]
        if turn.channel is not None:
            samples = np.ascontiguousarray(samples[:, turn.channel])
        previous = self._previous_context(chunk.index, turn.channel)
        request = ChunkRequest(
            samples=samples,
            language=self._request.language,
            context="\n".join(part for part in (self._context, previous) if part),
            temperature=self._request.temperature,
            wants_logprobs=self._request.wants_logprobs,
            wants_words=self._request.wants_words,
        )
        self._next_number += 1
        return ChunkTask(self._next_number - 1, chunk, turn, request, is_faint(samples), previous)

    def _previous_context(self, index: int, channel: int | None) -> str:
        if not self._request.uses_previous_context:
            return ""
        heard, tail = self._tails.get(channel, (-1, ""))
        return tail if heard == index - 1 else ""


def _tail(turns: Sequence[_Heard]) -> str:
    """Of one channel's turns in a chunk: nothing that is suspicious, nor what was said before."""
    tails: list[str] = []
    for each in reversed(turns):
        if each.outcome.text and not each.tail:
            break
        tails.append(each.tail)
    return end_of(joined_text([tail for tail in reversed(tails) if tail]))


def is_expected(language: str | None, languages: Iterable[str]) -> bool:
    """Whether a caller who expects these may have this language; silence has none."""
    names = {name.casefold() for name in languages}
    return not names or language is None or language.casefold() in names
