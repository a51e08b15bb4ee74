"""Qwen3-ForcedAligner by the official qwen-asr package, CPU and CUDA. See Aligner.

Torch and transformers are imported by load(), not by this module.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.engine.alignment_units import UnitFinder
from worker.engine.checkpoints import ALIGNER, read_checkpoint, resolve_checkpoint
from worker.engine.imports import package_missing
from worker.engine.interface import SAMPLE_RATE, EngineSettings, LoadProgress, ReportProgress
from worker.text.alignment import TimedUnit

if TYPE_CHECKING:
    import numpy as np

    from worker.engine.aligner_model import AlignerModel

logger = logging.getLogger(__name__)

MAX_SECONDS = 180.0
"""Of a chunk; qwen-asr 0.0.6 gives the model no more (MAX_FORCE_ALIGN_INPUT_SECONDS)."""

LANGUAGES = frozenset(
    (
        "cantonese",
        "chinese",
        "english",
        "french",
        "german",
        "italian",
        "japanese",
        "korean",
        "portuguese",
        "russian",
        "spanish",
    )
)
"""Of the published checkpoint, by qwen-asr 0.0.6; those in a checkpoint's config.json win."""


class OfficialAligner:
    """See Aligner."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._model: AlignerModel | None = None
        self._units = UnitFinder()
        self._languages = LANGUAGES
        self.working_bytes = 0

    def __repr__(self) -> str:
        return f"<OfficialAligner {'loaded' if self._model else 'not loaded'}>"

    def load(self, report: ReportProgress) -> None:
        assert self._settings.forced_aligner_id is not None, "no aligner is made without an id"
        folder = resolve_checkpoint(
            self._settings.forced_aligner_id, self._settings.cache_dir, report, ALIGNER
        )
        checkpoint = read_checkpoint(folder, ALIGNER)
        report(LoadProgress("imports"))
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in official.py
        try:
            from worker.engine.aligner_model import AlignerModel
        except ModuleNotFoundError as error:
            raise package_missing(error, extras="worker,official") from error

        self._model = AlignerModel(checkpoint, self._settings, report)
        named = checkpoint.config.get("support_languages")
        if isinstance(named, list) and named:
            self._languages = frozenset(str(language).casefold() for language in named)
        report(LoadProgress("warm_up"))
        seconds = min(self._settings.max_chunk_seconds, MAX_SECONDS)
        self.working_bytes = self._model.warm_up(seconds)
        logger.info(
            "forced aligner was loaded languages=%d working_bytes=%d",
            len(self._languages),
            self.working_bytes,
        )

    def knows(self, language: str | None) -> bool:
        return language is not None and language.casefold() in self._languages

    def align(
        self, samples: np.ndarray, text: str, language: str, on_step: Callable[[], None]
    ) -> tuple[TimedUnit, ...]:
        if self._model is None:
            raise RuntimeError("load() comes before align()")
        if len(samples) > MAX_SECONDS * SAMPLE_RATE:
            logger.warning(
                "a chunk is too long for the aligner seconds=%d", len(samples) // SAMPLE_RATE
            )
            return ()
        units = self._units.units_of(text, language)
        if not units:
            return ()
        times = self._model.times_of(samples, units, on_step)
        return tuple(
            TimedUnit(unit, start, end) for unit, (start, end) in zip(units, times, strict=False)
        )
