"""Sequences of one priority that wait for memory. Pure.

Requests take turns, one sequence each; within a request the earlier chunk goes first.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator

from worker.sequence import Sequence


class WaitingLine:
    """Who is next. Bounded by what its caller adds: a few chunks of every open request."""

    def __init__(self) -> None:
        self._turns: deque[str] = deque()
        """Requests with waiting sequences, the next one first."""
        self._waiting: dict[str, list[Sequence]] = {}
        """By request, ordered by chunk."""

    def __repr__(self) -> str:
        return f"<WaitingLine {len(self)} sequences of {len(self._turns)} requests>"

    def __len__(self) -> int:
        return sum(len(sequences) for sequences in self._waiting.values())

    def add(self, sequence: Sequence) -> None:
        """It waits, its request behind those that wait already."""
        if sequence.request_id not in self._waiting:
            self._turns.append(sequence.request_id)
        self._insert(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """It had its turn and lost its place: its request is next."""
        if sequence.request_id in self._waiting:
            self._turns.remove(sequence.request_id)
        self._turns.appendleft(sequence.request_id)
        self._insert(sequence)

    def first(self, request_id: str | None = None) -> Sequence | None:
        """Whose turn it is, of all or of one request."""
        if request_id is None:
            return self._waiting[self._turns[0]][0] if self._turns else None
        return self._waiting[request_id][0] if request_id in self._waiting else None

    def in_turn(self) -> Iterator[Sequence]:
        """The first of every request, whose turn is next before the others."""
        return (self._waiting[request_id][0] for request_id in self._turns)

    def take(self, sequence: Sequence) -> None:
        """Its turn has come: the other requests are before its next one."""
        self.remove(sequence)
        if sequence.request_id in self._waiting:
            self._turns.remove(sequence.request_id)
            self._turns.append(sequence.request_id)

    def remove(self, sequence: Sequence) -> None:
        """Forget it; ValueError if it does not wait here."""
        sequences = self._waiting.get(sequence.request_id, [])
        sequences.remove(sequence)
        if not sequences:
            del self._waiting[sequence.request_id]
            self._turns.remove(sequence.request_id)

    def _insert(self, sequence: Sequence) -> None:
        line = self._waiting.setdefault(sequence.request_id, [])
        insort(line, sequence, key=lambda other: other.key[1])
