"""Cuts segments into the units of text that no line break may enter, and tells when each is said.

Pure. Times are whole milliseconds of the recording here.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from gateway.formats.display_width import columns, grapheme_edges, is_zero_width
from gateway.formats.transcripts import needs_space
from protocol.scripts import is_unspaced
from protocol.transcription import Segment, Word

SAMPLES_PER_MS = 16

# Marks that never begin a line, and those that never end one (JIS X 4051, GB/T 15834; Thai vowels).
CLOSING = frozenset(
    "、。，．・：；？！゛゜ヽヾゝゞ々ー）〕］｝〉》」』】〙〗〟’”»›‐–—…‥%％‰℃°,.!?:;)]}"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶｧｨｩｪｫｯｬｭｮｰ､｡｣؟،؛।"
    "ะาำๅๆฯ"
)
OPENING = frozenset("（〔［｛〈《「『【〘〖〝‘“„«‹([{¿¡$£¥€￥＄#＃｢เแโใไ")
_SPOKEN = frozenset("ーヽヾゝゞ々ๆฯะาำๅเแโใไ")


class Unit(NamedTuple):
    """A word with its punctuation, or a character of a script without spaces with its own."""

    start: int
    end: int
    text: str
    follows_space: bool
    """Whether a space stands before it where it does not begin a line."""
    columns: int


def units_of(segment: Segment, max_columns: int) -> list[Unit]:
    """All of the segment's text, in order, each at most max_columns wide: longer words are cut.

    Times are those of the segment's words; what has none is spread over the time between.
    """
    text = segment.text
    words = _located_words(text, segment.words)
    inner_edges = {edge for start, end, _ in words for edge in (start, end)} if words else None
    extents = [
        extent
        for token in _tokens(text)
        for part in _broken(text, token, inner_edges, max_columns)
        for extent in _cut_to_width(text, part, max_columns)
    ]
    return _timed(segment, extents, words)


def spaced_after(previous: Unit, unit: Unit) -> Unit:
    """The first unit of a segment, as it follows the last one of the segment before."""
    return unit._replace(follows_space=needs_space(previous.text[-1], unit.text[0]))


def joined(units: Sequence[Unit]) -> str:
    """One line of text."""
    return "".join(" " + u.text if u.follows_space else u.text for u in units).strip()


class _Extent(NamedTuple):
    """Where a unit stands in its segment's text."""

    start: int
    end: int
    follows_space: bool


def _located_words(text: str, words: Sequence[Word]) -> list[tuple[int, int, Word]]:
    """Where each word stands in the text; nothing where one does not."""
    located = []
    cursor = 0
    for word in words:
        start = text.find(word.text, cursor)
        if start < 0 or not word.text:
            return []
        cursor = start + len(word.text)
        located.append((start, cursor, word))
    return located


def _tokens(text: str) -> Iterator[_Extent]:
    """What stands between spaces; punctuation standing alone stays with what it belongs to."""
    pending: _Extent | None = None
    cursor = 0
    for part in text.split():
        start = text.index(part, cursor)
        cursor = start + len(part)
        if pending is None:
            pending = _Extent(start, cursor, False)
        elif _is_only(part, CLOSING) or _is_only(text[pending.start : pending.end], OPENING):
            pending = pending._replace(end=cursor)
        else:
            yield pending
            pending = _Extent(start, cursor, True)
    if pending is not None:
        yield pending


def _is_only(part: str, marks: frozenset[str]) -> bool:
    return all(c in marks and c not in _SPOKEN for c in part)


def _broken(
    text: str, token: _Extent, inner_edges: set[int] | None, max_columns: int
) -> Iterator[_Extent]:
    """A token in the parts between which a line may end: words, where they are known."""
    inside = text[token.start : token.end]
    if inside.isascii() or not any(map(is_unspaced, inside)):
        yield token
        return
    edges = [
        token.start + i
        for i in range(1, len(inside))
        if _may_break(inside[i - 1], inside[i]) and not inside[i].isspace()
    ]
    kept = edges if inner_edges is None else [edge for edge in edges if edge in inner_edges]
    for part in _between(token, kept):
        if inner_edges is None or columns(text[part.start : part.end]) <= max_columns:
            yield part
        else:
            yield from _between(part, [edge for edge in edges if part.start < edge < part.end])


