"""A loaded model of the native engine: weights, tokenizer, features and KV cache on one device.

Imports torch; worker/engine/native.py imports this only when it loads.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine import placement
from worker.engine.checkpoints import Checkpoint
from worker.engine.cost_priors import A_CPU_CORE, A_GPU, prior_costs
from worker.engine.cuda_graphs import GraphCache
from worker.engine.interface import (
    SAMPLE_RATE,
    ChunkFailure,
    ChunkRequest,
    EngineFailure,
    EngineSettings,
    ReportProgress,
)
from worker.engine.limits import LEAST_SAMPLES, LEAST_TEMPERATURE, output_token_limit
from worker.engine.mel import LogMel, frame_count
from worker.engine.mel_stream import MelStream
from worker.engine.memory_plan import BatchLimits, MemoryPlan, plan_memory
from worker.engine.prompt import CONTEXT_TOKENS, Prompter
from worker.engine.rows import GREEDY, Choice
from worker.engine.runner import TOKEN_BUCKETS, Runner
from worker.engine.utterances import Utterance, UtteranceStep
from worker.engine.weights import load_parameters, parameter_bytes
from worker.kv_arena import KvArena, rounded_up
from worker.model.config import ModelConfig, UnsupportedConfig, read_model_config
from worker.model.operations import Operations, TorchOperations, on_device
from worker.step_costs import StepCosts

logger = logging.getLogger(__name__)

CPU_LIMITS = BatchLimits(windows=4, prefill_tokens=4096, rows=16)
CUDA_LIMITS = BatchLimits(windows=16, prefill_tokens=8192, rows=256)

CPU_SHARE = 0.5
"""Of the host's free memory, for weights and KV cache; used only as far as chunks fill it."""

HEADROOM_SECONDS = 8
"""By which an utterance may grow before it needs another region."""

_FRAMING_TOKENS = 64
"""Of a prompt, beside context and audio; the forced language included."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a chunk becomes before anything is computed."""

    token_ids: list[int]
    """With a placeholder for each audio token."""
    audio_start: int
    """Place of the first audio token."""
    audio_tokens: int
    windows: int
    max_new_tokens: int


