"""Where live speech that does not pause is cut: between its quietest steps. Pure."""

from collections.abc import Sequence
from typing import Final

DEPTH_DB: Final = 40.0
"""Further below the loudest, all is equally quiet: a lost packet's zeros amid a word do not beat
the breath between two."""


def quietest_border(
    levels: Sequence[float], step_samples: int, first: int, earliest: int, latest: int
) -> int:
    """The border of two steps in [earliest, latest] with the quietest steps around it, the last
    such. The steps begin at sample ``first``, their levels are in dB; some border must lie there.
    """
    low = max(-(-(earliest - first) // step_samples), 1)
    high = min((latest - first) // step_samples, len(levels) - 1)
    floor = max(levels[low - 1 : high + 1]) - DEPTH_DB
    loudness = {
        border: max(levels[border - 1], levels[border], floor) for border in range(low, high + 1)
    }
    quietest = min(loudness.values())
    return first + step_samples * max(each for each in loudness if loudness[each] == quietest)
