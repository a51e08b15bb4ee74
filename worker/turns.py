"""Whose chunk runs next, for engines that take whole batches. Pure: no clock, no tensor, no thread.

Requests of one priority take turns, one chunk each, so a short file waits for one chunk of a film
and not for the film. Within a request chunks run in order.
"""

from bisect import insort

from worker.sequence import Priority


class Turns:
    """Chunks that wait for inference."""

    def __init__(self) -> None:
        self._waiting: dict[Priority, dict[str, list[int]]] = {one: {} for one in Priority}
        """Chunks of each request, the request whose turn it is first. As many as are added."""
        self._alone: str | None = None

    def __repr__(self) -> str:
        classes = self._waiting.values()
        chunks = sum(len(indexes) for requests in classes for indexes in requests.values())
        return f"<Turns {chunks} chunks of {len(set().union(*classes))} requests>"

    @property
    def has_work(self) -> bool:
        """Whether a batch can be made."""
        return any(self._next_request(requests) for requests in self._waiting.values())

    def run_alone(self, request_id: str | None) -> None:
        """Until told otherwise, take chunks of this request only, one at a time; None: of all."""
        self._alone = request_id

    def add(self, key: tuple[str, int], priority: Priority) -> None:
        """A chunk (request id, index) waits."""
        request_id, index = key
        insort(self._waiting[priority].setdefault(request_id, []), index)

    def remove(self, key: tuple[str, int]) -> None:
        """Forget a chunk, if it waits."""
        request_id, index = key
        for requests in self._waiting.values():
            indexes = requests.get(request_id, [])
            if index in indexes:
                indexes.remove(index)
                if not indexes:
                    del requests[request_id]

    def next_batch(self, most: int) -> list[tuple[str, int]]:
        """At most so many chunks; the first priority first, one chunk a request and turn."""
        batch: list[tuple[str, int]] = []
        if self._alone is not None:
            most = 1
        while len(batch) < most and (key := self._take()) is not None:
            batch.append(key)
        return batch

    def _take(self) -> tuple[str, int] | None:
        for requests in self._waiting.values():
            request_id = self._next_request(requests)
            if request_id is not None:
                indexes = requests.pop(request_id)
                index = indexes.pop(0)
                if indexes:
                    requests[request_id] = indexes  # behind the others of its priority
                return request_id, index
        return None

    def _next_request(self, requests: dict[str, list[int]]) -> str | None:
        return next((one for one in requests if self._alone in (None, one)), None)
