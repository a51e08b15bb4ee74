"""Makes the engine that the settings name; what it needs is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engine.interface import Engine, EngineFailure, EngineSettings

if TYPE_CHECKING:
    from worker.engine.batches import WholeBatches


def create_engine(settings: EngineSettings) -> Engine:
    """The engine for these settings, not loaded. Raises EngineFailure for an unknown one, here or
    from its load()."""
    if settings.forced_aligner_id is None:
        return _create_plain(settings)
    from worker.engine.aligning import AligningEngine
    from worker.engine.official_aligner import OfficialAligner

    return AligningEngine(OfficialAligner(settings), settings, _create_plain)


def _create_plain(settings: EngineSettings) -> Engine:
    if settings.engine == "native":
        from worker.engine.native import NativeEngine

        return NativeEngine(settings)
    if settings.engine == "official":
        from worker.engine.batches import BatchEngine

        return BatchEngine(_official_engine(settings))
    raise EngineFailure(
        "backend_missing", f"There is no engine {settings.engine!r}: use native or official."
    )


def _official_engine(settings: EngineSettings) -> WholeBatches:
    if settings.backend == "transformers":
        from worker.engine.official import OfficialTransformersEngine

        return OfficialTransformersEngine(settings)
    if settings.backend == "vllm":
        from worker.engine.vllm_backend import OfficialVllmEngine

        return OfficialVllmEngine(settings)
    raise EngineFailure(
        "backend_missing",
        f"There is no engine backend {settings.backend!r}: use transformers or vllm.",
    )