class NativeModel:
    """Everything of one checkpoint on one device. Raises EngineFailure while it is made."""

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, report: ReportProgress
    ) -> None:
        torch.set_num_threads(settings.threads)
        self.device = placement.choose_device(settings.device)
        placement.make_current(self.device)
        self.dtype = placement.choose_dtype(settings.dtype, self.device)
        self._config = _read_config(checkpoint)
        self._prompter = Prompter(checkpoint.folder)
        self._log_mel = LogMel(checkpoint.preprocessor, self.device)
        self._host_mel = LogMel(checkpoint.preprocessor, torch.device("cpu"))
        if self._log_mel.mel_bins != self._config.audio.mel_bins:
            raise EngineFailure(
                "model_corrupt",
                "The checkpoint's preprocessor_config.json belongs to another model. Delete the"
                " checkpoint and let it be downloaded again, or restore the folder.",
            )
        longest = min(settings.max_chunk_seconds, checkpoint.max_chunk_seconds or float("inf"))
        self._most_samples = int(longest * SAMPLE_RATE)
        self.plan = self._plan(settings)
        logger.info("memory is planned device=%s %s", self.device, self.plan)
        self.end_token_ids = frozenset(
            checkpoint.end_token_ids or (self._prompter.turn_end_id, self._prompter.padding_id)
        )
        try:
            self.runner, self.arena = self._place(checkpoint, settings, report)
        except torch.OutOfMemoryError as error:
            raise EngineFailure(
                "out_of_memory",
                "The device's memory was taken by something else while the model was loaded. End"
                " what else uses the device, or use a smaller model (Qwen/Qwen3-ASR-0.6B).",
            ) from error
        logger.info("model loaded device=%s dtype=%s %r", self.device, self.dtype, self.runner)

    @property
    def reads_behind(self) -> int:
        """How many batches are launched before the oldest is read: a GPU works meanwhile."""
        return 1 if self.device.type == "cuda" else 0

    @property
    def max_positions(self) -> int:
        """Tokens a sequence may have in all: the model knows no positions beyond."""
        return self._config.text.max_positions

    @property
    def chunks_at_once(self) -> int:
        """How many chunks may run at a time, where each needs a third of what the longest does."""
        longest = max(1, self.plan.kv_tokens // self.plan.least_tokens)
        return min(self.plan.limits.rows, 3 * longest)

    def prior_costs(self) -> StepCosts:
        """What batches may cost, before any has run here."""
        speed = A_GPU if self.device.type == "cuda" else A_CPU_CORE
        return prior_costs(self._config, self.plan.parameter_bytes, speed)

    def inference_mode(self) -> AbstractContextManager[None]:
        """Within, tensors keep no history; windows(), hidden_tokens() and the runner need it."""
        mode: AbstractContextManager[None] = torch.inference_mode()
        return mode

    def prompt(self, chunk: ChunkRequest) -> Prompt:
        """The tokens and counts of a chunk."""
        frames = frame_count(max(len(chunk.samples), LEAST_SAMPLES))
        audio_tokens = self._config.audio.audio_tokens(frames)
        token_ids = self._prompter.token_ids(
            audio_tokens=audio_tokens, context=chunk.context, language=chunk.language
        )
        return Prompt(
            token_ids=token_ids,
            audio_start=token_ids.index(self._prompter.audio_token_id),
            audio_tokens=audio_tokens,
            windows=-(-frames // self._config.audio.window_frames),
            max_new_tokens=output_token_limit(len(chunk.samples)),
        )

    def utterance(self) -> Utterance:
        """For the steps of one that has just begun."""
        return Utterance(MelStream(self._host_mel, self._config.audio.window_frames))

    def step_of(self, utterance: Utterance, chunk: ChunkRequest, prompt: Prompt) -> UtteranceStep:
        """The audio of this chunk as the utterance's next step."""
        samples = torch.from_numpy(chunk.samples).float()
        return utterance.begin(samples, prompt.token_ids[: prompt.audio_start])

    def roomy_tokens(self, chunk: ChunkRequest, prompt: Prompt) -> int:
        """KV rows that the utterance may need in the steps that follow: for some seconds more, as a
        rule up to the longest chunk."""
        samples = max(len(chunk.samples), LEAST_SAMPLES)
        later = samples + HEADROOM_SECONDS * SAMPLE_RATE
        if samples < self._most_samples:
            later = min(later, self._most_samples)
        audio_tokens = self._config.audio.audio_tokens(frame_count(later))
        text_tokens = len(prompt.token_ids) - prompt.audio_tokens
        return text_tokens + audio_tokens + output_token_limit(later)

    def require_known(self, token_ids: Sequence[int]) -> None:
        """ValueError for what is no token: on a GPU it would be the end of the process."""
        if not all(0 <= token_id < self._config.text.vocabulary for token_id in token_ids):
            raise ValueError("a prefix holds something that is no token of this model")

    def draft_of(self, chunk: ChunkRequest, most: int) -> tuple[int, ...]:
        """What of a chunk's draft can be verified: tokens up to the first that ends a text, at most
        so many. None where tokens are drawn."""
        if chunk.temperature >= LEAST_TEMPERATURE:
            return ()
        tokens = range(self._config.text.vocabulary)
        kept = itertools.takewhile(
            lambda token_id: token_id in tokens and token_id not in self.end_token_ids, chunk.draft
        )
        return tuple(itertools.islice(kept, max(0, most)))

    def choice(self, chunk: ChunkRequest) -> Choice:
        """How this chunk's tokens are picked."""
        if chunk.temperature < LEAST_TEMPERATURE:
            return Choice(wants_logprob=True) if chunk.wants_logprobs else GREEDY
        generator = torch.Generator(device=self.device)
        generator.seed()
        return Choice(chunk.temperature, generator, chunk.wants_logprobs)

    def windows(self, chunk: ChunkRequest) -> tuple[Tensor, ...]:
        """Log-mel windows (mel_bins, at most window_frames) of a chunk."""
        samples = on_device(torch.from_numpy(chunk.samples).float(), self.device)
        missing = max(0, LEAST_SAMPLES - len(samples))
        mel = self._log_mel(torch.nn.functional.pad(samples, (0, missing)))
        windows: tuple[Tensor, ...] = mel.split(self._config.audio.window_frames, dim=1)
        return windows

    def placed(self, window: Tensor) -> Tensor:
        """A window's features, on the device."""
        return on_device(window, self.device)

    def hidden_tokens(
        self, token_ids: Sequence[int], first: int, prompt: Prompt, audio: Sequence[Tensor]
    ) -> Tensor:
        """Tokens from `first` on as hidden states (tokens, width): embedded, the audio of the
        prompt's windows in its place."""
        hidden = self.runner.embed(token_ids[first:])
        begin, end = prompt.audio_start, prompt.audio_start + prompt.audio_tokens
        if first < end:
            parts = deque(audio)
            while begin + len(parts[0]) <= first:
                begin += len(parts.popleft())
            joined = torch.cat(list(parts))[max(0, first - begin) :]
            hidden[end - len(joined) - first : end - first] = joined
        return hidden

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """The output as text, <asr_text> included."""
        return self._prompter.detokenize(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """A token's part of the output's UTF-8."""
        return self._prompter.token_bytes(token_id)

    def memory(self) -> dict[str, int]:
        """See Engine.memory."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocated_bytes": torch.cuda.memory_allocated(self.device),
            "reserved_bytes": torch.cuda.memory_reserved(self.device),
            "free_bytes": torch.cuda.mem_get_info(self.device)[0],
        }

    def failure_of(self, error: Exception) -> ChunkFailure:
        """What a chunk is told about an error of its batch. Raises EngineFailure:
        device_lost, backend_missing."""
        if placement.is_out_of_memory(error):
            logger.warning("a batch ran out of memory: %s", error)
            return ChunkFailure(
                "out_of_memory", "The server ran out of memory on this part of the recording."
            )
        if placement.lacks_compiler(error):
            raise placement.compiler_missing() from error
        if placement.is_lost(self.device):
            raise EngineFailure(
                "device_lost",
                "The GPU reported an error that only a new process cures; the engine is started"
                " again. If this repeats, look for Xid lines in the kernel's log.",
            ) from error
        logger.warning("a batch could not be inferred", exc_info=error)
        return ChunkFailure(
            "inference_failed", "This part of the recording could not be transcribed."
        )

    def release(self) -> None:
        """Give back what torch holds for later use."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, settings: EngineSettings) -> MemoryPlan:
        on_gpu = self.device.type == "cuda"
        if settings.vram_budget is not None and not on_gpu:
            logger.warning("VRAM_BUDGET is without effect: the model runs on the CPU")
        samples = self._most_samples
        audio_tokens = self._config.audio.audio_tokens(frame_count(samples))
        chunk = _FRAMING_TOKENS + CONTEXT_TOKENS + audio_tokens + output_token_limit(samples)
        if chunk > self._config.text.max_positions:
            raise EngineFailure(
                "unsupported_model",
                f"The longest chunk ({samples / SAMPLE_RATE:.0f} s) needs more tokens than the"
                " model has positions for. Lower MAX_CHUNK_SECONDS.",
            )
        return plan_memory(
            self._config,
            free_bytes=max(0, placement.free_memory(self.device) - settings.kept_free_bytes),
            budget=settings.vram_budget if on_gpu else CPU_SHARE,
            parameter_bytes=parameter_bytes(self._config, self.dtype),
            value_bytes=self.dtype.itemsize,
            least_tokens=rounded_up(chunk) + rounded_up(_spare_rows(self.device)),
            limits=CUDA_LIMITS if on_gpu else CPU_LIMITS,
        )

    def _place(
        self, checkpoint: Checkpoint, settings: EngineSettings, report: ReportProgress
    ) -> tuple[Runner, KvArena]:
        parameters = load_parameters(
            checkpoint, self._config, device=self.device, dtype=self.dtype, report=report
        )
        operations = choose_operations(self.device, is_compiled=settings.compile)
        arena = KvArena(self.plan.kv_tokens)
        spare = arena.allocate(_spare_rows(self.device))
        assert spare is not None, "an arena holds at least the largest chunk"
        runner = Runner(
            parameters,
            operations,
            kv_rows=self.plan.kv_tokens,
            slots=self.plan.limits.rows,
            spare_row=spare.start,
            graphs=GraphCache() if _uses_graphs(self.device) else None,
            threads=settings.threads,
        )
        return runner, arena


def choose_operations(device: torch.device, *, is_compiled: bool) -> Operations:
    """Triton's kernels on a GPU that has Triton, torch's own operations elsewhere; compiled, the
    elementwise ones are Inductor's on either."""
    operations: Operations = TorchOperations()
    if device.type == "cuda" and has_triton():
        from worker.engine.kernels import TritonOperations

        operations = TritonOperations()
    elif device.type == "cuda":
        logger.warning("triton is not installed: every operation is launched by itself, slowly")
    if is_compiled:
        from worker.engine.compiled_operations import CompiledOperations

        return CompiledOperations(operations)
    return operations


def _uses_graphs(device: torch.device) -> bool:
    """Torch's own attention asks the host where sequences lie, which no graph can record."""
    return device.type == "cuda" and has_triton()


def _spare_rows(device: torch.device) -> int:
    """KV rows that padding may write: as many as the largest bucket of tokens has."""
    return TOKEN_BUCKETS[-1] if _uses_graphs(device) else 1


def has_triton() -> bool:
    """Whether Triton is installed; builds of torch for CUDA bring it."""
    return importlib.util.find_spec("triton") is not None


def _read_config(checkpoint: Checkpoint) -> ModelConfig:
    try:
        return read_model_config(checkpoint.config)
    except UnsupportedConfig as error:
        logger.error("the checkpoint cannot be run: %s", error)
        raise EngineFailure(
            "unsupported_model",
            "This checkpoint's shape is not one that the native engine runs. Set MODEL_ID to"
            " Qwen/Qwen3-ASR-1.7B or Qwen/Qwen3-ASR-0.6B, or try ENGINE=official.",
        ) from error
