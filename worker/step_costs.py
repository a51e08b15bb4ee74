"""What a batch costs in seconds, learned from those that ran. Pure: measured times are arguments.

Sizes fall into power-of-two classes. A class counts from its second batch on and believes the lower
median of its latest ones, so a first call that compiles or a hiccup changes nothing.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from worker.sequence import Batch, DecodeStep, Encode

LEAST_WINDOWS = 1
LEAST_TOKENS = 64
LEAST_ROWS = 1
"""Sizes that are always affordable: work has to go on."""

LARGEST_CLASS = 16
"""No batch has more than 2^16 windows, tokens or rows."""
BATCHES_REMEMBERED = 9
BATCHES_TO_COUNT = 2
PRIOR_HOLDS = 2.0
"""A prior is about right when it is wrong by this factor at most."""
STEEPEST = 1.5
"""A class costs at most so much more than in proportion to the next smaller one known. Without it
two hiccups in a row would make a size unaffordable, and so never tried again."""


@dataclass(frozen=True, slots=True)
class LinearCost:
    """Seconds of a batch: `fixed`, and `each` for every window, token or row."""

    fixed: float
    each: float

    def __post_init__(self) -> None:
        if self.fixed < 0 or self.each <= 0:
            raise ValueError(f"a larger batch has to cost more: {self!r}")

    def seconds(self, size: int) -> float:
        """What so many cost."""
        return self.fixed + self.each * size


# The 1.7B model on an H200, about twice its floor. A slower card corrects them in its first steps.
ENCODE_PRIOR = LinearCost(0.003, 0.00025)
EXTEND_PRIOR = LinearCost(0.005, 0.000008)
DECODE_PRIOR = LinearCost(0.003, 0.000015)


class StepCosts:
    """Seconds by kind of batch, from the priors given and what was observed since."""

    def __init__(
        self,
        encode: LinearCost = ENCODE_PRIOR,
        extend: LinearCost = EXTEND_PRIOR,
        decode: LinearCost = DECODE_PRIOR,
    ) -> None:
        self._encode = CostCurve(encode)
        self._extend = CostCurve(extend)
        self._decode = CostCurve(decode)

    def __repr__(self) -> str:
        return (
            f"<StepCosts ms: window {1000 * self.encode_seconds(1):.2f}, "
            f"1024 tokens {1000 * self.extend_seconds(1024):.2f}, "
            f"decode step {1000 * self.decode_seconds(1):.2f}>"
        )

    def observe(self, batch: Batch, seconds: float) -> None:
        """This batch took so long."""
        if isinstance(batch, Encode):
            self._encode.observe(batch.windows, seconds)
        elif isinstance(batch, DecodeStep):
            self._decode.observe(len(batch.sequences), seconds)
        else:
            self._extend.observe(batch.tokens, seconds)

    def encode_seconds(self, windows: int) -> float:
        """What an Encode of so many windows is going to take."""
        return self._encode.seconds(windows)

    def extend_seconds(self, tokens: int) -> float:
        """What an Extend of so many tokens is going to take."""
        return self._extend.seconds(tokens)

    def decode_seconds(self, rows: int) -> float:
        """What a DecodeStep of so many sequences is going to take."""
        return self._decode.seconds(rows)

    def windows_within(self, seconds: float) -> int:
        """Windows that can be encoded in that time, at least one."""
        return max(LEAST_WINDOWS, self._encode.size_within(seconds))

    def tokens_within(self, seconds: float) -> int:
        """Tokens that can be prefilled in that time, at least 64."""
        return max(LEAST_TOKENS, self._extend.size_within(seconds))

    def rows_within(self, seconds: float) -> int:
        """Sequences that can take a decode step in that time, at least one."""
        return max(LEAST_ROWS, self._decode.size_within(seconds))


class CostCurve:
    """Seconds of one kind of batch by size; never less for a larger one."""

    def __init__(self, prior: LinearCost) -> None:
        self._prior = prior
        self._ratios: dict[int, deque[float]] = {}
        """By class: latest measured seconds, as multiples of the prior at that size."""
        self._pieces = [prior] * (LARGEST_CLASS + 1)
        """By class: the line that holds for its sizes."""
        self._ends: list[float] = []
        """By class: seconds of its largest size, which larger ones cost at least."""
        self._join()

    def observe(self, size: int, seconds: float) -> None:
        """A batch of that size took so long."""
        if size < 1 or seconds < 0:
            raise ValueError(f"no batch has {size} parts and takes {seconds} s")
        latest = self._ratios.setdefault(_class_of(size), deque(maxlen=BATCHES_REMEMBERED))
        latest.append(max(seconds, 1e-7) / self._prior.seconds(size))
        self._learn()

    def seconds(self, size: int) -> float:
        """What a batch of that size is going to take."""
        if size < 1:
            return 0.0
        number = _class_of(size)
        floor = self._ends[number - 1] if number else 0.0
        return max(floor, self._pieces[number].seconds(size))

    def size_within(self, seconds: float) -> int:
        """The largest size that fits, maybe 0."""
        number = bisect_right(self._ends, seconds)  # these classes fit as a whole
        low = 1 << (number - 1) if number else 0
        high = 1 << min(number, LARGEST_CLASS)
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(middle) <= seconds:
                low = middle
            else:
                high = middle - 1
        return low

    def _learn(self) -> None:
        known = {
            number: sorted(latest)[(len(latest) - 1) // 2]
            for number, latest in self._ratios.items()
            if len(latest) >= BATCHES_TO_COUNT
        }
        if not known:
            return
        below: int | None = None
        for number in range(LARGEST_CLASS + 1):
            above = min((other for other in known if other >= number), default=None)
            if above is not None:
                piece = self._scaled(known[above])
                if below is not None:
                    piece = self._less_steep(piece, number, below)
            else:
                assert below is not None
                piece = self._beyond(below, known)
            if number in known:
                below = number
            self._pieces[number] = piece
        self._join()

    def _scaled(self, ratio: float) -> LinearCost:
        return LinearCost(self._prior.fixed * ratio, self._prior.each * ratio)

    def _beyond(self, below: int, known: dict[int, float]) -> LinearCost:
        """Above the largest known class the prior is believed as long as it proved about right.

        Else in proportion, which errs on the high side, as a batch has a fixed cost too.
        """
        if 1 / PRIOR_HOLDS <= known[below] <= PRIOR_HOLDS:
            return self._scaled(known[below])
        return self._proportional(below)

    def _proportional(self, below: int) -> LinearCost:
        size = 1 << below
        return LinearCost(0.0, self._pieces[below].seconds(size) / size)

    def _less_steep(self, piece: LinearCost, number: int, below: int) -> LinearCost:
        size = 1 << number
        most = STEEPEST * self._proportional(below).seconds(size)
        share = min(1.0, most / piece.seconds(size))
        return LinearCost(piece.fixed * share, piece.each * share)

    def _join(self) -> None:
        self._ends = []
        for number, piece in enumerate(self._pieces):
            floor = self._ends[-1] if number else 0.0
            self._ends.append(max(floor, piece.seconds(1 << number)))


def _class_of(size: int) -> int:
    """1 is class 0, 2 is 1, 3 and 4 are 2, ... up to the largest."""
    return min((size - 1).bit_length(), LARGEST_CLASS)
