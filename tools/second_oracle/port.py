"""Runs transformers 5's own port of Qwen3-ASR over clips; started by compare.py in the environment
of the port, so it knows nothing of this project.

Reads from a folder: clips.npz (samples by name) and prompts.json (name -> token ids and the limit
of new tokens). Writes there: answers.npz (mel and audio tokens by name), tokens.json and hf/, the
checkpoint as the port stores it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.qwen3_asr import Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

_AUDIO = (
    "activation_function",
    "d_model",
    "downsample_hidden_size",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "encoder_layers",
    "n_window",
    "n_window_infer",
    "num_mel_bins",
    "output_dim",
)
_TEXT = (
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "tie_word_embeddings",
    "vocab_size",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder in the published layout")
    parser.add_argument("exchange", type=Path, help="where clips lie and answers go")
    options = parser.parse_args()

    torch.set_grad_enabled(False)
    model = load(options.checkpoint)
    extractor = Qwen3ASRFeatureExtractor()
    store(model, extractor, options.checkpoint, options.exchange / "hf")
    answer(model, extractor, options.exchange)


def load(folder: Path) -> Any:
    """The published checkpoint as the port's model in float32; every tensor finds its place."""
    config = json.loads((folder / "config.json").read_text())
    model = Qwen3ASRForConditionalGeneration(port_config(config)).float().eval()
    tensors = {port_name(name): tensor for name, tensor in stored(folder).items()}
    outcome = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if outcome.unexpected_keys or set(outcome.missing_keys) - tied:
        raise SystemExit(f"the checkpoint does not fit the port: {outcome}")
    model.tie_weights()
    return model


def port_config(config: dict[str, Any]) -> Qwen3ASRConfig:
    thinker = config["thinker_config"]
    audio, text = thinker["audio_config"], thinker["text_config"]
    rope = {"rope_type": "default", "rope_theta": text["rope_theta"]}
    return Qwen3ASRConfig(
        audio_config={"model_type": "qwen3_asr_encoder"} | {name: audio[name] for name in _AUDIO},
        text_config={"model_type": "qwen3", "rope_parameters": rope}
        | {name: text[name] for name in _TEXT},
        audio_token_id=thinker["audio_token_id"],
        eos_token_id=config["eos_token_id"],
        pad_token_id=config["pad_token_id"],
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def port_name(name: str) -> str:
    name = name.removeprefix("thinker.")
    if name.startswith("lm_head"):
        return name
    name = re.sub(r"^model\.", "language_model.", name)
    name = re.sub(r"^audio_tower\.proj(\d)\.", r"multi_modal_projector.linear_\1.", name)
    return f"model.{name}"


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def store(model: Any, extractor: Any, source: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source)
    model.save_pretrained(folder)
    Qwen3ASRProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)


def answer(model: Any, extractor: Any, exchange: Path) -> None:
    prompts = json.loads((exchange / "prompts.json").read_text())
    arrays: dict[str, Any] = {}
    tokens: dict[str, list[int]] = {}
    with np.load(exchange / "clips.npz") as clips:
        for name in clips.files:
            features = extractor(
                clips[name], sampling_rate=16_000, padding=True, return_attention_mask=True
            )
            mel, mask = features["input_features"], features["attention_mask"]
            arrays[f"mel {name}"] = mel[0, :, : int(mask.sum())].numpy()
            audio = model.get_audio_features(mel, mask, return_dict=True).pooler_output
            arrays[f"audio {name}"] = audio.numpy()
            tokens[name] = generated(model, mel, mask, **prompts[name])
    np.savez(exchange / "answers.npz", **arrays)
    (exchange / "tokens.json").write_text(json.dumps(tokens))


def generated(model: Any, mel: Any, mask: Any, *, token_ids: list[int], limit: int) -> list[int]:
    """Greedy tokens, the end token left out."""
    prompt = torch.tensor([token_ids])
    row: list[int] = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        input_features=mel,
        input_features_mask=mask,
        do_sample=False,
        max_new_tokens=limit,
    )[0, len(token_ids) :].tolist()
    ends = [index for index, token in enumerate(row) if token in model.config.eos_token_id]
    return row[: ends[0]] if ends else row


if __name__ == "__main__":
    main()
