"""What one chunk has become so far in the native engine. Imports no torch; tensors are whatever the
runner takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from worker.engine.drafts import Draft
from worker.engine.interface import ChunkRequest
from worker.engine.rows import BROKEN, Choice
from worker.engine.utterances import Utterance, UtteranceStep
from worker.sequence import Sequence as ScheduledSequence

if TYPE_CHECKING:
    from collections.abc import Container

    from worker.engine.native_model import Prompt


class Verdict(Enum):
    """What the picks of a pass mean for a chunk."""

    GOES_ON = auto()
    """All that was guessed holds, and the newest token is in its slot."""
    CORRECTED = auto()
    """A guess was wrong: the newest token stands in its place."""
    ENDED = auto()
    CUT_OFF = auto()
    BROKEN = auto()


@dataclass(slots=True, eq=False)
class Progress:
    """One chunk, from its submission to its answer."""

    chunk: ChunkRequest
    prompt: Prompt
    choice: Choice
    sequence: ScheduledSequence
    utterance: Utterance | None = None
    step: UtteranceStep | None = None
    """Of the utterance; its windows, where that is not None."""
    draft: Draft | None = None
    guessed: tuple[int, ...] = ()
    """Tokens that the pass under way verifies."""
    windows: Sequence[Any] = ()
    """Features of the windows to be encoded."""
    audio: dict[int, Any] = field(default_factory=dict)
    """Audio tokens by window."""
    hidden: Any = None
    """Hidden states of the given tokens while they are prefilled."""
    hidden_start: int = 0
    """The given token that they begin with."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    picks: list[tuple[int, float]] = field(default_factory=list)
    """Of the slices read so far, while more slices of the same pass are under way."""
    starts: int = 0
    """Grows when the scheduler takes its place away; what is in flight then is not for it."""

    def __post_init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """As it was when it was submitted."""
        self.hidden, self.windows, self.audio = None, (), {}
        if self.step is not None:
            self.windows, self.audio = tuple(self.step.features.values()), dict(self.step.audio)
        self.token_ids, self.logprobs, self.picks = list(self.chunk.prefix), [], []
        self.guessed = self.chunk.draft[: self.sequence.draft_tokens]
        self.draft = Draft(self.guessed, len(self.token_ids)) if self.guessed else None
        if self.choice.generator is not None:  # what was told of its text has to come true
            self.choice.generator.manual_seed(self.choice.generator.initial_seed())
        self.starts += 1

    @property
    def to_encode(self) -> Sequence[int]:
        """Windows to be encoded, by their index in the audio."""
        return range(self.prompt.windows) if self.step is None else list(self.step.features)

    @property
    def given_ids(self) -> list[int]:
        """The tokens to be read in slices, with a placeholder for each audio token."""
        return [*self.prompt.token_ids, *self.token_ids, *self.guessed]

    @property
    def is_kept(self) -> bool:
        """Whether the next step of its utterance can use what it leaves in the KV cache."""
        utterance, step = self.utterance, self.step
        return utterance is not None and step is not None and utterance.is_latest(step)

    @property
    def is_logged(self) -> bool:
        """Whether every output token has a logprob that is wanted."""
        return self.chunk.wants_logprobs and not self.chunk.prefix

    def encoded(self, index: int, audio: Any) -> None:
        """Audio tokens of one of its windows."""
        self.audio[index] = audio
        if self.utterance is not None and self.step is not None:
            self.utterance.keep(self.step, index, audio)

    def take(self, end_token_ids: Container[int]) -> Verdict:
        """Make output of the picks of a whole pass."""
        picks, self.picks = self.picks, []
        guessed, self.guessed = self.guessed, ()
        accepted = 0
        verdict = Verdict.GOES_ON
        for place, (token_id, logprob) in enumerate(picks):
            verdict = self._take(token_id, logprob, end_token_ids)
            if verdict is not Verdict.GOES_ON or place == len(guessed):
                break
            if token_id != guessed[place]:
                verdict = Verdict.CORRECTED
                break
            accepted += 1
        if self.draft is not None and guessed:
            self.draft.judged(len(guessed), accepted)
        return verdict

    def _take(self, token_id: int, logprob: float, end_token_ids: Container[int]) -> Verdict:
        if token_id == BROKEN:
            return Verdict.BROKEN
        if token_id in end_token_ids:
            return Verdict.ENDED
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        is_full = len(self.token_ids) == self.sequence.max_new_tokens
        return Verdict.CUT_OFF if is_full else Verdict.GOES_ON

    def guess(self, verdict: Verdict) -> tuple[int, ...]:
        """What may come next according to the old text, as far as there is room for it."""
        if self.draft is None:
            return ()
        room = self.sequence.max_new_tokens - len(self.token_ids) - 1
        is_corrected = verdict is Verdict.CORRECTED
        look = self.draft.behind_correction if is_corrected else self.draft.following
        self.guessed = look(self.token_ids, room)
        return self.guessed
