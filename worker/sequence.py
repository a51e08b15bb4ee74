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
    """Output tokens in all, those of the prefix included."""
    prefix_tokens: int = 0
    """Output tokens taken as said: they follow the prompt in the first pass."""
    draft_tokens: int = 0
    """Output tokens that follow those, to be verified in the first pass."""
    utterance: str | None = None
    """What it is a step of; its region is parked under that name for the next step."""
    unchanged_tokens: int = 0
    """Prompt tokens that are those of the utterance's step before, KV rows and all."""
    roomy_tokens: int = 0
    """Rows of the arena it would like, so that later steps fit into the same region."""

    is_live: bool = field(init=False)
    """Whether it belongs to a live session; asked of every sequence at every step."""
    region: Region | None = field(default=None, init=False)
    """Its rows of the KV arena; None unless admitted."""
    slot: int | None = field(default=None, init=False)
    """Its row in the engine's tables with one row a sequence; None unless admitted."""
    admissions: int = field(default=0, init=False)
    """Times it was admitted: what was launched under an earlier count is void."""
    encoded_windows: int = field(default=0, init=False)
    given_tokens: int = field(default=0, init=False)
    """Tokens to be read in slices: the prompt, and output tokens that are known or guessed."""
    unverified_tokens: int = field(default=0, init=False)
    """How many of the given ones, at their end, are guessed."""
    prefilled_tokens: int = field(default=0, init=False)
    """Given tokens whose KV rows are written or under way."""
    decoded_tokens: int = field(default=0, init=False)
    """Output tokens launched, guessed ones as if they held. The last slice of the given tokens
    yields one; a decode step reads token n, writes its KV row and yields token n + 1. The last
    token's row is never written."""
    is_checked: bool = field(default=False, init=False)
    """Whether each result is to be read before more is launched: a part of its draft may follow."""
    awaits_verdict: bool = field(default=False, init=False)
    """Whether what comes next depends on a result that nobody has read yet."""

    def __post_init__(self) -> None:
        self.is_live = self.priority.is_live
        said = self.prefix_tokens + self.draft_tokens
        if self.windows < 0 or self.prompt_tokens < 1 or self.max_new_tokens <= said:
            raise ValueError(f"a sequence needs a prompt and room for an answer: {self!r}")
        if not 0 <= self.unchanged_tokens < self.prompt_tokens:
            raise ValueError(f"the end of a prompt is always new: {self!r}")
        self.start_over()

    def __repr__(self) -> str:
        place = "waits" if self.region is None else f"slot {self.slot}"
        return (
            f"<Sequence {self.key[0]}/{self.key[1]} {self.priority.name.lower()}, {place}, "
            f"windows {self.encoded_windows}/{self.windows}, "
            f"prompt {self.prefilled_tokens}/{self.given_tokens}, "
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
        if not self.is_prefilled:
            return self.prefilled_tokens
        return self.prompt_tokens + self.decoded_tokens - 1

    @property
    def is_encoded(self) -> bool:
        """Whether every window has been launched."""
        return self.encoded_windows == self.windows

    @property
    def is_prefilled(self) -> bool:
        """Whether all given tokens have been launched, and with them the one that follows."""
        return self.prefilled_tokens == self.given_tokens

    @property
    def decodes(self) -> bool:
        """Whether another decode step is useful: all prefilled, and tokens left to launch."""
        return (
            self.is_prefilled
            and not self.awaits_verdict
            and self.decoded_tokens < self.max_new_tokens
        )

    @property
    def is_launched(self) -> bool:
        """Whether nothing of it is left to launch, at least for now."""
        return self.is_prefilled and not self.decodes

    def picks_in(self, first: int, count: int) -> int:
        """For how many of these given tokens, at their end, the successor is wanted: the last one
        known, and every guessed one."""
        return max(0, first + count - max(first, self.given_tokens - 1 - self.unverified_tokens))

    def verify(self, outputs: int, guessed: int) -> None:
        """So many output tokens hold, the newest not read yet; so many guessed ones follow it."""
        self.prefilled_tokens = self.prompt_tokens + outputs - 1
        self.given_tokens = self.prompt_tokens + outputs + guessed
        self.unverified_tokens = guessed
        self.decoded_tokens = outputs
        self.is_checked, self.awaits_verdict = True, False

    def start_over(self) -> None:
        """Forget its place and all progress."""
        self.region = self.slot = None
        self.encoded_windows = self.prefilled_tokens = self.decoded_tokens = 0
        self.given_tokens = self.prompt_tokens + self.prefix_tokens + self.draft_tokens
        self.unverified_tokens = self.draft_tokens
        self.is_checked, self.awaits_verdict = self.draft_tokens > 0, False


@dataclass(frozen=True, slots=True)
class WindowSlice:
    """Windows `first` to `first + count` of one sequence."""

    sequence: Sequence
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TokenSlice:
    """Given tokens `first` to `first + count` of one sequence."""

    sequence: Sequence
    first: int
    count: int
    is_last: bool
    """Whether the given tokens end here, so that the slice yields the one that follows."""


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
    """A batch of prefill or verification, for sequences whose windows are all encoded."""

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
