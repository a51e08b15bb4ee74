"""One utterance on its way from its first sample to its text. Pure bookkeeping of the main thread.

While it grows its text is asked for every so often; where a pause may be its end, the text of what
would then be all of it is asked for at once, so that the final is there when the end is decided.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from protocol.limits import SAMPLE_RATE
from protocol.live import LiveOptions, Strategy
from worker.audio.chunking import Chunk, is_faint
from worker.audio.conversation import Turn
from worker.chunk_outcomes import outcome_of
from worker.chunk_tasks import ChunkTask
from worker.engine.interface import ChunkRequest, ChunkText
from worker.live.agreement import AgreedText
from worker.live.news import Samples, SessionKey, UtteranceBegan, UtteranceComplete
from worker.live.samples import GrowingSamples
from worker.recordings import ChunkOutcome, context_of
from worker.sequence import Priority
from worker.text.context_echo import may_become_copy_of_context
from worker.unfinished_chunks import is_expected

FIRST_STEP_SAMPLES: Final = SAMPLE_RATE // 2
"""Audio of an utterance, padding included, before its first text: less says hardly a word."""


@dataclass(frozen=True, slots=True)
class Step:
    """A text that was asked for: of the first `samples` of the utterance."""

    number: int
    """Under which the engine has it."""
    samples: int
    request: ChunkRequest
    is_final: bool
    """It may be the utterance's last."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A text of an utterance that still grows."""

    language: str | None
    stable: str
    tail: str
    covers: int
    """16 kHz sample of the session."""
    arrived: float


