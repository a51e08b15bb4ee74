"""Models to measure: the embedded one, and random weights of the published shapes.

Also the peers: the official package's modules and transformers' port, where they are installed.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.engine.checkpoints import Checkpoint, read_checkpoint, resolve_checkpoint
from worker.engine.cuda_graphs import GraphCache
from worker.engine.imports import import_modeling
from worker.engine.official_weights import load_model
from worker.engine.runner import TOKEN_BUCKETS, Runner
from worker.engine.weights import load_parameters, random_parameters
from worker.model.config import read_model_config
from worker.model.operations import Operations, TorchOperations
from worker.model.parameters import ModelParameters

EMBEDDED = resolve_checkpoint("embedded", Path("unused"), lambda _progress: None)

# Published shapes: https://huggingface.co/Qwen/Qwen3-ASR-0.6B and Qwen3-ASR-1.7B, config.json.
_TEXT = {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
_TEXT |= {"head_dim": 128, "vocab_size": 151936}
_AUDIO = {"downsample_hidden_size": 480}
_SHAPES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "0.6b": (
        _AUDIO
        | {"d_model": 896, "encoder_layers": 18, "encoder_attention_heads": 14}
        | {"encoder_ffn_dim": 3584, "output_dim": 1024},
        _TEXT | {"hidden_size": 1024, "intermediate_size": 3072},
    ),
    "1.7b": (
        _AUDIO
        | {"d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16}
        | {"encoder_ffn_dim": 4096, "output_dim": 2048},
        _TEXT | {"hidden_size": 2048, "intermediate_size": 6144},
    ),
    "tiny": (
        {"d_model": 64, "encoder_layers": 2, "encoder_ffn_dim": 96}
        | {"downsample_hidden_size": 8, "output_dim": 48},
        {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 80},
    ),
}
MODELS = ("embedded", *_SHAPES)


class PeerAbsent(Exception):
    """What a peer needs is not installed; the message says what."""


def published_config(model: str) -> dict[str, Any]:
    """config.json of a model, in the published layout."""
    config: dict[str, Any] = json.loads((EMBEDDED / "config.json").read_text())
    if model == "embedded":
        return config
    audio, text = _SHAPES[model]
    thinker = config["thinker_config"]
    thinker["audio_config"] |= audio | {"num_hidden_layers": audio["encoder_layers"]}
    thinker["text_config"] |= text
    if model != "tiny":
        del config["max_chunk_seconds"]
        # Parts of half a head's width: the embedded model's heads are narrower.
        thinker["text_config"]["rope_scaling"] |= {"mrope_section": [24, 20, 20]}
    return config


def write_checkpoint(model: str, folder: Path) -> Path:
    """A checkpoint without weights, for engines whose weights are made here; the embedded one is
    used as it is. Its tokenizer is the embedded one's: what the texts say is of no interest."""
    if model == "embedded":
        return EMBEDDED
    shutil.copytree(EMBEDDED, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    (folder / "config.json").write_text(json.dumps(published_config(model)))
    (folder / "model.safetensors").touch()
    return folder


def make_parameters(model: str, device: torch.device, dtype: torch.dtype) -> ModelParameters:
    """The native engine's tensors."""
    config = read_model_config(published_config(model))
    if model == "embedded":
        checkpoint = read_checkpoint(EMBEDDED)
        return load_parameters(
            checkpoint, config, device=device, dtype=dtype, report=lambda _progress: None
        )
    return random_parameters(config, device=device, dtype=dtype)


def make_runner(
    parameters: ModelParameters,
    operations: Operations | None = None,
    *,
    kv_rows: int,
    slots: int,
    with_graphs: bool = False,
) -> Runner:
    """A runner over random KV rows, which end with the region that padding may write.

    Without operations, torch's own.
    """
    rows = kv_rows + TOKEN_BUCKETS[-1]
    runner = Runner(
        parameters,
        operations or TorchOperations(),
        kv_rows=rows,
        slots=slots,
        spare_row=kv_rows,
        graphs=GraphCache() if with_graphs else None,
        threads=torch.get_num_threads(),
    )
    for keys, values in runner.cache.layers:
        keys.normal_()
        values.normal_()
    return runner


def triton_operations() -> Operations:
    """Raises PeerAbsent."""
    try:
        from worker.engine.kernels import TritonOperations
    except ModuleNotFoundError as error:
        raise PeerAbsent(f"{error.name} is not installed") from error
    return TritonOperations()


# --- peers ------------------------------------------------------------------------------------


def official_thinker(model: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Qwen3ASRThinkerForConditionalGeneration of the official package. Raises PeerAbsent."""
    require_official()
    modeling = import_modeling()
    load = load_model if model == "embedded" else load_random_official
    checkpoint = read_checkpoint(EMBEDDED)
    if model != "embedded":
        checkpoint = _with_config(checkpoint, published_config(model))
    loaded = load(
        modeling,
        checkpoint,
        device=device,
        dtype=dtype,
        attention="sdpa",
        report=lambda _progress: None,
    )
    return loaded.thinker


def require_official() -> None:
    """Raises PeerAbsent where the official package cannot be run."""
    for package in ("qwen_asr", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise PeerAbsent(f"{package} is not installed")
    version = metadata.version("transformers")
    if not version.startswith("4."):
        raise PeerAbsent(f"it needs transformers 4, here is {version}")


def load_random_official(
    modeling: Any,
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
    report: object,
) -> Any:
    """As worker.engine.official_weights.load_model, with random weights."""
    settings = modeling.Qwen3ASRConfig.from_dict(copy.deepcopy(checkpoint.config))
    thinker = settings.thinker_config
    for part in (settings, thinker, thinker.audio_config, thinker.text_config):
        part.dtype = dtype
        part._attn_implementation = attention
    with torch.device(device):
        made = modeling.Qwen3ASRForConditionalGeneration(settings)
    return made.to(dtype).eval().requires_grad_(False)


def port_model(model: str, device: torch.device, dtype: torch.dtype) -> Any:
    """transformers' own Qwen3ASRForConditionalGeneration (from version 5). Raises PeerAbsent."""
    try:
        from transformers.models.qwen3_asr import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration
    except ImportError as error:
        raise PeerAbsent("transformers has no Qwen3-ASR before version 5") from error
    settings = _port_settings(published_config(model))
    with torch.device(device):
        made = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**settings))
    made = made.to(dtype).eval().requires_grad_(False)
    if model == "embedded":
        tensors = {_port_name(name): tensor for name, tensor in _stored(EMBEDDED).items()}
        made.load_state_dict(tensors, strict=False)
    made.tie_weights()
    return made


def _port_settings(config: dict[str, Any]) -> dict[str, Any]:
    thinker = config["thinker_config"]
    text = dict(thinker["text_config"])
    rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta")}
    del text["rope_scaling"]
    return {
        "audio_config": thinker["audio_config"] | {"model_type": "qwen3_asr_encoder"},
        "text_config": text | {"model_type": "qwen3", "rope_parameters": rope},
        "audio_token_id": thinker["audio_token_id"],
        "tie_word_embeddings": text["tie_word_embeddings"],
    }


def _port_name(name: str) -> str:
    name = name.removeprefix("thinker.")
    if name.startswith("lm_head"):
        return name
    name = re.sub(r"^model\.", "language_model.", name)
    return "model." + re.sub(r"^audio_tower\.proj(\d)\.", r"multi_modal_projector.linear_\1.", name)


def _stored(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    stored: dict[str, Tensor] = load_file(folder / "model.safetensors")
    return stored


def _with_config(checkpoint: Checkpoint, config: dict[str, Any]) -> Checkpoint:
    return dataclasses.replace(checkpoint, config=config)
