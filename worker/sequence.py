"""One chunk on its way through the native engine, as the scheduler counts it. Pure: no tensor.

A sequence is admitted (it gets a slot and a region of the KV arena), then its windows are encoded,
its prompt is prefilled in slices, then it decodes one token a step until the engine drops it.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from worker.kv_arena import Region


class Priority(IntEnum):
    """Which work goes first: the smaller the sooner."""

    LIVE_FINAL = 0
    LIVE_PARTIAL = 1
    INTERACTIVE = 2
    BULK = 3

    @property
    def is_live(self) -> bool:
        """Whether somebody speaks and watches the text appear."""
        return self <= Priority.LIVE_PARTIAL


@dataclass(eq=False)
class Sequence:
    """What one chunk needs, and how much of it has been launched.

    The counters say what has been handed out, not what the device has finished. They and the place
    (`region`, `slot`) belong to the scheduler; everyone else reads them.
    """

    key: tuple[str, int]
    """Request id and index of the chunk."""
    priority: Priority
    windows: int
    """Encoder windows its audio needs."""
    prompt_tokens: int
    """Tokens of the whole prompt, audio tokens included."""
    max_new_tokens: int

    is_live: bool = field(init=False)
    """Whether it belongs to a live session; asked of every sequence at every step."""
    region: Region | None = field(default=None, init=False)
    """Its rows of the KV arena; None unless admitted."""
    slot: int | None = field(default=None, init=False)
    """Its row in the engine's tables with one row a sequence; None unless admitted."""
    admissions: int = field(default=0, init=False)
    """Times it was admitted: what was launched under an earlier count is void."""
    encoded_windows: int = field(default=0, init=False)
    prefilled_tokens: int = field(default=0, init=False)
    """Prompt tokens whose KV rows are written or under way."""
    decoded_tokens: int = field(default=0, init=False)
    """Output tokens launched. The last slice of the prompt yields the first; a decode step reads
    token n, writes its KV row and yields token n + 1. The last token's row is never written."""

    def __post_init__(self) -> None:
        self.is_live = self.priority.is_live
        if self.windows < 0 or self.prompt_tokens < 1 or self.max_new_tokens < 1:
            raise ValueError(f"a sequence needs a prompt and room for an answer: {self!r}")

    def __repr__(self) -> str:
        place = "waits" if self.region is None else f"slot {self.slot}"
        return (
            f"<Sequence {self.key[0]}/{self.key[1]} {self.priority.name.lower()}, {place}, "
            f"windows {self.encoded_windows}/{self.windows}, "
            f"prompt {self.prefilled_tokens}/{self.prompt_tokens}, "
            f"output {self.decoded_tokens}/{self.max_new_tokens}>"
        )

    @property
    def request_id(self) -> str:
        """The recording or session it belongs to: who takes turns."""
        return self.key[0]

    @property
    def kv_tokens(self) -> int:
        """Rows of the arena it may come to need."""
        return self.prompt_tokens + self.max_new_tokens

    @property
    def kv_rows(self) -> int:
        """KV rows written or under way: where the next decode step writes."""
        return self.prefilled_tokens + max(0, self.decoded_tokens - 1)

    @property
    def is_encoded(self) -> bool:
        """Whether every window has been launched."""
        return self.encoded_windows == self.windows

    @property
    def is_prefilled(self) -> bool:
        """Whether the whole prompt has been launched, and with it the first output token."""
        return self.prefilled_tokens == self.prompt_tokens

    @property
    def decodes(self) -> bool:
        """Whether another decode step is useful: all prefilled, and tokens left to launch."""
        return self.is_prefilled and self.decoded_tokens < self.max_new_tokens

    @property
    def is_launched(self) -> bool:
        """Whether nothing of it is left to launch."""
        return self.is_prefilled and self.decoded_tokens == self.max_new_tokens

    def start_over(self) -> None:
        """Forget its place and all progress."""
        self.region = self.slot = None
        self.encoded_windows = self.prefilled_tokens = self.decoded_tokens = 0


@dataclass(frozen=True, slots=True)
class WindowSlice:
    """Windows `first` to `first + count` of one sequence."""

    sequence: Sequence
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TokenSlice:
    """Prompt tokens `first` to `first + count` of one sequence."""

    sequence: Sequence
    first: int
    count: int
    is_last: bool
    """Whether the prompt ends here, so that the slice yields the first output token."""


@dataclass(frozen=True, slots=True)
class Encode:
    """A batch of encoder windows."""

    parts: tuple[WindowSlice, ...]

    @property
    def windows(self) -> int:
        """Windows of all parts."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True)
class Extend:
    """A batch of prefill: slices of prompts whose windows are all encoded."""

    slices: tuple[TokenSlice, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all slices."""
        return sum(piece.count for piece in self.slices)


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One more token for each of these sequences."""

    sequences: tuple[Sequence, ...]


Batch = Encode | Extend | DecodeStep
