"""The official qwen-asr package behind our interface, transformers backend (CPU and CUDA).

Torch is imported by load(), not by this module, so that its import is a stage that is reported.
Whoever starts the process sets OMP_NUM_THREADS, MKL_NUM_THREADS, and for compiled decoders
TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR on a disk that stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from worker.engine.checkpoints import read_checkpoint, refuse_hf_layout, resolve_checkpoint
from worker.engine.imports import package_missing
from worker.engine.interface import (
    SAMPLE_RATE,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    LoadProgress,
    ReportProgress,
)

if TYPE_CHECKING:
    from worker.engine.transformers_model import TransformersModel


class OfficialTransformersEngine:
    """See WholeBatches."""

    name = "official-transformers"

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._model: TransformersModel | None = None
        self.max_chunk_seconds: float | None = None

    def __repr__(self) -> str:
        state = "loaded" if self._model else "not loaded"
        return f"<OfficialTransformersEngine {self._settings.model_id} {state}>"

    @property
    def max_batch(self) -> int:
        return self._model.max_batch if self._model else 1

    def load(self, report: ReportProgress) -> None:
        # Found and checked first: a wrong MODEL_ID is told before seconds of imports.
        folder = resolve_checkpoint(self._settings.model_id, self._settings.cache_dir, report)
        checkpoint = read_checkpoint(folder)
        refuse_hf_layout(checkpoint)
        report(LoadProgress("imports"))
        # Read once, when torch loads its OpenMP. Idle threads that spin starve working ones where
        # cores are shared: eight chunks took 7.2 s so, and 0.7 s with threads that sleep.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            from worker.engine.transformers_model import TransformersModel
        except ModuleNotFoundError as error:
            raise package_missing(error, extras="worker,official") from error

        self._model = TransformersModel(checkpoint, self._settings, report)
        self.max_chunk_seconds = checkpoint.max_chunk_seconds

    def warm_up(self) -> None:
        import numpy as np

        silence = ChunkRequest(np.zeros(SAMPLE_RATE, dtype=np.float32))
        answers = self.transcribe([silence], lambda: None)
        if self._settings.compile:  # a batch of one is compiled apart from any other
            answers += self.transcribe([silence, silence], lambda: None)
        failures = [answer for answer in answers if isinstance(answer, ChunkFailure)]
        if failures:
            code = "out_of_memory" if failures[0].code == "out_of_memory" else "model_corrupt"
            raise EngineFailure(
                code,
                "The model was loaded but could not transcribe a second of silence. See the"
                " warning before this line; try DTYPE=float32, or another copy of the model.",
            )

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        if self._model is None:
            raise RuntimeError("load() comes before transcribe()")
        return self._model.transcribe(chunks, on_step)

    def memory(self) -> dict[str, int]:
        return self._model.memory() if self._model else {}
