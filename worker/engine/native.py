"""The native engine: continuous batching over one KV cache, exact for every chunk by itself.

Decides nothing and computes nothing: the scheduler says what runs next, the runner runs it, and
here is what a chunk has become so far. Torch is imported by load(), so that its import is a stage
that is reported.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.engine.checkpoints import read_checkpoint, resolve_checkpoint
from worker.engine.halving import halves, remaining, sequences_of
from worker.engine.imports import package_missing
from worker.engine.interface import (
    SAMPLE_RATE,
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    LoadProgress,
    ReportProgress,
)
from worker.engine.limits import new_token_limit
from worker.engine.progress import Progress, Verdict
from worker.engine.rows import DecodeRow, TokenRun
from worker.engine.utterances import OpenUtterances, Utterance, UtteranceStep
from worker.scheduler import Scheduler, SequenceTooLarge
from worker.sequence import Batch, DecodeStep, Encode, Extend, TokenSlice
from worker.sequence import Sequence as ScheduledSequence
from worker.text.model_output import parse_model_output
from worker.text.written_tokens import WrittenToken, tokens_of_text

if TYPE_CHECKING:
    from worker.engine.native_model import NativeModel, Prompt
    from worker.engine.runner import Launched

logger = logging.getLogger(__name__)

Answer = tuple[ChunkKey, ChunkText | ChunkFailure]

LAUNCHES_TO_RECOVER = 256
"""Batches without want of memory after which larger ones are tried again."""

_WARM_UP: ChunkKey = ("warm-up", 0)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launched batch and who gets its picks, in order."""

    batch: Batch
    launched: Launched
    receivers: list[_Receiver]


@dataclass(frozen=True, slots=True)
class _Receiver:
    progress: Progress
    start: int
    """Which of its starts the picks are for."""
    picks: int = 1
    is_last: bool = True
    """Whether its pass ends with these."""


