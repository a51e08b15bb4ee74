"""A loaded model of the official package: chunks in, texts out, through transformers' generate().

Imports torch and transformers; worker/engine/official.py imports this only when it loads.
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
from worker.engine.generation import Row, StepControl, output_tokens
from worker.engine.imports import import_modeling
from worker.engine.interface import (
    SAMPLE_RATE,
    Cancelled,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    ReportProgress,
)
from worker.engine.limits import LEAST_SAMPLES, new_token_limit, output_token_limit
from worker.engine.official_weights import load_model
from worker.engine.prompt import CONTEXT_TOKENS, Prompter
from worker.engine.recovery import answer_each
from worker.text.model_output import parse_model_output

logger = logging.getLogger(__name__)

# The largest chunk a batch is sized for; longer ones are served, in smaller batches if need be.
_SIZING_SECONDS = 60


class TransformersModel:
    """Weights, tokenizer and feature extractor of one checkpoint on one device."""

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, report: ReportProgress
    ) -> None:
        """Loads everything. Raises EngineFailure."""
        torch.set_num_threads(settings.threads)
        self._device = placement.choose_device(settings.device)
        self._dtype = placement.choose_dtype(settings.dtype, self._device)
        attention = placement.choose_attention(self._device, self._dtype)
        modeling = import_modeling()
        self._prompter = Prompter(checkpoint.folder)
        self._extractor = _feature_extractor(checkpoint)
        try:
            self._thinker = load_model(
                modeling,
                checkpoint,
                device=self._device,
                dtype=self._dtype,
                attention=attention,
                report=report,
            ).thinker
        except torch.OutOfMemoryError as error:
            raise EngineFailure(
                "out_of_memory",
                "The model's weights do not fit into the device's free memory. Use a smaller model"
                " (Qwen/Qwen3-ASR-0.6B), or end what else uses the device.",
            ) from error
        # Only the last position's scores are used, yet the package computes them for the whole
        # prompt: 150,000 numbers for each of thousands of tokens.
        self._thinker.lm_head.register_forward_pre_hook(_last_position)
        if settings.compile:
            _compile_layers(self._thinker.model)
        self._end_token_ids = checkpoint.end_token_ids or (
            self._prompter.turn_end_id,
            self._prompter.padding_id,
        )
        self.max_batch = self._largest_batch()
        logger.info(
            "model loaded, device=%s dtype=%s attention=%s max_batch=%d",
            self._device,
            self._dtype,
            attention,
            self.max_batch,
        )

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        """One answer per chunk. Raises what on_step raises, and EngineFailure: device_lost."""
        answers: list[ChunkText | ChunkFailure] = []
        for start in range(0, len(chunks), self.max_batch):
            answers += answer_each(
                chunks[start : start + self.max_batch],
                lambda batch: self._transcribe_together(batch, on_step),
                failure_of=self._failure_of,
                release=self._release,
            )
        return answers

    def memory(self) -> dict[str, int]:
        """See Engine.memory."""
        if self._device.type != "cuda":
            return {}
        return {
            "allocated_bytes": torch.cuda.memory_allocated(self._device),
            "reserved_bytes": torch.cuda.memory_reserved(self._device),
            "free_bytes": torch.cuda.mem_get_info(self._device)[0],
        }

    def _transcribe_together(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        with torch.inference_mode():
            mels = [self._log_mel(chunk.samples) for chunk in chunks]
            audio = encode_windows(self._thinker.audio_tower, mels, on_step)
            prompts = [
                self._prompter.token_ids(
                    audio_tokens=len(tokens), context=chunk.context, language=chunk.language
                )
                for chunk, tokens in zip(chunks, audio, strict=True)
            ]
            control = StepControl(
                [Row(_new_token_limit(chunk), chunk.temperature) for chunk in chunks],
                end_token_id=self._end_token_ids[0],
                device=self._device,
                on_step=on_step,
            )
            with self._heard_in_each_layer(control):
                begun = [[*p, *c.prefix] for p, c in zip(prompts, chunks, strict=True)]
                generated = self._generate(begun, audio, control).tolist()
        return [
            _broken_scores() if broken else self._chunk_text(chunk, prompt, len(tokens), row)
            for chunk, prompt, tokens, row, broken in zip(
                chunks, prompts, audio, generated, control.broken_rows(), strict=True
            )
        ]

    def _chunk_text(
        self, chunk: ChunkRequest, prompt: Sequence[int], audio_tokens: int, row: Sequence[int]
    ) -> ChunkText:
        limit = _new_token_limit(chunk)
        generated = output_tokens(row, limit=limit, end_ids=self._end_token_ids)
        output = [*chunk.prefix, *generated]
        parsed = parse_model_output(self._prompter.detokenize(output), chunk.language)
        return ChunkText(
            language=parsed.language,
            text=parsed.text,
            prompt_tokens=len(prompt),
            audio_tokens=audio_tokens,
            output_tokens=len(output),
            is_cut_off=len(generated) >= limit,
            token_ids=tuple(output),
        )

    def _log_mel(self, samples: np.ndarray) -> Tensor:
        """(samples,) -> (mel_bins, frames). Each chunk alone: padding to the longest of a batch
        would change the last frame of the others."""
        missing = max(0, LEAST_SAMPLES - len(samples))
        features = self._extractor(
            np.pad(np.asarray(samples, dtype=np.float32), (0, missing)),
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            return_attention_mask=False,
            device=str(self._device),
        )["input_features"]
        return torch.from_numpy(features[0]).to(self._device)

    def _generate(
        self, prompts: Sequence[list[int]], audio: Sequence[Tensor], control: StepControl
    ) -> Tensor:
        """Token ids generated for each prompt (rows, steps), padded behind their end."""
        from transformers import GenerationConfig

        token_ids, attended = self._padded_left(prompts)
        embedded = self._thinker.get_input_embeddings()(token_ids)
        is_audio = (token_ids == self._prompter.audio_token_id).unsqueeze(-1)
        embedded = embedded.masked_scatter(is_audio, torch.cat(list(audio)).to(embedded.dtype))
        generated: Tensor = self._thinker.generate(
            inputs_embeds=embedded,
            attention_mask=attended,
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=control.token_limit,
                eos_token_id=list(self._end_token_ids),
                pad_token_id=self._prompter.padding_id,
            ),
            logits_processor=[control.adjust],
            stopping_criteria=[control.is_over],
        )
        return generated

    @contextmanager
    def _heard_in_each_layer(self, control: StepControl) -> Iterator[None]:
        hooks = [
            layer.register_forward_pre_hook(lambda _layer, _arguments: control.enter_layer())
            for layer in self._thinker.model.layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _padded_left(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        token_ids = [
            [self._prompter.padding_id] * missing + prompt
            for missing, prompt in zip(padding, prompts, strict=True)
        ]
        attended = [[0] * missing + [1] * (longest - missing) for missing in padding]
        return (
            torch.tensor(token_ids, device=self._device),
            torch.tensor(attended, device=self._device),
        )

    def _failure_of(self, error: Exception) -> ChunkFailure:
        if isinstance(error, Cancelled | EngineFailure):
            raise error
        if placement.is_out_of_memory(error):
            logger.warning("a batch ran out of memory: %s", error)
            return ChunkFailure(
                "out_of_memory",
                "The server ran out of memory on this part of the recording.",
            )
        if placement.lacks_compiler(error):
            raise placement.compiler_missing() from error
        if placement.is_lost(self._device):
            raise EngineFailure(
                "device_lost",
                "The GPU reported an error that only a new process cures; the engine is started"
                " again. If this repeats, look for Xid lines in the kernel's log.",
            ) from error
        logger.warning("a batch could not be transcribed", exc_info=error)
        return _not_transcribed()

    def _release(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _largest_batch(self) -> int:
        if self._device.type != "cuda":
            return placement.CPU_BATCH
        text = self._thinker.model.config
        cache_bytes_per_token = (
            2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        ) * self._dtype.itemsize
        tokens = (
            CONTEXT_TOKENS
            + 13 * _SIZING_SECONDS
            + output_token_limit(_SIZING_SECONDS * SAMPLE_RATE)
        )
        return placement.chunks_that_fit(
            placement.free_bytes(self._device), cache_bytes_per_token * tokens
        )


def _new_token_limit(chunk: ChunkRequest) -> int:
    limit = output_token_limit(len(chunk.samples))
    return new_token_limit(limit, len(chunk.prefix), chunk.most_new_tokens)


def _feature_extractor(checkpoint: Checkpoint) -> Any:
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    return WhisperFeatureExtractor.from_dict(checkpoint.preprocessor)


def _compile_layers(decoder: Any) -> None:
    """Fuses norms and MLPs. The attention stays eager: the growing cache it writes is recompiled
    for with every change of its layout, seen as 50 s of warm-up for a three-layer decoder."""
    for layer in decoder.layers:
        attention = layer.self_attn
        for module in (
            layer.input_layernorm,
            attention.q_norm,
            attention.k_norm,
            layer.post_attention_layernorm,
            layer.mlp,
        ):
            module.compile(dynamic=True)


def _last_position(_module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (arguments[0][:, -1:], *arguments[1:])


def _broken_scores() -> ChunkFailure:
    logger.warning("the model's scores for a chunk were not finite")
    return _not_transcribed()


def _not_transcribed() -> ChunkFailure:
    return ChunkFailure("inference_failed", "This part of the recording could not be transcribed.")
