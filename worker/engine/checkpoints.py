"""Finds the folder of a checkpoint, downloading it where needed, and refuses what cannot be served.

Imports neither torch nor transformers: a wrong MODEL_ID is refused before seconds of imports.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine.interface import EngineFailure, ReportProgress
from worker.model.config import is_hf_layout

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"

_EMBEDDED_FOLDER = Path(__file__).parent.parent / "embedded" / "checkpoint"
_SINGLE_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_PREPROCESSOR = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"


@dataclass(frozen=True, slots=True)
class Role:
    """What a checkpoint is wanted for."""

    variable: str
    """The setting that names it."""
    examples: str
    """What the setting may be, in a sentence."""
    is_aligner: bool


TRANSCRIBER = Role("MODEL_ID", "Qwen/Qwen3-ASR-1.7B or Qwen/Qwen3-ASR-0.6B", False)
ALIGNER = Role("FORCED_ALIGNER_ID", "Qwen/Qwen3-ForcedAligner-0.6B", True)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete Qwen3-ASR checkpoint on disk."""

    folder: Path
    config: dict[str, Any]
    is_hf_layout: bool
    """Whether names are those of transformers 5's own port, not of the published checkpoints."""
    preprocessor: dict[str, Any]
    """Settings of the feature extractor."""
    weight_files: tuple[Path, ...]
    end_token_ids: tuple[int, ...]
    """Tokens that end the output; generation_config.json's, for generate() hard-codes others."""
    max_chunk_seconds: float | None


def resolve_checkpoint(
    model_id: str, cache_dir: Path, report: ReportProgress, role: Role = TRANSCRIBER
) -> Path:
    """Folder of the checkpoint: the package's own, an existing folder, or a hub id's snapshot.

    A complete snapshot in the cache is used without asking the network. Raises EngineFailure.
    """
    if model_id == EMBEDDED:
        return _EMBEDDED_FOLDER
    if Path(model_id).expanduser().is_dir():
        return Path(model_id).expanduser()

    from worker.engine.hub import download_snapshot

    return download_snapshot(model_id, cache_dir, report, role)


def read_checkpoint(folder: Path, role: Role = TRANSCRIBER) -> Checkpoint:
    """Reads the configuration and checks that all needed files are there. Raises EngineFailure."""
    config = _read_json(folder, "config.json", role)
    _refuse_other_models(config, role)
    weight_files = _weight_files(folder, role)
    if not (folder / "tokenizer.json").is_file():
        _require_files(folder, ("vocab.json", "merges.txt", "tokenizer_config.json"), role)
    return Checkpoint(
        folder=folder,
        config=config,
        is_hf_layout=is_hf_layout(config),
        preprocessor=_read_preprocessor(folder, role),
        weight_files=weight_files,
        end_token_ids=_end_token_ids(folder, config, role),
        max_chunk_seconds=_max_chunk_seconds(config),
    )


def refuse_hf_layout(checkpoint: Checkpoint) -> None:
    """For engines that read the published layout only. Raises EngineFailure."""
    if checkpoint.is_hf_layout:
        raise EngineFailure(
            "unsupported_model",
            "This checkpoint has the layout of transformers 5 (its name ends in -hf), which only"
            " ENGINE=native reads. Set that, or MODEL_ID to the original checkpoint, for example"
            " Qwen/Qwen3-ASR-1.7B.",
        )


def is_complete(folder: Path, role: Role = TRANSCRIBER) -> bool:
    """Whether every file that a checkpoint needs is there; says nothing about its kind."""
    try:
        read_checkpoint(folder, role)
    except EngineFailure as failure:
        return failure.code == "unsupported_model"
    return True


def refuse_other_models_in(folder: Path, role: Role) -> None:
    """Raises EngineFailure when config.json belongs to a model that cannot be served."""
    _refuse_other_models(_read_json(folder, "config.json", role), role)


def weights_damaged() -> EngineFailure:
    """What is told of weight files that are damaged or incomplete."""
    return EngineFailure(
        "model_corrupt",
        "The checkpoint's weights are damaged or incomplete. Delete the checkpoint and let it be"
        " downloaded again, or restore the folder.",
    )