class NativeEngine:
    """See Engine."""

    name = "native"

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._loaded: NativeModel | None = None
        self._running: dict[ChunkKey, Progress] = {}
        self._utterances = OpenUtterances()
        # Bounded by what is submitted, and by the batches the model reads behind.
        self._answers: list[Answer] = []
        self._in_flight: deque[_Flight] = deque()
        self._launches_in_a_row = 0
        """Batches launched since memory was last wanting."""
        self.max_chunk_seconds: float | None = None

    def __repr__(self) -> str:
        state = repr(self._scheduler) if self._loaded else "not loaded"
        return f"<NativeEngine {self._settings.model_id} {state}>"

    @property
    def chunks_ahead(self) -> int:
        return self._model.chunks_at_once if self._loaded else 1

    @property
    def has_work(self) -> bool:
        return bool(self._answers or self._in_flight or self._scheduler.has_work)

    # --- the life of the engine -----------------------------------------------------------------

    def load(self, report: ReportProgress) -> None:
        # Found and checked first: a wrong MODEL_ID is told before seconds of imports.
        folder = resolve_checkpoint(self._settings.model_id, self._settings.cache_dir, report)
        checkpoint = read_checkpoint(folder)
        report(LoadProgress("imports"))
        # Read once, when torch loads its OpenMP. Idle threads that spin starve working ones where
        # cores are shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            from worker.engine.native_model import NativeModel
        except ModuleNotFoundError as error:
            raise package_missing(error) from error

        self._loaded = NativeModel(checkpoint, self._settings, report)
        limits = self._loaded.plan.limits
        self._costs = self._loaded.prior_costs()
        self._scheduler = Scheduler(
            self._loaded.arena,
            self._costs,
            most_rows=limits.rows,
            most_windows=limits.windows,
            most_tokens=limits.prefill_tokens,
        )
        self.max_chunk_seconds = checkpoint.max_chunk_seconds

    def warm_up(self) -> None:
        import numpy as np

        self.submit(_WARM_UP, ChunkRequest(np.zeros(SAMPLE_RATE, dtype=np.float32)))
        answers: list[Answer] = []
        while self.has_work:
            answers += self.step(lambda: None)
        failures = [answer for _, answer in answers if isinstance(answer, ChunkFailure)]
        if failures:
            code = "out_of_memory" if failures[0].code == "out_of_memory" else "model_corrupt"
            raise EngineFailure(
                code,
                "The model was loaded but could not transcribe a second of silence. See the"
                " warning before this line; try DTYPE=float32, or another copy of the model.",
            )

    def memory(self) -> dict[str, int]:
        return self._loaded.memory() if self._loaded else {}

    # --- chunks -----------------------------------------------------------------------------

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        self._model.require_known(chunk.prefix)
        progress = self._begun(key, chunk)
        sequence = progress.sequence
        try:
            if sequence.kv_tokens > self._model.max_positions:
                raise SequenceTooLarge(f"the model has {self._model.max_positions} positions")
            self._scheduler.add(sequence)
        except SequenceTooLarge as error:
            logger.warning("a chunk is too large tokens=%d: %s", sequence.kv_tokens, error)
            if chunk.utterance is not None:
                self.end_utterance(chunk.utterance)
            message = "This part of the recording is longer than the server can take at once."
            self._answers.append((key, ChunkFailure("out_of_memory", message)))
        else:
            self._running[key] = progress

    def cancel(self, key: ChunkKey) -> None:
        self._answers = [answer for answer in self._answers if answer[0] != key]
        progress = self._running.pop(key, None)
        if progress is not None:
            self._leave(progress)

    def end_utterance(self, utterance: str) -> None:
        self._utterances.forget(utterance)
        self._scheduler.forget(utterance)

    def text_so_far(self, key: ChunkKey) -> str | None:
        progress = self._running.get(key)
        if progress is None or not progress.token_ids:
            return None
        written = b"".join(map(self._model.token_bytes, progress.token_ids))
        return written.decode("utf-8", "replace")

    def run_alone(self, request_id: str | None) -> None:
        self._scheduler.run_alone(request_id)

    def expect_live(self, is_expected: bool) -> None:
        self._scheduler.live_expected = is_expected

    def step(self, on_step: Callable[[], None]) -> list[Answer]:
        """Launch one batch, and read what was launched before it as far as the device allows."""
        on_step()
        batch = self._scheduler.next_batch()
        for sequence in self._scheduler.take_preempted():
            self._running[sequence.key].start_over()
        if batch is not None:
            self._launch(batch)
        waiting = self._model.reads_behind if batch is not None else 0
        # What speech is verified against decides what comes next: it is not kept waiting.
        if self._in_flight and any(map(_is_awaited, self._in_flight[-1].receivers)):
            waiting = 0
        while len(self._in_flight) > waiting:
            self._read(self._in_flight.popleft())
        answers, self._answers = self._answers, []
        return answers

    def _begun(self, key: ChunkKey, chunk: ChunkRequest) -> Progress:
        """What a chunk is before anything of it has run."""
        prompt = self._model.prompt(chunk)
        said = len(chunk.prefix)
        most_new = new_token_limit(prompt.max_new_tokens, said, chunk.most_new_tokens)
        utterance, step = self._step_of_utterance(chunk, prompt)
        sequence = ScheduledSequence(
            key=key,
            priority=chunk.priority,
            windows=prompt.windows if step is None else len(step.features),
            prompt_tokens=len(prompt.token_ids),
            max_new_tokens=said + most_new,
            prefix_tokens=said,
            draft_tokens=len(self._model.draft_of(chunk, most_new - 1)),
            utterance=chunk.utterance,
            unchanged_tokens=0 if step is None else step.unchanged_tokens,
            roomy_tokens=0 if step is None else self._model.roomy_tokens(chunk, prompt),
        )
        return Progress(chunk, prompt, self._model.choice(chunk), sequence, utterance, step)

    def _step_of_utterance(
        self, chunk: ChunkRequest, prompt: Prompt
    ) -> tuple[Utterance, UtteranceStep] | tuple[None, None]:
        name = chunk.utterance
        if name is None:
            return None, None
        utterance = self._utterances.get(name)
        if utterance is None or not utterance.could_grow_to(chunk.samples):
            self.end_utterance(name)
            utterance = self._model.utterance()
        for other in self._utterances.put(name, utterance):
            self.end_utterance(other)
        return utterance, self._model.step_of(utterance, chunk, prompt)

    def _leave(self, progress: Progress) -> None:
        """Its place is free; what its utterance's next step can use stays where it is."""
        if progress.is_kept and self._is_open(progress):
            self._scheduler.park(progress.sequence.key)
        else:
            self._scheduler.drop(progress.sequence.key)

    def _is_open(self, progress: Progress) -> bool:
        name = progress.chunk.utterance
        return name is not None and self._utterances.get(name) is progress.utterance

    @property
    def _model(self) -> NativeModel:
        if self._loaded is None:
            raise RuntimeError("load() comes first")
        return self._loaded

    # --- launching ----------------------------------------------------------------------------

    def _launch(self, batch: Batch) -> None:
        """Run a batch; where that fails, its halves, down to what alone is to blame.

        A batch that failed may be run again: what it wrote is written again, and picks are fed
        back only by a batch that came through.
        """
        wanted = remaining(batch, lambda sequence: self._running_as(sequence) is not None)
        if wanted is None:
            return
        failure = self._attempt(wanted)
        if failure is None:
            return
        self._model.release()
        keys = {sequence.key for sequence in sequences_of(wanted)}
        # Half of one chunk would fail as the whole does, but for want of memory.
        is_too_large = failure.code == "out_of_memory"
        parts = halves(wanted) if is_too_large or len(keys) > 1 else None
        if is_too_large:
            self._utterances.forget_all()  # what they keep was not planned for
            self._scheduler.halve_limit_of(wanted)
            self._launches_in_a_row = 0
        if parts is None and is_too_large:  # what was given back may be enough for the smallest
            failure = self._attempt(wanted)
        if failure is not None and parts is None:
            for key in keys:
                self._end(key, failure)
        for part in parts or ():
            self._launch(part)

    def _attempt(self, batch: Batch) -> ChunkFailure | None:
        """Put a batch in flight, or say what came of it. Its tensors are gone with the error."""
        try:
            with self._model.inference_mode():
                self._in_flight.append(self._run(batch))
        except Exception as error:
            return self._model.failure_of(error)
        self._launches_in_a_row += 1
        if self._launches_in_a_row % LAUNCHES_TO_RECOVER == 0:
            self._scheduler.double_limits()
        return None

    def _running_as(self, sequence: ScheduledSequence) -> Progress | None:
        progress = self._running.get(sequence.key)
        return progress if progress is not None and progress.sequence is sequence else None

    def _run(self, batch: Batch) -> _Flight:
        if isinstance(batch, Encode):
            return self._encode(batch)
        if isinstance(batch, Extend):
            return self._extend(batch)
        return self._decode(batch)

    def _encode(self, batch: Encode) -> _Flight:
        parts = [(self._running[part.sequence.key], part) for part in batch.parts]
        windows: list[Any] = []
        for progress, part in parts:
            if not progress.windows:
                progress.windows = self._model.windows(progress.chunk)
            chosen = progress.windows[part.first : part.first + part.count]
            windows += map(self._model.placed, chosen) if progress.step is not None else chosen
        encoded, launched = self._model.runner.encode(windows)
        rest = iter(encoded)
        for progress, part in parts:
            for index in progress.to_encode[part.first : part.first + part.count]:
                progress.encoded(index, next(rest))
        return _Flight(batch, launched, [])

    def _extend(self, batch: Extend) -> _Flight:
        slices = [(self._running[part.sequence.key], part) for part in batch.slices]
        runs: list[TokenRun] = []
        receivers: list[_Receiver] = []
        for progress, part in slices:
            picks = part.sequence.picks_in(part.first, part.count)
            runs.append(self._token_run(progress, part, picks))
            if picks:
                receivers.append(_Receiver(progress, progress.starts, picks, part.is_last))
        launched = self._model.runner.extend(runs)
        for progress, part in slices:
            if part.is_last:
                progress.hidden, progress.audio, progress.windows = None, {}, ()
        return _Flight(batch, launched, receivers)

    def _decode(self, batch: DecodeStep) -> _Flight:
        steps = [self._running[sequence.key] for sequence in batch.sequences]
        launched = self._model.runner.decode([self._decode_row(progress) for progress in steps])
        receivers = [_Receiver(progress, progress.starts) for progress in steps]
        return _Flight(batch, launched, receivers)

    def _token_run(self, progress: Progress, part: TokenSlice, picks: int) -> TokenRun:
        if progress.hidden is None:
            audio = [progress.audio[index] for index in sorted(progress.audio)]
            progress.hidden_start = part.first
            progress.hidden = self._model.hidden_tokens(
                progress.given_ids, part.first, progress.prompt, audio
            )
        begin = part.first - progress.hidden_start
        hidden = progress.hidden[begin : begin + part.count]
        slot, first_row = _place(progress.sequence)
        return TokenRun(slot, first_row, part.first, hidden, picks, progress.choice)

    def _decode_row(self, progress: Progress) -> DecodeRow:
        slot, first_row = _place(progress.sequence)
        # The scheduler counts this step already: its row is the newest one.
        return DecodeRow(slot, first_row, progress.sequence.kv_rows - 1, progress.choice)

    # --- reading ------------------------------------------------------------------------------

    def _read(self, flight: _Flight) -> None:
        try:
            picks, logprobs = flight.launched.read()
        except RuntimeError as error:  # what the device found wrong after the launch
            failure = self._model.failure_of(error)
            for sequence in sequences_of(flight.batch):
                if sequence.utterance is not None:  # who knows what its KV rows hold
                    self.end_utterance(sequence.utterance)
                if self._running_as(sequence):
                    self._end(sequence.key, failure)
            return
        self._costs.observe(flight.batch, flight.launched.seconds)
        rest = iter(zip(picks, logprobs or itertools.repeat(0.0), strict=False))
        for receiver in flight.receivers:
            own = list(itertools.islice(rest, receiver.picks))
            progress = receiver.progress
            is_here = self._running_as(progress.sequence) is progress
            if is_here and progress.starts == receiver.start:
                progress.picks += own
                if receiver.is_last:
                    self._receive(progress)

    def _receive(self, progress: Progress) -> None:
        """A pass of this chunk is read: what is next?"""
        verdict = progress.take(self._model.end_token_ids)
        if verdict is Verdict.BROKEN:
            logger.warning("the model's scores for a chunk were not finite")
            message = "This part of the recording could not be transcribed."
            self._end(progress.sequence.key, ChunkFailure("inference_failed", message))
        elif verdict in (Verdict.ENDED, Verdict.CUT_OFF):
            self._finish(progress, is_cut_off=verdict is Verdict.CUT_OFF)
        elif progress.draft is not None and progress.sequence.awaits_verdict:
            guessed = progress.guess(verdict)
            outputs = len(progress.token_ids)
            if guessed or verdict is Verdict.CORRECTED:
                self._scheduler.verify(progress.sequence, outputs, len(guessed))
            else:
                is_checked = progress.draft.may_follow(outputs)
                self._scheduler.go_on(progress.sequence, is_checked=is_checked)

    def _finish(self, progress: Progress, *, is_cut_off: bool) -> None:
        text = self._model.detokenize(progress.token_ids)
        parsed = parse_model_output(text, progress.chunk.language)
        self._end(
            progress.sequence.key,
            ChunkText(
                language=parsed.language,
                text=parsed.text,
                prompt_tokens=len(progress.prompt.token_ids),
                audio_tokens=progress.prompt.audio_tokens,
                output_tokens=len(progress.token_ids),
                is_cut_off=is_cut_off,
                logprobs=tuple(progress.logprobs) if progress.is_logged else None,
                token_ids=tuple(progress.token_ids),
                tokens=tokens_of_text(parsed.text, self._written(progress)),
            ),
        )

    def _written(self, progress: Progress) -> list[WrittenToken]:
        """The output tokens with their probabilities, where they are told."""
        if not progress.is_logged:
            return []
        return [
            WrittenToken(token_id, self._model.token_bytes(token_id), logprob)
            for token_id, logprob in zip(progress.token_ids, progress.logprobs, strict=True)
        ]

    def _end(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> None:
        progress = self._running.pop(key)
        if isinstance(answer, ChunkFailure) and self._is_open(progress):
            assert progress.chunk.utterance is not None
            self.end_utterance(progress.chunk.utterance)
        self._leave(progress)
        self._answers.append((key, answer))


def _is_awaited(receiver: _Receiver) -> bool:
    """Whether somebody who speaks can only go on once this is read."""
    sequence = receiver.progress.sequence
    return sequence.is_live and sequence.awaits_verdict


def _place(sequence: ScheduledSequence) -> tuple[int, int]:
    assert sequence.slot is not None, "a launched sequence is admitted"
    assert sequence.region is not None, "a launched sequence is admitted"
    return sequence.slot, sequence.region.start
