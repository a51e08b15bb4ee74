"""A loaded forced aligner of the official package: samples and units in, times out.

Imports torch and transformers; worker/engine/official_aligner.py imports this only when it loads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine import placement
from worker.engine.checkpoints import Checkpoint
from worker.engine.encoder import encode_windows
from worker.engine.imports import import_modeling
from worker.engine.interface import SAMPLE_RATE, EngineFailure, EngineSettings, ReportProgress
from worker.engine.limits import LEAST_SAMPLES
from worker.engine.mel import LogMel
from worker.engine.official_weights import load_model
from worker.engine.prompt import read_tokenizer, without_added_tokens

logger = logging.getLogger(__name__)

WARM_UP_UNITS_PER_SECOND = 8
"""Ideographs of very fast speech."""

Times = list[tuple[int, int]]
"""(start, end) of each unit, in samples, as the model says them."""


class AlignerModel:
    """Weights and tokenizer of one checkpoint on one device."""

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, report: ReportProgress
    ) -> None:
        """Loads everything. Raises EngineFailure."""
        torch.set_num_threads(settings.threads)
        self._device = placement.choose_device(settings.device)
        placement.make_current(self._device)
        dtype = placement.choose_dtype(settings.dtype, self._device)
        modeling = import_modeling()
        self._stamp_id = _number(checkpoint, "timestamp_token_id")
        self._samples_per_class = _number(checkpoint, "timestamp_segment_time") * SAMPLE_RATE / 1000
        self._tokenizer = without_added_tokens(read_tokenizer(checkpoint.folder))
        tokenizer = read_tokenizer(checkpoint.folder)
        self._audio_ids = [_special(tokenizer, f"<|audio_{part}|>") for part in _AUDIO_PARTS]
        self._log_mel = LogMel(checkpoint.preprocessor, self._device)
        try:
            self._thinker = load_model(
                modeling,
                checkpoint,
                device=self._device,
                dtype=dtype,
                attention="sdpa",
                report=report,
            ).thinker
        except torch.OutOfMemoryError as error:
            raise _does_not_fit() from error

    def warm_up(self, seconds: float) -> int:
        """Aligns silence of this length, the longest chunk. Returns the bytes of device memory that
        took beside the weights, 0 on the CPU. Raises EngineFailure."""
        on_gpu = self._device.type == "cuda"
        before = 0
        if on_gpu:
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            seconds = 1.0  # nothing is planned by it, and it takes its time
        silence = np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)
        units = ["one"] * max(1, int(seconds * WARM_UP_UNITS_PER_SECOND))
        try:
            self._infer(silence, units, lambda: None)
        except Exception as error:
            if placement.is_out_of_memory(error):
                raise _does_not_fit() from error
            logger.error("the forced aligner could not align silence", exc_info=error)
            raise EngineFailure(
                "model_corrupt",
                "The forced aligner was loaded but could not align silence. See the error before"
                " this line; try another copy of the model, or unset FORCED_ALIGNER_ID.",
            ) from error
        if not on_gpu:
            return 0
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.empty_cache()
        return max(0, int(peak - before))

    def times_of(
        self, samples: np.ndarray, units: Sequence[str], on_step: Callable[[], None]
    ) -> Times:
        """One pair a unit; none where it fails. Raises what on_step raises, and EngineFailure:
        device_lost."""
        interruptions: list[Exception] = []

        def interruptible() -> None:
            try:
                on_step()
            except Exception as error:
                interruptions.append(error)
                raise

        try:
            return self._infer(samples, units, interruptible)
        except (RuntimeError, MemoryError) as error:
            if error in interruptions:  # a fault of the caller's, not of the alignment
                raise
            self._explain(error)
            return []

    def _infer(
        self, samples: np.ndarray, units: Sequence[str], on_step: Callable[[], None]
    ) -> Times:
        with torch.inference_mode(), self._heard_in_each_layer(on_step):
            (audio,) = encode_windows(self._thinker.audio_tower, [self._mel(samples)], on_step)
            token_ids = torch.tensor([self._prompt(len(audio), units)], device=self._device)
            embedded = self._thinker.get_input_embeddings()(token_ids)
            is_audio = (token_ids == self._audio_ids[1]).unsqueeze(-1)
            embedded = embedded.masked_scatter(is_audio, audio.to(embedded.dtype))
            scores = self._thinker(
                inputs_embeds=embedded,
                attention_mask=torch.ones_like(token_ids),
                use_cache=False,
            ).logits  # (1, tokens, classes)
            classes = scores[token_ids == self._stamp_id].argmax(dim=-1).tolist()
        stamps = [round(number * self._samples_per_class) for number in classes]
        return list(zip(stamps[::2], stamps[1::2], strict=True))

    def _mel(self, samples: np.ndarray) -> Tensor:
        missing = max(0, LEAST_SAMPLES - len(samples))
        padded = np.pad(np.asarray(samples, dtype=np.float32), (0, missing))
        return self._log_mel(torch.from_numpy(padded).to(self._device))

    def _prompt(self, audio_tokens: int, units: Sequence[str]) -> list[int]:
        """The audio, then each unit with a stamp for its start and one for its end."""
        audio_start, audio, audio_end = self._audio_ids
        token_ids = [audio_start, *[audio] * audio_tokens, audio_end]
        for unit in units:
            token_ids += self._tokenizer.encode(unit, add_special_tokens=False).ids
            token_ids += [self._stamp_id] * 2
        return token_ids

    @contextmanager
    def _heard_in_each_layer(self, on_step: Callable[[], None]) -> Iterator[None]:
        hooks = [
            layer.register_forward_pre_hook(lambda _layer, _arguments: on_step())
            for layer in self._thinker.model.layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _explain(self, error: Exception) -> None:
        """Logs what an alignment failed of. Raises EngineFailure: device_lost."""
        if placement.is_out_of_memory(error):
            logger.warning("an alignment ran out of memory: %s", error)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        elif placement.is_lost(self._device):
            raise EngineFailure(
                "device_lost",
                "The GPU reported an error that only a new process cures; the engine is started"
                " again. If this repeats, look for Xid lines in the kernel's log.",
            ) from error
        else:
            logger.warning("a chunk could not be aligned", exc_info=error)


_AUDIO_PARTS = ("start", "pad", "end")


def _number(checkpoint: Checkpoint, name: str) -> int:
    value = checkpoint.config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        logger.error("the forced aligner's config.json has no %s", name)
        raise _unsupported()
    return int(value)


def _special(tokenizer: Any, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        logger.error("the forced aligner's tokenizer has no %s", token)
        raise _unsupported()
    return int(token_id)


def _unsupported() -> EngineFailure:
    return EngineFailure(
        "unsupported_model",
        "The checkpoint of the forced aligner lacks what marks times in its text. Set"
        " FORCED_ALIGNER_ID to Qwen/Qwen3-ForcedAligner-0.6B or a complete folder of it.",
    )


def _does_not_fit() -> EngineFailure:
    return EngineFailure(
        "out_of_memory",
        "The forced aligner does not fit into the device's free memory. Unset FORCED_ALIGNER_ID,"
        " or end what else uses the device.",
    )
