"""An old hypothesis of an utterance as a draft of the new one. Pure.

It is verified whole in the first pass. Where the new text leaves it, the text often comes back to
it: once the last two tokens stand in the rest of the draft, what follows there is verified next.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST_REACH = 16
"""Tokens tried at once after coming back; twice as many each time all of them hold."""


class Draft:
    """Knows how far the new text has come along the old one."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = tuple(token_ids)
        self._point = 0
        """What lies before it is used up."""
        self._tried = 0
        """Where the tokens that are verified now begin."""
        self._reach = LEAST_REACH

    def __repr__(self) -> str:
        return f"<Draft of {len(self._token_ids)} tokens, {self._point} used up>"

    @property
    def may_follow(self) -> bool:
        """Whether something is left that text could come back to."""
        return max(1, self._point) < len(self._token_ids) - 1

    def judged(self, offered: int, accepted: int) -> None:
        """Of the tokens that were verified, so many hold."""
        if accepted:
            self._point = self._tried + accepted
        self._reach = 2 * self._reach if offered == accepted else LEAST_REACH

    def following(self, outputs: Sequence[int], most: int) -> tuple[int, ...]:
        """What may follow these output tokens: to be verified next. Empty where the text has not
        come back."""
        if len(outputs) < 2 or most < 1:
            return ()
        for place in range(max(1, self._point), len(self._token_ids) - 1):
            if self._token_ids[place - 1 : place + 1] == tuple(outputs[-2:]):
                self._tried = place + 1
                return self._token_ids[self._tried : self._tried + min(self._reach, most)]
        return ()