def _cut_to_width(text: str, extent: _Extent, max_columns: int) -> Iterator[_Extent]:
    """A word no line has room for, in pieces that fill lines; most words are one piece."""
    content = text[extent.start : extent.end]
    if len(content) <= max_columns and columns(content) <= max_columns:
        yield extent
        return
    edges, width = [], 0
    for start, end in pairwise(grapheme_edges(content)):
        taken = columns(content[start:end])
        if width + taken > max_columns and width:
            edges.append(extent.start + start)
            width = 0
        width += taken
    yield from _between(extent, edges)


def _may_break(left: str, right: str) -> bool:
    return (
        (is_unspaced(left) or is_unspaced(right))
        and right not in CLOSING
        and left not in OPENING
        and not left.isspace()
        and not left.isdecimal()  # a number stays with what it counts
        and not is_zero_width(right)
    )


def _between(extent: _Extent, edges: Sequence[int]) -> Iterator[_Extent]:
    follows_space = extent.follows_space
    for start, end in zip([extent.start, *edges], [*edges, extent.end], strict=True):
        yield _Extent(start, end, follows_space)
        follows_space = False


def _timed(
    segment: Segment, extents: Sequence[_Extent], words: Sequence[tuple[int, int, Word]]
) -> list[Unit]:
    units: list[Unit] = []
    untimed: list[_Extent] = []
    time = segment.start // SAMPLES_PER_MS
    first = 0
    for extent in extents:
        while first < len(words) and words[first][1] <= extent.start:
            first += 1
        spoken = _spoken_time(extent, words, first)
        if spoken is None:
            untimed.append(extent)
            continue
        start = max(time, spoken[0])
        units += _spread(segment.text, untimed, time, start)
        untimed.clear()
        time = max(start + 1, spoken[1])
        units.append(_unit(segment.text, extent, start, time))
    end = max(time, segment.end // SAMPLES_PER_MS)
    return units + _spread(segment.text, untimed, time, end)


def _spoken_time(
    extent: _Extent, words: Sequence[tuple[int, int, Word]], first: int
) -> tuple[int, int] | None:
    """Milliseconds from the first word in the extent to the last; of a word cut, its share."""
    last = first
    while last < len(words) and words[last][0] < extent.end:
        last += 1
    if last == first:
        return None
    return (
        _time_at(extent.start, words[first]),
        _time_at(extent.end, words[last - 1]),
    )


def _time_at(position: int, located: tuple[int, int, Word]) -> int:
    start, end, word = located
    share = min(max(position - start, 0), end - start) / (end - start)
    return round((word.start + (word.end - word.start) * share) / SAMPLES_PER_MS)


def _spread(text: str, extents: Sequence[_Extent], start: int, end: int) -> list[Unit]:
    """Units over a stretch of time, each as long as it is wide."""
    widths = [max(1, columns(text[e.start : e.end])) for e in extents]
    total = sum(widths)
    units = []
    done = 0
    for extent, width in zip(extents, widths, strict=True):
        begin = start + (end - start) * done // total
        done += width
        units.append(_unit(text, extent, begin, start + (end - start) * done // total))
    return units


def _unit(text: str, extent: _Extent, start: int, end: int) -> Unit:
    content = text[extent.start : extent.end]
    if not content.isprintable():
        content = "".join(map(_visible, " ".join(content.split())))
    return Unit(start, end, content, extent.follows_space, max(1, columns(content)))


def _visible(character: str) -> str:
    is_control = character < " " or "\x7f" <= character <= "\x9f"
    return "\ufffd" if is_control else character
