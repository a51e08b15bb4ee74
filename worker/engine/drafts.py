"""An old hypothesis of an utterance as a draft of the new one. Pure.

It is verified whole in the first pass. Where the new text leaves it, the text mostly comes back to
it: behind one other token, or where its last two tokens stand in the rest of the draft. What
follows there is verified next.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST_REACH = 16
"""Tokens tried at once after coming back; twice as many each time all of them hold."""
FARTHEST = 24
"""Tokens by which text may have become longer or shorter before it comes back. What stands farther
off is more likely a phrase that is said twice."""


class Draft:
    """Knows how far the new text has come along the old one."""

    def __init__(self, token_ids: Sequence[int], behind: int = 0) -> None:
        """It begins behind so many output tokens."""
        self._token_ids = tuple(token_ids)
        self._point = 0
        """What lies before it is used up."""
        self._shift = behind
        """Places by which the text was behind the draft where they last agreed."""
        self._tried = (0, behind)
        """Where the tokens that are verified now begin, and the shift if they hold."""
        self._wrong = 0
        """Place of the last token that did not hold."""
        self._has_missed = False
        """Nothing held of the tokens verified last."""
        self._reach = LEAST_REACH

    def __repr__(self) -> str:
        return f"<Draft of {len(self._token_ids)} tokens, {self._point} used up>"

    def may_follow(self, outputs: int) -> bool:
        """Whether text of so many output tokens could yet come back to something."""
        nearest = max(1, self._point, outputs - self._shift - FARTHEST)
        return nearest < len(self._token_ids) - 1

    def judged(self, offered: int, accepted: int) -> None:
        """Of the tokens that were verified, so many hold."""
        begin, shift = self._tried
        if accepted:
            self._point, self._shift = begin + accepted, shift
        self._wrong = begin + accepted
        self._has_missed = accepted == 0
        self._reach = 2 * self._reach if offered == accepted else LEAST_REACH

    def following(self, outputs: Sequence[int], most: int) -> tuple[int, ...]:
        """What may follow these output tokens: to be verified next, at most so many. Empty where
        the text has not come back."""
        expected = len(outputs) - 1 - self._shift
        first = max(1, self._point, expected - FARTHEST)
        last = min(len(self._token_ids) - 2, expected + FARTHEST)
        pair = tuple(outputs[-2:])
        found = [p for p in range(first, last + 1) if self._token_ids[p - 1 : p + 1] == pair]
        if not found:
            return ()
        place = min(found, key=lambda place: abs(place - expected))
        return self._offered(place + 1, len(outputs), most)

    def behind_correction(self, outputs: Sequence[int], most: int) -> tuple[int, ...]:
        """The same where the last output token stands in place of a wrong one: it may be the only
        one that is other, or the wrong one was too many."""
        found = self.following(outputs, most)
        if found or self._has_missed:
            return found
        behind = self._token_ids[self._wrong + 1 : self._wrong + 2]
        is_left_out = behind == tuple(outputs[-1:])
        return self._offered(self._wrong + 1 + is_left_out, len(outputs), most)

    def _offered(self, begin: int, outputs: int, most: int) -> tuple[int, ...]:
        self._tried = begin, outputs - begin
        return self._token_ids[begin : begin + max(0, min(self._reach, most))]
