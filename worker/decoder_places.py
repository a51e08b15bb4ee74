"""Which recordings may have a decoder open: each is a process with memory of its own.

Films keep theirs for as long as they are transcribed, so they have lasting places. A few brief ones
are for the beginnings of all others, which never wait for inference: what is short is cut whole in
one and waits for no film; what turns out to be long begins anew when a lasting place is free.
Uploads that are slow to come have half the lasting places at most: films do not wait for them.
"""

import threading
from collections import deque
from collections.abc import Callable

LASTING = 16
BRIEF = 4
TOLD_EVERY = 1.0
"""Seconds from one sign of life of a recording that waits to the next."""


class DecoderPlaces:
    """Places for decoders and who has them. For any number of threads; holders are any objects."""

    def __init__(
        self, *, lasting: int = LASTING, brief: int = BRIEF, told_every: float = TOLD_EVERY
    ) -> None:
        self._most_lasting = lasting
        self._most_brief = brief
        self._told_every = told_every
        self._lasting: set[object] = set()
        self._slow: set[object] = set()
        """Those of them that came when they could not be brief."""
        self._brief: set[object] = set()
        self._returning: deque[object] = deque()
        """Those that have begun and wait for a lasting place, first come first."""
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        held = f"{len(self._lasting)} lasting, {len(self._brief)} brief"
        return f"<DecoderPlaces {held}, {len(self._returning)} return>"

    def enter(
        self,
        holder: object,
        *,
        may_be_brief: Callable[[], bool],
        is_stopped: Callable[[], bool],
        still_waits: Callable[[], None],
    ) -> bool:
        """Wait for a place, brief only where it may be; False when the holder is stopped instead.

        `still_waits` is called now and then, and must not wait itself.
        """

        def has_entered() -> bool:
            if may_be_brief():
                return self._gets_lasting(holder) or self._gets_brief(holder)
            return self._gets_lasting_though_slow(holder)

        self._wait(lambda: is_stopped() or has_entered(), still_waits)
        return not is_stopped()

    def stays(self, holder: object) -> bool:
        """Whether the holder may keep its decoder from now on; else it has to close it, and
        return."""
        with self._changed:
            if holder in self._lasting:
                return True
            if not self._gets_lasting(holder):
                return False
            self._brief.discard(holder)
            self._changed.notify_all()
            return True

    def return_later(
        self, holder: object, *, is_stopped: Callable[[], bool], still_waits: Callable[[], None]
    ) -> bool:
        """Give the brief place up and wait for a lasting one; False when stopped instead."""
        with self._changed:
            self._brief.discard(holder)
            self._returning.append(holder)
            self._changed.notify_all()
        self._wait(lambda: is_stopped() or self._gets_lasting(holder), still_waits)
        return not is_stopped()

    def leave(self, holder: object) -> None:
        """The holder has no decoder, and wants none."""
        with self._changed:
            self._lasting.discard(holder)
            self._slow.discard(holder)
            self._brief.discard(holder)
            if holder in self._returning:
                self._returning.remove(holder)
            self._changed.notify_all()

    def wake(self) -> None:
        """Some holder is stopped: whoever waits looks again."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, is_over: Callable[[], bool], still_waits: Callable[[], None]) -> None:
        with self._changed:
            while not self._changed.wait_for(is_over, self._told_every):
                still_waits()

    def _gets_lasting(self, holder: object) -> bool:
        """Those that have begun go first."""
        if self._returning and self._returning[0] is not holder:
            return False
        if len(self._lasting) >= self._most_lasting:
            return False
        if self._returning:
            self._returning.popleft()
        self._lasting.add(holder)
        self._changed.notify_all()
        return True

    def _gets_lasting_though_slow(self, holder: object) -> bool:
        if len(self._slow) >= (self._most_lasting + 1) // 2 or not self._gets_lasting(holder):
            return False
        self._slow.add(holder)
        return True

    def _gets_brief(self, holder: object) -> bool:
        if len(self._brief) >= self._most_brief:
            return False
        self._brief.add(holder)
        return True
