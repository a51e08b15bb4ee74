"""Whose chunk runs next. Pure: no clock, no tensor, no thread.

Recordings take turns, one chunk each, so a short file waits for one chunk of a film and not for the
film. Within a recording chunks run in order.
"""

from collections import deque


class Turns:
    """Chunks that are cut and wait for inference."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[int]] = {}
        self._turns: deque[str] = deque()
        """Requests with waiting chunks, whose turn it is first."""
        self._alone: str | None = None

    def __repr__(self) -> str:
        chunks = sum(len(indexes) for indexes in self._waiting.values())
        return f"<Turns {chunks} chunks of {len(self._turns)} recordings>"

    @property
    def has_work(self) -> bool:
        """Whether a batch can be made."""
        return bool(self._turns) if self._alone is None else self._alone in self._waiting

    @property
    def waiting(self) -> tuple[str, ...]:
        """Requests with chunks that wait for their turn."""
        return tuple(self._turns)

    def run_alone(self, request_id: str | None) -> None:
        """Until told otherwise, take chunks of this request only, one at a time; None: of all."""
        self._alone = request_id

    def add(self, request_id: str, index: int) -> None:
        """A chunk was cut and waits."""
        if request_id not in self._waiting:
            self._waiting[request_id] = deque()
            self._turns.append(request_id)
        self._waiting[request_id].append(index)

    def drop(self, request_id: str) -> None:
        """Forget a recording's waiting chunks, and that it runs alone."""
        if self._alone == request_id:
            self._alone = None
        if self._waiting.pop(request_id, None) is not None:
            self._turns.remove(request_id)

    def next_batch(self, max_batch: int) -> list[tuple[str, int]]:
        """At most max_batch chunks (request id, index), one a recording and turn."""
        batch: list[tuple[str, int]] = []
        if self._alone is not None:
            if not self.has_work:
                return batch
            self._turns.remove(self._alone)
            self._turns.appendleft(self._alone)
            max_batch = 1
        while self._turns and len(batch) < max_batch:
            request_id = self._turns.popleft()
            indexes = self._waiting[request_id]
            batch.append((request_id, indexes.popleft()))
            if indexes:
                self._turns.append(request_id)
            else:
                del self._waiting[request_id]
        return batch
