"""Which scripts write no spaces between words. Pure; text of both sides is judged by it."""

from bisect import bisect_right

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x3190, 0xA4CF),  # CJK ideographs, Yi; Hangul, which is spaced, lies around these ranges
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFE30, 0xFE4F),  # CJK compatibility forms
    (0xFF00, 0xFF9F),  # fullwidth forms, halfwidth Katakana
    (0x20000, 0x3FFFF),  # further CJK ideographs
)
"""Code points (Unicode 16 blocks), first and last."""

_EDGES = [edge for first, last in UNSPACED for edge in (first, last + 1)]


def is_unspaced(character: str) -> bool:
    """Whether its script writes no spaces between words."""
    return character >= "\u0e00" and bisect_right(_EDGES, ord(character)) % 2 == 1
