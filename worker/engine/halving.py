"""Parts of a batch that failed: what is left of it, and its halves. Pure.

A batch too large for the device's memory runs in halves; one with a faulty chunk is halved until
that chunk is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from worker.sequence import (
    Batch,
    DecodeStep,
    Encode,
    Extend,
    Sequence,
    TokenSlice,
    WindowSlice,
)

Slice = TypeVar("Slice", WindowSlice, TokenSlice)


def sequences_of(batch: Batch) -> tuple[Sequence, ...]:
    """Whom it works for."""
    if isinstance(batch, Encode):
        return tuple(part.sequence for part in batch.parts)
    if isinstance(batch, Extend):
        return tuple(piece.sequence for piece in batch.slices)
    return batch.sequences


def remaining(batch: Batch, is_wanted: Callable[[Sequence], bool]) -> Batch | None:
    """The batch without sequences nobody wants any more; None where nothing is left."""
    kept: Batch
    if isinstance(batch, Encode):
        kept = Encode(tuple(part for part in batch.parts if is_wanted(part.sequence)))
    elif isinstance(batch, Extend):
        kept = Extend(tuple(piece for piece in batch.slices if is_wanted(piece.sequence)))
    else:
        kept = DecodeStep(tuple(filter(is_wanted, batch.sequences)))
    return kept if sequences_of(kept) else None


def halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """Two batches that do the same one after the other, if need be with half of one sequence each;
    None for what cannot be parted."""
    if isinstance(batch, Encode):
        parts = _parted(batch.parts, batch.windows // 2)
        return (Encode(parts[0]), Encode(parts[1])) if batch.windows > 1 else None
    if isinstance(batch, Extend):
        slices = _parted(batch.slices, batch.tokens // 2)
        return (Extend(slices[0]), Extend(slices[1])) if batch.tokens > 1 else None
    middle = len(batch.sequences) // 2
    if middle == 0:
        return None
    return DecodeStep(batch.sequences[:middle]), DecodeStep(batch.sequences[middle:])


def _parted(slices: Iterable[Slice], room: int) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
    """The slices that fit into `room`, and the rest; one slice may be cut in two."""
    before: list[Slice] = []
    after: list[Slice] = []
    for piece in slices:
        taken = min(piece.count, room)
        room -= taken
        if taken:
            before.append(_cut(piece, 0, taken))
        if taken < piece.count:
            after.append(_cut(piece, taken, piece.count))
    return tuple(before), tuple(after)


def _cut(piece: Slice, begin: int, end: int) -> Slice:
    """From `begin` to `end`, counted from the slice's own start."""
    changed = replace(piece, first=piece.first + begin, count=end - begin)
    if isinstance(changed, TokenSlice) and end < piece.count:
        return replace(changed, is_last=False)
    return changed