class Utterance:
    """See the module. `name` tells it from every other in the engine."""

    def __init__(self, began: UtteranceBegan, name: str, *, verifies: bool) -> None:
        """`verifies`: whether the engine can check drafts; else texts are rolled back."""
        self.session: SessionKey = began.session
        self.number = began.number
        self.channel = began.channel
        self.start = began.start
        self.name = name
        self._options: LiveOptions = began.options
        self._context = context_of(began.options.prompt, began.options.keywords)
        self._rolls_back = began.options.strategy is Strategy.ROLLBACK or not verifies
        self._samples = GrowingSamples()
        self._arrivals: deque[tuple[int, float]] = deque()
        """How long it was when; bounded by its length, a packet is 10 ms or more."""
        self._is_speech = True
        self._pause: int | None = None
        """Samples it would consist of if the silence holds."""
        self._complete: UtteranceComplete | None = None
        self._decided_at = 0.0
        self._running: Step | None = None
        self._asked = 0
        """Samples of the latest step."""
        self._steps = 0
        self._newest: tuple[Step, ChunkText] | None = None
        """The latest text, and the step it is of."""
        self._agreed = AgreedText()
        self._is_misheard = False
        """Another language than those expected was heard: partials are told the first of them."""
        self._misheard_final: int | None = None
        """Samples of the final step in which that happened: the same is asked once more so. Others
        are not, as a few words say less about the language than all of them."""
        self._failed: tuple[int, int] = (0, 0)
        """Samples of the latest final step that failed, and how often that did."""

    def __repr__(self) -> str:
        state = "complete" if self._complete else "open"
        return f"<Utterance {self.name} {state}, {len(self._samples) / SAMPLE_RATE:.1f} s>"

    @property
    def running(self) -> Step | None:
        """The step that the engine has."""
        return self._running

    @property
    def asked(self) -> int:
        """Samples of the latest step."""
        return self._asked

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is added to it."""
        return self._complete is not None

    @property
    def decided_at(self) -> float:
        """When it was complete, by the worker's clock."""
        return self._decided_at

    @property
    def spoken_to(self) -> int:
        """Where it ends by now: a sample of the session."""
        return self._complete.end if self._complete else self.start + len(self._samples)

    # --- audio ------------------------------------------------------------------------------

    def grew(self, samples: Samples, arrived: float) -> None:
        """Audio was appended."""
        self._samples.append(samples)
        self._arrivals.append((len(self._samples), arrived))

    def paused(self, end: int) -> None:
        """It will have ended at this sample of the session if the silence holds."""
        self._pause = end - self.start

    def resumed(self) -> None:
        """The silence did not hold."""
        self._pause = None

    def completed(self, complete: UtteranceComplete, now: float) -> None:
        """Nothing more is added."""
        self._complete = complete
        self._decided_at = now
        self._is_speech = bool(complete.spans)

    # --- steps ------------------------------------------------------------------------------

    def next_step(self, number: int) -> Step | None:
        """What to ask the engine now, under that number, in place of what runs; None: nothing."""
        wanted = self._wanted_samples()
        if wanted is None:
            return None
        samples, is_final = wanted
        request = self._request(samples, is_final=is_final)
        return Step(number, samples, request, is_final)

    def _wanted_samples(self) -> tuple[int, bool] | None:
        if not self._is_speech:
            return None
        end = self._end
        if end is not None:
            return None if self._is_asked(end) else (end, True)
        if self._running is not None or not self._options.wants_partials:
            return None
        length = len(self._samples)
        step = round(self._options.step_seconds * SAMPLE_RATE)
        is_due = length - self._asked >= max(step, 1) and length >= FIRST_STEP_SAMPLES
        return (length, False) if is_due else None

    @property
    def _end(self) -> int | None:
        """How many samples it has, or will have if the silence holds."""
        return self._complete.end - self.start if self._complete else self._pause

    def _is_asked(self, end: int) -> bool:
        """Whether its final is known or under way, or better waited with."""
        if self._final_at(end) is not None:
            return True
        if self._running is not None and self._running.samples == end and self._running.is_final:
            return True
        return self.is_lost or (self._complete is None and self._failed[0] == end)

    def _final_at(self, end: int) -> ChunkText | None:
        """What is known of so many samples, if it will do as the last word on them."""
        if self._newest is None or self._newest[0].samples != end:
            return None
        step, answer = self._newest
        is_as_good = not self._rolls_back and not self._options.wants_logprobs
        is_as_good &= step.request.language == self._language(end, is_final=True)
        return answer if step.is_final or is_as_good else None

    def _request(self, samples: int, *, is_final: bool) -> ChunkRequest:
        options = self._options
        request = ChunkRequest(
            samples=self._samples.first(samples),
            language=self._language(samples, is_final=is_final),
            context=self._context,
            priority=Priority.LIVE_FINAL if is_final else Priority.LIVE_PARTIAL,
            wants_logprobs=options.wants_logprobs and is_final,
            utterance=self.name,
        )
        said = self._newest[1].token_ids if self._newest else ()
        if not self._rolls_back:
            return replace(request, draft=said)
        if is_final and options.strategy is Strategy.VERIFY:
            return request  # the engine cannot check a draft: the final is written from nothing
        keeps = self._steps >= options.unfixed_steps
        kept = said[: max(0, len(said) - options.unfixed_tokens)] if keeps else ()
        most = None if is_final else max(options.max_new_tokens, 1)
        return replace(request, prefix=kept, most_new_tokens=most)

    def _language(self, samples: int, *, is_final: bool) -> str | None:
        """What the model is told, None where it detects."""
        options = self._options
        is_misheard = samples == self._misheard_final if is_final else self._is_misheard
        return options.languages[0] if is_misheard else options.language

    def began(self, step: Step) -> None:
        """The engine has this step now, and no other."""
        self._running = step
        self._asked = step.samples
        self._steps += 1

    def answered(self, answer: ChunkText) -> Progress | None:
        """The running step's text came; what of it may be told."""
        step = self._running
        assert step is not None
        self._running = None
        if self._heard_unexpected(step, answer):
            return None
        self._newest = (step, answer)
        if self._complete is not None and self._complete.end - self.start == step.samples:
            return None  # the final says it
        covers = self.start + step.samples
        arrived = self._arrival_of(step.samples)
        if self._may_be_dropped(answer, step.samples):
            return None
        tail = self._agreed.update(answer.text)
        return Progress(answer.language, self._agreed.stable, tail, covers, arrived)

    def failed(self) -> None:
        """The running step could not be inferred. A partial's failure costs nothing, a final's is
        asked for once more."""
        step = self._running
        assert step is not None
        self._running = None
        self._newest = None
        if step.is_final:
            samples, failures = self._failed
            self._failed = (step.samples, failures + 1 if samples == step.samples else 1)

    @property
    def is_lost(self) -> bool:
        """Whether it has to do without text."""
        if self._complete is None:
            return False
        samples, failures = self._failed
        return samples == self._complete.end - self.start and failures > 1

    def _heard_unexpected(self, step: Step, answer: ChunkText) -> bool:
        """Whether to ask again with the first of the expected languages as the language."""
        is_told = step.request.language is not None
        if is_told or is_expected(answer.language, self._options.languages):
            return False
        self._is_misheard = True
        if step.is_final:
            self._misheard_final = step.samples
        self._newest = None
        return True

    def _may_be_dropped(self, answer: ChunkText, samples: int) -> bool:
        """Whether it could be the caller's words handed back."""
        is_in_doubt = bool(self._context) and is_faint(self._samples.first(samples))
        return is_in_doubt and may_become_copy_of_context(answer.text, self._context)

    def _arrival_of(self, samples: int) -> float:
        while len(self._arrivals) > 1 and self._arrivals[0][0] < samples:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else self._decided_at

    # --- the final --------------------------------------------------------------------------

    @property
    def stable(self) -> str:
        """What was told for good."""
        return self._agreed.stable

    def outcome(self) -> ChunkOutcome | None:
        """Its text, once it is complete and known."""
        if self._complete is None:
            return None
        if not self._is_speech:
            return ChunkOutcome()
        answer = self._final_at(self._complete.end - self.start)
        return None if answer is None else self._outcome_of(answer, self._complete)

    def _outcome_of(self, answer: ChunkText, complete: UtteranceComplete) -> ChunkOutcome:
        heard = self._samples.first(complete.end - self.start)
        chunk = Chunk(self.number, self.start, complete.end, heard, is_silent=False)
        turn = Turn(self.channel, self.start, complete.end, complete.spans)
        request = self._request(len(heard), is_final=True)
        task = ChunkTask(self.number, chunk, turn, request, is_faint(heard))
        told = len(self.stable) if answer.text.startswith(self.stable) else 0
        return outcome_of(task, answer, told, wants_tokens=self._options.wants_logprobs)
