"""How wide text stands on a screen, in columns: East Asian wide characters take two.

Own tables instead of unicodedata, whose own would cost the gateway memory. Unicode 15, as far as
the model's languages need; a character missing here counts one.
"""

from bisect import bisect_right

# East Asian Width W and F (UAX 11), with unassigned code points between them.
_WIDE = (
    (0x1100, 0x115F),  # Hangul Jamo
    (0x2E80, 0x303E),
    (0x3040, 0xA4CF),  # Kana, ideographs, Yi
    (0xA960, 0xA97F),
    (0xAC00, 0xD7A3),  # Hangul
    (0xF900, 0xFAFF),
    (0xFE10, 0xFE1F),
    (0xFE30, 0xFE6F),
    (0xFF01, 0xFF60),  # fullwidth forms
    (0xFFE0, 0xFFE6),
    (0x1F300, 0x1F64F),  # pictographs
    (0x1F680, 0x1F6FF),
    (0x1F900, 0x1F9FF),
    (0x20000, 0x3FFFD),  # further ideographs
)

# Marks above and below others, and what only steers the layout.
_ZERO_WIDTH = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05BD),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06DC),
    (0x06DF, 0x06E4),
    (0x06E7, 0x06E8),
    (0x06EA, 0x06ED),
    (0x0900, 0x0902),
    (0x093A, 0x093A),
    (0x093C, 0x093C),
    (0x0941, 0x0948),
    (0x094D, 0x094D),
    (0x0951, 0x0957),
    (0x0962, 0x0963),
    (0x0E31, 0x0E31),
    (0x0E34, 0x0E3A),
    (0x0E47, 0x0E4E),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x20D0, 0x20F0),
    (0x302A, 0x302D),
    (0x3099, 0x309A),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xFEFF, 0xFEFF),
)

_SPACING_MARKS = (
    (0x0903, 0x0903),
    (0x093B, 0x0940),
    (0x0949, 0x094F),
    (0x0E33, 0x0E33),
    (0x1160, 0x11FF),  # vowels and final consonants of Hangul Jamo
    (0x1F3FB, 0x1F3FF),  # colours of skin
)
"""What takes columns and still belongs to the character before it."""
_JOINERS = "\u200d\u094d"
"""What holds the next character to the one before: of emoji, of Devanagari's consonants."""

_COLUMNS_FROM = sorted(
    [(first, 2) for first, _ in _WIDE]
    + [(last + 1, 1) for _, last in _WIDE]
    + [(first, 0) for first, _ in _ZERO_WIDTH]
    # Zero-width marks inside the range of Kana and ideographs end where wide ones go on.
    + [(last + 1, 2 if 0x2E80 <= last <= 0x3FFF else 1) for _, last in _ZERO_WIDTH]
)
_STARTS = [start for start, _ in _COLUMNS_FROM]
_COLUMNS = [columns for _, columns in _COLUMNS_FROM]


def columns(text: str) -> int:
    """Columns of a line of text; no tabs or line ends in it."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def is_zero_width(character: str) -> bool:
    """Whether it belongs to the character before it."""
    return character >= "\u0300" and _columns_of(character) == 0


def grapheme_edges(text: str) -> list[int]:
    """Where the text may be cut so that no character as readers see it is torn, its two ends
    included. After UAX 29, as far as the model's languages and emoji need."""
    edges, flags = [0], 0
    for i in range(1, len(text)):
        flags = flags + 1 if _is_regional(text[i - 1]) else 0
        is_second_of_flag = flags % 2 == 1 and _is_regional(text[i])
        if not (is_second_of_flag or _belongs(text[i - 1], text[i])):
            edges.append(i)
    return [*edges, len(text)] if text else edges


def _belongs(left: str, right: str) -> bool:
    if left < "\u0300" and right < "\u0300":
        return False
    return (
        is_zero_width(right)
        or left in _JOINERS
        or any(first <= ord(right) <= last for first, last in _SPACING_MARKS)
    )


def _is_regional(character: str) -> bool:
    """Two of these are a flag."""
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _columns_of(character: str) -> int:
    code = ord(character)
    if code < 0x0300:
        return 1
    return _COLUMNS[bisect_right(_STARTS, code) - 1]
