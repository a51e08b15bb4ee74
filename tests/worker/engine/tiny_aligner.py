"""Tiny forced aligners in the published layout, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.worker.engine.checkpoint_folders import edit_json
from tests.worker.model.tiny_models import SHAPES, write_checkpoint

STAMP = 487
CLASSES = 200
MILLISECONDS_PER_CLASS = 80
SHAPE = SHAPES["groups of 4, untied head"]


def write_aligner(folder: Path) -> Path:
    """With random weights: times hang on audio and text, and are nonsense."""
    write_checkpoint(folder, SHAPE)
    edit_json(folder / "config.json", _to_aligner)
    edit_json(folder / "tokenizer.json", lambda content: content["added_tokens"].append(_added()))
    fields = {name: value for name, value in _added().items() if name != "id"}
    edit_json(
        folder / "tokenizer_config.json",
        lambda content: content["added_tokens_decoder"].update({str(STAMP): fields}),
    )
    edit_json(folder / "added_tokens.json", lambda content: content.update({"<timestamp>": STAMP}))
    tensors = load_file(folder / "model.safetensors")
    width = tensors["thinker.lm_head.weight"].shape[1]
    generator = torch.Generator().manual_seed(3)
    tensors["thinker.lm_head.weight"] = torch.randn(CLASSES, width, generator=generator)
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_ascending_aligner(folder: Path) -> Path:
    """With weights under which each stamp is later than the one before.

    Attention that looks at all tokens alike finds which share of them are stamps; that grows from
    stamp to stamp. The head picks the class nearest to it.
    """
    write_aligner(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if not (name.startswith("thinker.model") and "norm" in name) and "audio" not in name:
            tensor.zero_()
    for name in ("proj2.weight", "proj2.bias"):
        tensors[f"thinker.audio_tower.{name}"].zero_()
    tensors["thinker.audio_tower.proj2.bias"][0] = 1.0
    for name, tensor in tensors.items():
        if "norm" in name and "audio" not in name:
            tensor.fill_(1.0)
    embedding = tensors["thinker.model.embed_tokens.weight"]
    embedding[:, 0] = 1.0
    embedding[STAMP, 2] = 1.0
    layer = "thinker.model.layers.0.self_attn"
    tensors[f"{layer}.v_proj.weight"][0, 2] = 1.0
    tensors[f"{layer}.o_proj.weight"][1, 0] = (2 / embedding.shape[1]) ** 0.5
    places = torch.arange(CLASSES) / CLASSES
    tensors["thinker.lm_head.weight"][:, 0] = -(places**2)
    tensors["thinker.lm_head.weight"][:, 1] = 2 * places
    save_file(tensors, folder / "model.safetensors")
    return folder


def _to_aligner(config: dict[str, Any]) -> None:
    config.pop("support_languages")
    config |= {
        "timestamp_token_id": STAMP,
        "timestamp_segment_time": MILLISECONDS_PER_CLASS,
    }
    config["thinker_config"] |= {"model_type": "qwen3_forced_aligner", "classify_num": CLASSES}


def _added() -> dict[str, object]:
    return {
        "id": STAMP,
        "content": "<timestamp>",
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


def supported(folder: Path, *languages: str) -> Path:
    """The checkpoint, saying which languages it knows."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"support_languages": languages}))
    return folder
