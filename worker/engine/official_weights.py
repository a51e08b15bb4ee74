"""Builds the official package's model and fills it from safetensors, one tensor at a time.

Instead of from_pretrained: progress is reported in bytes, memory never holds the weights twice,
and a damaged file is told from a wrong one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.checkpoints import Checkpoint, weights_damaged
from worker.engine.interface import LoadProgress, ReportProgress

logger = logging.getLogger(__name__)


def load_model(
    modeling: Any,
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
    report: ReportProgress,
) -> Any:
    """Qwen3ASRForConditionalGeneration of the module `modeling`, in inference mode, on device."""
    model = _empty_model(modeling, checkpoint.config, device, dtype, attention)
    model.tie_weights()
    loaded = _copy_weights(model, checkpoint.weight_files, report)
    _require_all(model, loaded)
    return model.eval().requires_grad_(False)


def _empty_model(
    modeling: Any, config: dict[str, Any], device: torch.device, dtype: torch.dtype, attention: str
) -> Any:
    from transformers.modeling_utils import no_init_weights

    settings = modeling.Qwen3ASRConfig.from_dict(config)
    thinker = settings.thinker_config
    for part in (settings, thinker, thinker.audio_config, thinker.text_config):
        part.dtype = dtype
        part._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), no_init_weights():
            return modeling.Qwen3ASRForConditionalGeneration(settings)
    finally:
        torch.set_default_dtype(before)


def _copy_weights(model: Any, files: Sequence[Path], report: ReportProgress) -> set[str]:
    targets = dict(model.named_parameters(remove_duplicate=False))
    targets |= dict(model.named_buffers(remove_duplicate=False))
    total_bytes = sum(file.stat().st_size for file in files)
    done_bytes = 0
    loaded: set[str] = set()
    report(LoadProgress("weights", done_bytes, total_bytes))
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    tensor = tensors.get_tensor(name)
                    _copy(targets, name, tensor)
                    loaded.add(name)
                    done_bytes += tensor.nbytes
                    report(LoadProgress("weights", done_bytes, total_bytes))
        except (SafetensorError, OSError) as error:
            logger.error("weights could not be read: %s", error)
            raise weights_damaged() from error
    report(LoadProgress("weights", total_bytes, total_bytes))
    return loaded


def _copy(targets: dict[str, Any], name: str, tensor: torch.Tensor) -> None:
    target = targets.get(name)
    if target is None:
        logger.warning("the checkpoint holds a tensor the model has no place for, name=%s", name)
        return
    if target.shape != tensor.shape:
        logger.error(
            "a tensor of the checkpoint has the wrong shape, name=%s shape=%s expected=%s",
            name,
            tuple(tensor.shape),
            tuple(target.shape),
        )
        raise weights_damaged()
    with torch.no_grad():
        target.copy_(tensor)


def _require_all(model: Any, loaded: set[str]) -> None:
    """A parameter that shares its memory with a loaded one (tied embedding) counts as loaded."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    filled = {parameters[name].data_ptr() for name in loaded if name in parameters}
    missing = [name for name, value in parameters.items() if value.data_ptr() not in filled]
    if missing:
        logger.error("the checkpoint lacks %d tensors, first=%s", len(missing), missing[0])
        raise weights_damaged()
