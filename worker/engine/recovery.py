"""Keeps one chunk's failure from failing the others, and a batch too large for the device alive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from worker.engine.interface import ChunkFailure

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def answer_each(
    items: Sequence[Item],
    answer: Callable[[Sequence[Item]], Sequence[Answer]],
    *,
    failure_of: Callable[[Exception], ChunkFailure],
    release: Callable[[], None],
) -> list[Answer | ChunkFailure]:
    """Answers all items together; where that fails, in halves, down to single items.

    failure_of turns an error into the failure of the one item it came from, or raises where no item
    is to blame. release gives memory back before halves are tried.
    """
    if not items:
        return []
    try:
        return list(answer(items))
    except Exception as error:
        failure = failure_of(error)
    # Outside the except block: the error's traceback would keep the batch's tensors alive.
    release()
    if len(items) == 1:
        return [failure]
    middle = len(items) // 2
    return [
        found
        for half in (items[:middle], items[middle:])
        for found in answer_each(half, answer, failure_of=failure_of, release=release)
    ]
