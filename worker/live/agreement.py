"""Which beginning of a growing utterance's text is told for good. Pure.

Told is what two texts in a row agree on, word by word, and what the repair of repetitions can no
longer touch. Nothing is taken back: where later texts say otherwise, nothing more is told.
"""

from protocol.scripts import is_unspaced
from worker.text.stable_prefix import settled_output

_ANY_LANGUAGE = "English"  # settled_output() wants to know that there is no preamble to look for


class AgreedText:
    """Of one utterance."""

    def __init__(self) -> None:
        self._last = ""
        self._stable = ""

    def __repr__(self) -> str:
        return f"<AgreedText {len(self._stable)} of {len(self._last)} characters stable>"

    @property
    def stable(self) -> str:
        """What was told for good; only grows."""
        return self._stable

    def update(self, text: str) -> str:
        """The utterance's text now -> its tail: what follows the stable text and may change.

        A text that contradicts the stable one has no tail.
        """
        agreed = _common_words(self._last, text)
        self._last = text
        if not text.startswith(self._stable):
            return ""
        is_followed = text[agreed : agreed + 1].isspace()  # a word is whole by what follows it
        seen = text[: agreed + is_followed]
        self._stable = settled_output(seen, _ANY_LANGUAGE, self._stable).text
        return text[len(self._stable) :]


def _common_words(first: str, second: str) -> int:
    """Characters of the longest common beginning that ends with a word in both."""
    limit = min(len(first), len(second))
    end = next((place for place in range(limit) if first[place] != second[place]), limit)
    while end and not (_ends_word(first, end) and _ends_word(second, end)):
        end -= 1
    return end


def _ends_word(text: str, end: int) -> bool:
    following = text[end : end + 1]
    return not following or following.isspace() or is_unspaced(text[end - 1])
