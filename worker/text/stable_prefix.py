"""Which beginning of a chunk's text is settled while the rest is still being written.

Pure: raw output so far -> text that may be shown. What repetition.py and model_output.py could yet
take away is held back, so that shown text is never taken back.
"""

import re
from bisect import bisect_left
from typing import Final

from worker.text.model_output import ModelOutput, parse_model_output
from worker.text.repetition import find_repetitions
from worker.text.scripts import is_unspaced

_TEXT_MARK: Final = "<asr_text>"
# All that later becomes an opening if the tag follows: model_output.py's patterns without it.
_MAY_OPEN: Final = re.compile(
    r"\A\s*language\b\s*[^<\n]{0,60}(?:\n[^<]{0,200})?\Z"
    r"|\blanguage\s{0,9}(?:(?<=\s)[A-Za-z,]{1,40}\s{0,9})?\Z",
    re.I,
)
# Half a character may be at the end where a tag is held back.
_LOOSE_END: Final = re.compile(r"[\s\ufffd]+\Z")
_LOOK_BACK: Final = 120
"""Characters before what was settled last in which a loop is looked for: the first copy of a unit
lies there. Each look costs time, and of a longer unit one copy too many may stay."""


def settled_output(raw: str, forced_language: str | None = None, settled: str = "") -> ModelOutput:
    """Language and settled text of an output that is still being written.

    `settled` is what was settled before; it only grows, and is all there is where `raw` no longer
    begins so. Final texts begin with it if repair_repetitions() is told its length; only a loop
    around loops would have lost some of it otherwise.
    """
    if forced_language is None and _TEXT_MARK not in raw:
        return ModelOutput(None, settled)
    parsed = parse_model_output(raw, forced_language)
    # Behind it a tag or special token may be under way, or one that another parts in two.
    text = (parsed.text + " " * raw[-1:].isspace()).partition("<")[0]
    end = _unrepeated(text, len(settled))
    if opening := _MAY_OPEN.search(text.rstrip()):
        end = min(end, opening.start())
    text = _whole_words(text, end)
    is_longer = len(text) > len(settled) and text.startswith(settled)
    return ModelOutput(parsed.language, text if is_longer else settled)


def _unrepeated(text: str, settled: int) -> int:
    """Where what repair may take away begins, now or after more of the same.

    A loop is taken away from its second copy on. One that reaches the end of a text has as its
    second copy and what follows an ending of the text that stands in it before.
    """
    first = max(0, settled - _LOOK_BACK)
    loops = [loop.start + loop.period + first for loop in find_repetitions(text[first:])]
    return min([len(text) - _longest_repeated_ending(text), *loops])


def _longest_repeated_ending(text: str) -> int:
    """Characters of the longest ending that begins somewhere before as well."""
    lengths = range(1, len(text))
    # Where a length does not, no greater one does.
    return bisect_left(
        lengths, True, key=lambda length: text.find(text[-length:], 0, len(text) - 1) < 0
    )


def _whole_words(text: str, end: int) -> str:
    """What of text[:end] ends with a word: one is whole once a space follows, and characters of
    scripts without spaces are."""
    if not text[end : end + 1].isspace():
        while end and not text[end - 1].isspace() and not is_unspaced(text[end - 1]):
            end -= 1
    return _LOOSE_END.sub("", text[:end])
