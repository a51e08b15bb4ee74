"""The official qwen-asr package behind our interface, vLLM backend: for the extra `vllm`.

Not measured by us: our machines have no vLLM. vLLM batches continuously inside, windows the encoder
itself, and reads the weights alone, so loading reports no bytes of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from worker.engine.checkpoints import (
    Checkpoint,
    read_checkpoint,
    refuse_hf_layout,
    resolve_checkpoint,
)
from worker.engine.interface import (
    SAMPLE_RATE,
    Cancelled,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    LoadProgress,
    ReportProgress,
)
from worker.engine.limits import LEAST_SAMPLES, new_token_limit, output_token_limit
from worker.engine.prompt import Prompter
from worker.engine.recovery import answer_each
from worker.text.model_output import parse_model_output

logger = logging.getLogger(__name__)

# vLLM queues inside; 64 chunks keep its batch full and bound what one call holds.
BATCH = 64


class OfficialVllmEngine:
    """See WholeBatches."""

    name = "official-vllm"
    max_batch = BATCH

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.max_chunk_seconds: float | None = None
        self._prompter: Prompter | None = None
        self._vllm: Any = None
        self._end_token_ids: tuple[int, ...] = ()

    def load(self, report: ReportProgress) -> None:
        folder = resolve_checkpoint(self._settings.model_id, self._settings.cache_dir, report)
        checkpoint = read_checkpoint(folder)
        refuse_hf_layout(checkpoint)
        report(LoadProgress("imports"))
        package = _import_package()
        report(LoadProgress("weights"))
        self._vllm = _start(package, checkpoint, self._settings.dtype)
        self._prompter = Prompter(folder)
        self._end_token_ids = checkpoint.end_token_ids or (
            self._prompter.turn_end_id,
            self._prompter.padding_id,
        )
        self.max_chunk_seconds = checkpoint.max_chunk_seconds

    def warm_up(self) -> None:
        import numpy as np

        silence = ChunkRequest(np.zeros(SAMPLE_RATE, dtype=np.float32))
        (answer,) = self.transcribe([silence], lambda: None)
        if isinstance(answer, ChunkFailure):
            raise EngineFailure(
                "model_corrupt",
                "vLLM loaded the model but could not transcribe a second of silence. See the"
                " warning before this line, or use the transformers backend.",
            )

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        """on_step is called between batches only: vLLM's generate() tells nothing on its way."""
        self._loaded_prompter()
        answers: list[ChunkText | ChunkFailure] = []
        for start in range(0, len(chunks), BATCH):
            on_step()
            answers += answer_each(
                chunks[start : start + BATCH],
                self._transcribe_together,
                failure_of=_failure_of,
                release=lambda: None,
            )
        return answers

    def memory(self) -> dict[str, int]:
        return {}

    def _transcribe_together(self, chunks: Sequence[ChunkRequest]) -> list[ChunkText]:
        outputs = self._vllm.generate(
            [self._prompt(chunk) for chunk in chunks],
            sampling_params=[self._sampling(chunk) for chunk in chunks],
            use_tqdm=False,
        )
        return [
            self._chunk_text(chunk, output) for chunk, output in zip(chunks, outputs, strict=True)
        ]

    def _loaded_prompter(self) -> Prompter:
        if self._prompter is None:
            raise RuntimeError("load() comes before transcribe()")
        return self._prompter

    def _prompt(self, chunk: ChunkRequest) -> dict[str, Any]:
        # One placeholder: vLLM's processor of the model widens it to the clip's length.
        token_ids = self._loaded_prompter().token_ids(
            audio_tokens=1, context=chunk.context, language=chunk.language
        )
        return {
            "prompt_token_ids": [*token_ids, *chunk.prefix],
            "multi_modal_data": {"audio": [_padded(chunk)]},
        }

    def _sampling(self, chunk: ChunkRequest) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=chunk.temperature,
            max_tokens=_new_token_limit(chunk),
            stop_token_ids=list(self._end_token_ids),
            detokenize=False,
        )

    def _chunk_text(self, chunk: ChunkRequest, output: Any) -> ChunkText:
        prompter = self._loaded_prompter()
        generated = [
            token for token in output.outputs[0].token_ids if token not in self._end_token_ids
        ]
        said = [*chunk.prefix, *generated]
        parsed = parse_model_output(prompter.detokenize(said), chunk.language)
        prompt = list(output.prompt_token_ids)
        return ChunkText(
            language=parsed.language,
            text=parsed.text,
            prompt_tokens=len(prompt) - len(chunk.prefix),
            audio_tokens=prompt.count(prompter.audio_token_id),
            output_tokens=len(said),
            is_cut_off=len(generated) >= _new_token_limit(chunk),
            token_ids=tuple(said),
        )


def _new_token_limit(chunk: ChunkRequest) -> int:
    limit = output_token_limit(len(chunk.samples))
    return new_token_limit(limit, len(chunk.prefix), chunk.most_new_tokens)


def _import_package() -> Any:
    try:
        import vllm  # noqa: F401 (the package hides that it is missing)
        from qwen_asr import Qwen3ASRModel
    except ImportError as error:
        raise EngineFailure(
            "backend_missing",
            "The vLLM backend is not installed. Install qwen3-asr-server[worker,vllm], or use"
            " another engine: ENGINE=native.",
        ) from error
    return Qwen3ASRModel


def _start(package: Any, checkpoint: Checkpoint, dtype: str) -> Any:
    try:
        return package.LLM(model=str(checkpoint.folder), dtype=dtype).model
    except (RuntimeError, ValueError, OSError) as error:
        logger.error("vLLM could not start: %s", error)
        raise EngineFailure(
            "out_of_memory" if "memory" in str(error) else "model_corrupt",
            "vLLM could not load the model. Its own words are in the log above; use a smaller"
            " model where it lacks memory, or the transformers backend.",
        ) from error


def _padded(chunk: ChunkRequest) -> Any:
    import numpy as np

    missing = max(0, LEAST_SAMPLES - len(chunk.samples))
    return np.pad(chunk.samples, (0, missing))


def _failure_of(error: Exception) -> ChunkFailure:
    if isinstance(error, Cancelled | EngineFailure):
        raise error
    if "EngineDead" in type(error).__name__:
        raise EngineFailure(
            "device_lost", "vLLM's engine process died; the engine is started again."
        ) from error
    logger.warning("a batch could not be transcribed", exc_info=error)
    return ChunkFailure("inference_failed", "This part of the recording could not be transcribed.")
