"""Whose chunk runs next. Pure: no clock, no tensor, no thread.

Recordings take turns, one chunk each, so a short file waits for one chunk of a film and not for the
film. Within a recording chunks run in order.
"""

from collections import deque


class Scheduler:
    """Chunks that are cut and wait for inference."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[int]] = {}
        self._turns: deque[str] = deque()
        """Requests with waiting chunks, whose turn it is first."""

    def __repr__(self) -> str:
        chunks = sum(len(indexes) for indexes in self._waiting.values())
        return f"<Scheduler {chunks} chunks of {len(self._turns)} recordings>"

    @property
    def has_work(self) -> bool:
        """Whether a batch can be made."""
        return bool(self._turns)

    def add(self, request_id: str, index: int) -> None:
        """A chunk was cut and waits."""
        if request_id not in self._waiting:
            self._waiting[request_id] = deque()
            self._turns.append(request_id)
        self._waiting[request_id].append(index)

    def drop(self, request_id: str) -> None:
        """Forget a recording's waiting chunks."""
        if self._waiting.pop(request_id, None) is not None:
            self._turns.remove(request_id)

    def next_batch(self, max_batch: int) -> list[tuple[str, int]]:
        """At most max_batch chunks (request id, index), one a recording and turn."""
        batch: list[tuple[str, int]] = []
        while self._turns and len(batch) < max_batch:
            request_id = self._turns.popleft()
            indexes = self._waiting[request_id]
            batch.append((request_id, indexes.popleft()))
            if indexes:
                self._turns.append(request_id)
            else:
                del self._waiting[request_id]
        return batch