def _refuse_other_models(config: dict[str, Any], role: Role) -> None:
    thinker = config.get("thinker_config")
    if role.is_aligner:
        if not isinstance(thinker, dict) or not _is_aligner(thinker):
            raise EngineFailure(
                "unsupported_model",
                "This is not the forced aligner in its published layout. Set FORCED_ALIGNER_ID to"
                f" {role.examples} or a folder with that model, or unset it.",
            )
        return
    if thinker is None:
        if config.get("model_type") != "qwen3_asr":
            raise EngineFailure(
                "unsupported_model",
                "This is not a Qwen3-ASR checkpoint. Set MODEL_ID to Qwen/Qwen3-ASR-1.7B,"
                " Qwen/Qwen3-ASR-0.6B, a folder with such a model, or embedded.",
            )
        # In this layout the aligner differs by its head alone.
        is_aligner = "TokenClassification" in str(config.get("architectures"))
    elif isinstance(thinker, dict):
        is_aligner = _is_aligner(thinker)
    else:
        raise _corrupt("config.json")
    if is_aligner:
        raise EngineFailure(
            "unsupported_model",
            "This is the forced aligner, which gives times to a known text and transcribes"
            " nothing: its place is FORCED_ALIGNER_ID. Set MODEL_ID to Qwen/Qwen3-ASR-1.7B or"
            " Qwen/Qwen3-ASR-0.6B.",
        )


def _is_aligner(thinker: dict[str, Any]) -> bool:
    return "classify_num" in thinker or "forced_aligner" in str(thinker.get("model_type", ""))


def _read_preprocessor(folder: Path, role: Role) -> dict[str, Any]:
    """Of a file of its own, or where that is missing of processor_config.json: transformers 5
    writes one file for all parts of a processor."""
    if (folder / _PREPROCESSOR).is_file() or not (folder / _PROCESSOR).is_file():
        return _read_json(folder, _PREPROCESSOR, role)
    nested = _read_json(folder, _PROCESSOR, role).get("feature_extractor")
    if not isinstance(nested, dict):
        raise _corrupt(_PROCESSOR)
    return nested


def _weight_files(folder: Path, role: Role) -> tuple[Path, ...]:
    """Safetensors only: a pickle runs code when it is read."""
    if (folder / _WEIGHTS_INDEX).is_file():
        weight_map = _read_json(folder, _WEIGHTS_INDEX, role).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise _corrupt(_WEIGHTS_INDEX)
        names = sorted({str(name) for name in weight_map.values()})
        if any(Path(name).name != name for name in names):
            raise _corrupt(_WEIGHTS_INDEX)
        _require_files(folder, tuple(names), role)
        return tuple(folder / name for name in names)
    if (folder / _SINGLE_WEIGHTS).is_file():
        return (folder / _SINGLE_WEIGHTS,)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise EngineFailure(
            "unsupported_model",
            "The weights are pickled (.bin, .pt); only safetensors are read. Convert them with"
            " save_pretrained(safe_serialization=True).",
        )
    raise _missing(_SINGLE_WEIGHTS, role)


def _end_token_ids(folder: Path, config: dict[str, Any], role: Role) -> tuple[int, ...]:
    generation: dict[str, Any] = {}
    if (folder / "generation_config.json").is_file():
        generation = _read_json(folder, "generation_config.json", role)
    named = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if not all(isinstance(token, int) for token in ids):
        raise _corrupt("generation_config.json")
    return tuple(ids)


def _max_chunk_seconds(config: dict[str, Any]) -> float | None:
    limit = config.get("max_chunk_seconds")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise _corrupt("config.json")
    return float(limit)


def _require_files(folder: Path, names: tuple[str, ...], role: Role) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise _missing(name, role)


def _read_json(folder: Path, name: str, role: Role) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(name, role) from None
    except (OSError, ValueError) as error:
        logger.error("%s of the checkpoint could not be read: %s", name, error)
        raise _corrupt(name) from error
    if not isinstance(content, dict):
        raise _corrupt(name)
    return content


def _missing(name: str, role: Role) -> EngineFailure:
    return EngineFailure(
        "model_not_found",
        f"The folder of {role.variable} holds no {name}. Point {role.variable} at a complete"
        " checkpoint, or at a hub id to have it downloaded.",
    )


def _corrupt(name: str) -> EngineFailure:
    return EngineFailure(
        "model_corrupt",
        f"{name} of the checkpoint is damaged. Delete the checkpoint and let it be downloaded"
        " again, or restore the folder.",
    )
