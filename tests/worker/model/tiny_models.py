"""Tiny random models in the published layout: the official package's modules and ours, of the same
weights. Tokenizer and preprocessor are the embedded checkpoint's."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.worker.engine.checkpoint_folders import EMBEDDED, copied, edit_json
from worker.engine.checkpoints import read_checkpoint
from worker.engine.imports import import_modeling
from worker.engine.official_weights import load_model
from worker.engine.weights import load_parameters
from worker.model.config import read_model_config
from worker.model.parameters import ModelParameters

CPU = torch.device("cpu")
END_TOKENS = (480, 481)


@dataclass(frozen=True, slots=True)
class TinyShape:
    """What varies between models; widths are as small as positions and heads allow."""

    encoder_layers: int = 2
    encoder_heads: int = 4
    decoder_layers: int = 2
    decoder_heads: int = 4
    decoder_kv_heads: int = 2
    is_tied: bool = True
    seed: int = 1


SHAPES = {
    "groups of 1": TinyShape(decoder_kv_heads=4),
    "groups of 2, odd layers": TinyShape(encoder_layers=3, decoder_layers=3, seed=2),
    "groups of 4, untied head": TinyShape(
        encoder_layers=1, encoder_heads=2, decoder_layers=1, decoder_kv_heads=1, is_tied=False
    ),
}


@dataclass(frozen=True, slots=True)
class TinyModel:
    """One set of weights three times, float32 on the CPU."""

    folder: Path
    official: Any
    """Qwen3ASRForConditionalGeneration of the official package."""
    ours: ModelParameters


@cache
def tiny_model(name: str) -> TinyModel:
    """A model of SHAPES, built once for all tests."""
    folder = Path(_scratch().name) / name.replace(" ", "_").replace(",", "")
    return loaded(write_checkpoint(folder, SHAPES[name]))


@cache
def embedded_model() -> TinyModel:
    """The embedded checkpoint in the same guise."""
    return loaded(EMBEDDED)


def loaded(folder: Path) -> TinyModel:
    checkpoint = read_checkpoint(folder)
    return TinyModel(
        folder,
        load_model(
            import_modeling(),
            checkpoint,
            device=CPU,
            dtype=torch.float32,
            attention="sdpa",
            report=lambda _progress: None,
        ),
        load_parameters(
            checkpoint,
            read_model_config(checkpoint.config),
            device=CPU,
            dtype=torch.float32,
            report=lambda _progress: None,
        ),
    )


def write_checkpoint(folder: Path, shape: TinyShape) -> Path:
    """A loadable checkpoint with random weights under which tokens vary with all of the audio.

    It talks to its limit: end tokens have score 0, and among hundreds some other has more.
    """
    copied(folder, without=("model.safetensors",))
    edit_json(folder / "config.json", lambda config: _reshape(config["thinker_config"], shape))
    modeling = import_modeling()
    config = modeling.Qwen3ASRConfig.from_dict(json.loads((folder / "config.json").read_text()))
    model = modeling.Qwen3ASRForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(shape.seed)
    tensors = {
        name: _random(name, tensor.shape, generator)
        for name, tensor in model.state_dict().items()
        if not (shape.is_tied and "lm_head" in name)
    }
    for name in tensors.keys() & {"thinker.model.embed_tokens.weight", "thinker.lm_head.weight"}:
        tensors[name][list(END_TOKENS)] = 0.0
    save_file(tensors, folder / "model.safetensors")
    return folder


def in_hf_layout(source: Path, folder: Path) -> Path:
    """A copy of a published checkpoint with the names of transformers 5's own port."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    tensors = load_file(source / "model.safetensors")
    save_file({_hf_name(name): tensors[name] for name in tensors}, folder / "model.safetensors")
    edit_json(folder / "config.json", _to_hf_config)
    return folder


def _hf_name(name: str) -> str:
    for published, port in {
        "thinker.audio_tower.proj1": "model.multi_modal_projector.linear_1",
        "thinker.audio_tower.proj2": "model.multi_modal_projector.linear_2",
        "thinker.audio_tower": "model.audio_tower",
        "thinker.model": "model.language_model",
        "thinker.lm_head": "lm_head",
    }.items():
        if name.startswith(published):
            return port + name.removeprefix(published)
    raise ValueError(f"no place in the port for {name}")


def _to_hf_config(config: dict[str, Any]) -> None:
    thinker = config.pop("thinker_config")
    text = thinker["text_config"]
    rope = {
        "rope_theta": text.pop("rope_theta"),
        "rope_type": text.pop("rope_scaling")["rope_type"],
    }
    config |= {
        "audio_config": thinker["audio_config"],
        "text_config": text | {"rope_parameters": rope},
        "tie_word_embeddings": text["tie_word_embeddings"],
    }


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="tiny_models")


def _reshape(thinker: dict[str, Any], shape: TinyShape) -> None:
    thinker["audio_config"] |= {
        "encoder_layers": shape.encoder_layers,
        "num_hidden_layers": shape.encoder_layers,
        "encoder_attention_heads": shape.encoder_heads,
        "d_model": 64,
        "encoder_ffn_dim": 96,
        "downsample_hidden_size": 8,
        "output_dim": 48,
    }
    thinker["text_config"] |= {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": shape.decoder_layers,
        "num_attention_heads": shape.decoder_heads,
        "num_key_value_heads": shape.decoder_kv_heads,
        "head_dim": 32,
        "tie_word_embeddings": shape.is_tied,
    }


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Every tensor unlike every other, so that none can stand in for another unseen."""
    drawn = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return drawn * _scale(name) * drawn[0].numel() ** -0.5
    if name.endswith("bias"):
        return drawn * 0.1
    # Large query and key norms make attention sharp: tokens then hang on single places.
    return (2.0 if "q_norm" in name or "k_norm" in name else 1.0) + drawn * 0.1


def _scale(name: str) -> float:
    if "audio_tower" in name:
        return 1.5
    return 3.0 if "o_proj" in name or "v_proj" in name else 1.0
