"""The native engine: continuous batching over one KV cache, exact for every chunk by itself.

Decides nothing and computes nothing: the scheduler says what runs next, the runner runs it, and
here is what a chunk has become so far. Torch is imported by load(), so that its import is a stage
that is reported.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from worker.engine.rows import BROKEN, Choice, DecodeRow, TokenRun
from worker.scheduler import Scheduler, SequenceTooLarge
from worker.sequence import Batch, DecodeStep, Encode, Extend
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


@dataclass(slots=True, eq=False)
class _Progress:
    """What a chunk has become so far; tensors are whatever the runner takes."""

    chunk: ChunkRequest
    prompt: Prompt
    choice: Choice
    sequence: ScheduledSequence
    windows: Sequence[Any] = ()
    audio: list[Any] = field(default_factory=list)
    hidden: Any = None
    """The prompt's hidden states while it is prefilled."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    starts: int = 1
    """Grows when the scheduler takes its place away; what is in flight then is not for it."""

    def start_over(self) -> None:
        self.windows, self.hidden = (), None
        self.audio, self.token_ids, self.logprobs = [], [], []
        if self.choice.generator is not None:  # what was told of its text has to come true
            self.choice.generator.manual_seed(self.choice.generator.initial_seed())
        self.starts += 1


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launched batch and who gets its picks, in order."""

    batch: Batch
    launched: Launched
    receivers: list[tuple[_Progress, int]]


class NativeEngine:
    """See Engine."""

    name = "native"

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._loaded: NativeModel | None = None
        self._running: dict[ChunkKey, _Progress] = {}
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
        prompt = self._model.prompt(chunk)
        sequence = ScheduledSequence(
            key=key,
            priority=chunk.priority,
            windows=prompt.windows,
            prompt_tokens=len(prompt.token_ids),
            max_new_tokens=prompt.max_new_tokens,
        )
        try:
            if sequence.kv_tokens > self._model.max_positions:
                raise SequenceTooLarge(f"the model has {self._model.max_positions} positions")
            self._scheduler.add(sequence)
        except SequenceTooLarge as error:
            logger.warning("a chunk is too large tokens=%d: %s", sequence.kv_tokens, error)
            message = "This part of the recording is longer than the server can take at once."
            self._answers.append((key, ChunkFailure("out_of_memory", message)))
        else:
            self._running[key] = _Progress(chunk, prompt, self._model.choice(chunk), sequence)

    def cancel(self, key: ChunkKey) -> None:
        self._answers = [answer for answer in self._answers if answer[0] != key]
        if self._running.pop(key, None) is not None:
            self._scheduler.drop(key)

    def end_utterance(self, utterance: str) -> None:
        """Nothing is kept between steps yet."""

    def text_so_far(self, key: ChunkKey) -> str | None:
        progress = self._running.get(key)
        if progress is None or not progress.token_ids:
            return None
        written = b"".join(map(self._model.token_bytes, progress.token_ids))
        return written.decode("utf-8", "replace")

    def run_alone(self, request_id: str | None) -> None:
        self._scheduler.run_alone(request_id)

    def step(self, on_step: Callable[[], None]) -> list[Answer]:
        """Launch one batch, and read what was launched before it as far as the device allows."""
        on_step()
        batch = self._scheduler.next_batch()
        for sequence in self._scheduler.take_preempted():
            self._running[sequence.key].start_over()
        if batch is not None:
            self._launch(batch)
        waiting = self._model.reads_behind if batch is not None else 0
        while len(self._in_flight) > waiting:
            self._read(self._in_flight.popleft())
        answers, self._answers = self._answers, []
        return answers

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

    def _running_as(self, sequence: ScheduledSequence) -> _Progress | None:
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
            progress.windows = progress.windows or self._model.windows(progress.chunk)
            windows += progress.windows[part.first : part.first + part.count]
        encoded, launched = self._model.runner.encode(windows)
        rest = iter(encoded)
        for progress, part in parts:
            progress.audio += [next(rest) for _ in range(part.count)]
        return _Flight(batch, launched, [])

    def _extend(self, batch: Extend) -> _Flight:
        slices = [(self._running[part.sequence.key], part) for part in batch.slices]
        runs: list[TokenRun] = []
        for progress, part in slices:
            if progress.hidden is None:
                progress.hidden = self._model.hidden_prompt(progress.prompt, progress.audio)
            hidden = progress.hidden[part.first : part.first + part.count]
            runs.append(self._token_run(progress, part.first, hidden, int(part.is_last)))
        launched = self._model.runner.extend(runs)
        finished = [progress for progress, part in slices if part.is_last]
        for progress in finished:
            progress.hidden, progress.audio, progress.windows = None, [], ()
        return _Flight(batch, launched, [(progress, progress.starts) for progress in finished])

    def _decode(self, batch: DecodeStep) -> _Flight:
        steps = [self._running[sequence.key] for sequence in batch.sequences]
        launched = self._model.runner.decode([self._decode_row(progress) for progress in steps])
        return _Flight(batch, launched, [(progress, progress.starts) for progress in steps])

    def _token_run(self, progress: _Progress, position: int, hidden: Any, picks: int) -> TokenRun:
        slot, first_row = _place(progress.sequence)
        return TokenRun(slot, first_row, position, hidden, picks, progress.choice)

    def _decode_row(self, progress: _Progress) -> DecodeRow:
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
                if self._running_as(sequence):
                    self._end(sequence.key, failure)
            return
        self._costs.observe(flight.batch, flight.launched.seconds)
        for index, (progress, start) in enumerate(flight.receivers):
            if self._running_as(progress.sequence) is progress and progress.starts == start:
                logprob = logprobs[index] if logprobs else None
                self._receive(progress, picks[index], logprob)

    def _receive(self, progress: _Progress, token_id: int, logprob: float | None) -> None:
        if token_id == BROKEN:
            logger.warning("the model's scores for a chunk were not finite")
            message = "This part of the recording could not be transcribed."
            self._end(progress.sequence.key, ChunkFailure("inference_failed", message))
        elif token_id in self._model.end_token_ids:
            self._finish(progress, is_cut_off=False)
        else:
            progress.token_ids.append(token_id)
            if logprob is not None:
                progress.logprobs.append(logprob)
            if len(progress.token_ids) == progress.prompt.max_new_tokens:
                self._finish(progress, is_cut_off=True)

    def _finish(self, progress: _Progress, *, is_cut_off: bool) -> None:
        text = self._model.detokenize(progress.token_ids)
        parsed = parse_model_output(text, progress.chunk.language)
        wants_logprobs = progress.chunk.wants_logprobs
        self._end(
            progress.sequence.key,
            ChunkText(
                language=parsed.language,
                text=parsed.text,
                prompt_tokens=len(progress.prompt.token_ids),
                audio_tokens=progress.prompt.audio_tokens,
                output_tokens=len(progress.token_ids),
                is_cut_off=is_cut_off,
                logprobs=tuple(progress.logprobs) if wants_logprobs else None,
                token_ids=tuple(progress.token_ids),
                tokens=tokens_of_text(parsed.text, self._written(progress)),
            ),
        )

    def _written(self, progress: _Progress) -> list[WrittenToken]:
        """The output tokens with their probabilities, if the chunk wants them."""
        if not progress.chunk.wants_logprobs:
            return []
        return [
            WrittenToken(token_id, self._model.token_bytes(token_id), logprob)
            for token_id, logprob in zip(progress.token_ids, progress.logprobs, strict=True)
        ]

    def _end(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> None:
        del self._running[key]
        self._scheduler.drop(key)
        self._answers.append((key, answer))


def _place(sequence: ScheduledSequence) -> tuple[int, int]:
    assert sequence.slot is not None, "a launched sequence is admitted"
    assert sequence.region is not None, "a launched sequence is admitted"
    return sequence.slot, sequence.region.start
