"""How far recordings may be cut ahead of inference: a bound on the samples in memory.

Each may hold as many chunks as its engine can use, all together so many, and the first few of each
are always granted: a short file beside films need not wait until they give chunks back.
"""

import threading
from collections import Counter
from collections.abc import Callable

LEAST = 8
"""Chunks that each recording may hold however many others hold."""
MOST_OF_ALL = 512
"""Chunks of 30 s are 1.9 MB, so these are a gigabyte."""


class ChunksAhead:
    """Chunks that are cut and not finished. For any number of threads."""

    def __init__(self, of_one: int, of_all: int = MOST_OF_ALL, *, least: int = LEAST) -> None:
        self.least = least
        """What every recording gets without waiting for inference."""
        self._of_one = max(least, of_one)
        self._of_all = of_all
        self._held: Counter[object] = Counter()
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<ChunksAhead {self._held.total()} of {len(self._held)} recordings>"

    def take(self, holder: object, is_stopped: Callable[[], bool]) -> bool:
        """Wait for room for one more chunk; False when the holder is stopped instead."""
        with self._changed:
            self._changed.wait_for(lambda: is_stopped() or self._has_room(holder))
            if is_stopped():
                return False
            self._held[holder] += 1
            return True

    def give_back(self, holder: object) -> None:
        """One of the holder's chunks is finished."""
        with self._changed:
            self._held[holder] -= 1
            self._changed.notify_all()

    def forget(self, holder: object) -> None:
        """Give back what a holder has and let it no longer wait; is_stopped() has to be true."""
        with self._changed:
            del self._held[holder]
            self._changed.notify_all()

    def _has_room(self, holder: object) -> bool:
        held = self._held[holder]
        return held < self.least or (held < self._of_one and self._held.total() < self._of_all)
