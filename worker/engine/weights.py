"""Fills a model's fused tensors from safetensors, straight onto the device, one tensor at a time.

Files are mapped into memory and nothing is unpickled, so no second copy of the weights is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from worker.engine.checkpoints import Checkpoint, weights_damaged
from worker.engine.interface import EngineFailure, LoadProgress, ReportProgress
from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig, halved_thrice
from worker.model.parameters import (
    Affine,
    DecoderLayer,
    DecoderParameters,
    EncoderLayer,
    EncoderParameters,
    ModelParameters,
)

logger = logging.getLogger(__name__)

_PLAIN_TYPES = (torch.bfloat16, torch.float16, torch.float32)


def load_parameters(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    report: ReportProgress,
) -> ModelParameters:
    """Reads a checkpoint of either layout.

    Raises EngineFailure (model_corrupt, unsupported_model) and torch.OutOfMemoryError.
    """
    parameters = _empty_parameters(config, device, dtype)
    names = _HF_NAMES if checkpoint.is_hf_layout else _PUBLISHED_NAMES
    places = dict(_places(parameters, names))
    ignored = {names.head} if config.text.is_tied else set()
    _fill(places, ignored, checkpoint.weight_files, report)
    return parameters


def random_parameters(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> ModelParameters:
    """A model without training, for benchmarks and tests: finite, and its scores hang on all input.

    On one device a seed gives the same numbers in each type, but for their rounding.
    """
    parameters = _empty_parameters(config, device, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for name, place in _places(parameters, _PUBLISHED_NAMES):
        drawn = torch.randn(place.shape, generator=generator, device=device)
        place.copy_(_scaled(name, drawn))
    return parameters


def parameter_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """What the weights take on the device, tied embeddings once; nothing is allocated."""
    parameters = _empty_parameters(config, torch.device("meta"), dtype)
    return sum(place.nbytes for _, place in _places(parameters, _PUBLISHED_NAMES))


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a layout keeps its parts."""

    audio: str
    projector_in: str
    projector_out: str
    text: str
    head: str


_PUBLISHED_NAMES = _Names(
    audio="thinker.audio_tower",
    projector_in="thinker.audio_tower.proj1",
    projector_out="thinker.audio_tower.proj2",
    text="thinker.model",
    head="thinker.lm_head.weight",
)
_HF_NAMES = _Names(
    audio="model.audio_tower",
    projector_in="model.multi_modal_projector.linear_1",
    projector_out="model.multi_modal_projector.linear_2",
    text="model.language_model",
    head="lm_head.weight",
)


def _empty_parameters(
    config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> ModelParameters:
    allocate = _Allocator(device, dtype)
    return ModelParameters(
        config, _empty_encoder(config.audio, allocate), _empty_decoder(config.text, allocate)
    )


@dataclass(frozen=True, slots=True)
class _Allocator:
    device: torch.device
    dtype: torch.dtype

    def tensor(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device, dtype=self.dtype)

    def linear(self, rows: int, columns: int) -> Affine:
        return Affine(self.tensor(rows, columns), self.tensor(rows))

    def norm(self, width: int) -> Affine:
        return Affine(self.tensor(width), self.tensor(width))

    def convolution(self, channels: int, inputs: int) -> Affine:
        return Affine(self.tensor(channels, inputs, 3, 3), self.tensor(channels))


def _empty_encoder(config: AudioEncoderConfig, allocate: _Allocator) -> EncoderParameters:
    width, channels = config.width, config.conv_channels
    return EncoderParameters(
        convolutions=(
            allocate.convolution(channels, 1),
            allocate.convolution(channels, channels),
            allocate.convolution(channels, channels),
        ),
        conv_out=allocate.tensor(width, channels * halved_thrice(config.mel_bins)),
        layers=tuple(
            EncoderLayer(
                attention_norm=allocate.norm(width),
                qkv=allocate.linear(3 * width, width),
                attention_out=allocate.linear(width, width),
                ffn_norm=allocate.norm(width),
                ffn_in=allocate.linear(config.ffn_width, width),
                ffn_out=allocate.linear(width, config.ffn_width),
            )
            for _ in range(config.layers)
        ),
        final_norm=allocate.norm(width),
        projector_in=allocate.linear(width, width),
        projector_out=allocate.linear(config.output_width, width),
    )


def _empty_decoder(config: TextDecoderConfig, allocate: _Allocator) -> DecoderParameters:
    width, head_width = config.width, config.head_width
    embedding = allocate.tensor(config.vocabulary, width)
    return DecoderParameters(
        embedding=embedding,
        layers=tuple(
            DecoderLayer(
                attention_norm=allocate.tensor(width),
                qkv=allocate.tensor((config.heads + 2 * config.kv_heads) * head_width, width),
                query_norm=allocate.tensor(head_width),
                key_norm=allocate.tensor(head_width),
                attention_out=allocate.tensor(width, config.heads * head_width),
                ffn_norm=allocate.tensor(width),
                gate_up=allocate.tensor(2 * config.ffn_width, width),
                down=allocate.tensor(width, config.ffn_width),
            )
            for _ in range(config.layers)
        ),
        final_norm=allocate.tensor(width),
        head=embedding if config.is_tied else allocate.tensor(config.vocabulary, width),
    )


def _places(parameters: ModelParameters, names: _Names) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a checkpoint and the part of a fused tensor that it fills."""
    yield from _encoder_places(parameters.encoder, names)
    yield from _decoder_places(parameters.decoder, parameters.config.text, names)


def _encoder_places(encoder: EncoderParameters, names: _Names) -> Iterator[tuple[str, Tensor]]:
    for number, convolution in enumerate(encoder.convolutions, start=1):
        yield from _affine(f"{names.audio}.conv2d{number}", convolution)
    yield f"{names.audio}.conv_out.weight", encoder.conv_out
    for index, layer in enumerate(encoder.layers):
        name = f"{names.audio}.layers.{index}"
        yield from _affine(f"{name}.self_attn_layer_norm", layer.attention_norm)
        weights, biases = layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            yield from _affine(f"{name}.self_attn.{part}_proj", Affine(weight, bias))
        yield from _affine(f"{name}.self_attn.out_proj", layer.attention_out)
        yield from _affine(f"{name}.final_layer_norm", layer.ffn_norm)
        yield from _affine(f"{name}.fc1", layer.ffn_in)
        yield from _affine(f"{name}.fc2", layer.ffn_out)
    yield from _affine(f"{names.audio}.ln_post", encoder.final_norm)
    yield from _affine(names.projector_in, encoder.projector_in)
    yield from _affine(names.projector_out, encoder.projector_out)


def _affine(name: str, affine: Affine) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", affine.weight
    yield f"{name}.bias", affine.bias


def _decoder_places(
    decoder: DecoderParameters, config: TextDecoderConfig, names: _Names
) -> Iterator[tuple[str, Tensor]]:
    yield f"{names.text}.embed_tokens.weight", decoder.embedding
    qkv_rows = [heads * config.head_width for heads in (config.heads, *[config.kv_heads] * 2)]
    for index, layer in enumerate(decoder.layers):
        name = f"{names.text}.layers.{index}"
        yield f"{name}.input_layernorm.weight", layer.attention_norm
        for part, weight in zip("qkv", layer.qkv.split(qkv_rows), strict=True):
            yield f"{name}.self_attn.{part}_proj.weight", weight
        yield f"{name}.self_attn.q_norm.weight", layer.query_norm
        yield f"{name}.self_attn.k_norm.weight", layer.key_norm
        yield f"{name}.self_attn.o_proj.weight", layer.attention_out
        yield f"{name}.post_attention_layernorm.weight", layer.ffn_norm
        gate, up = layer.gate_up.chunk(2)
        yield f"{name}.mlp.gate_proj.weight", gate
        yield f"{name}.mlp.up_proj.weight", up
        yield f"{name}.mlp.down_proj.weight", layer.down
    yield f"{names.text}.norm.weight", decoder.final_norm
    if not config.is_tied:
        yield names.head, decoder.head


def _fill(
    places: Mapping[str, Tensor],
    ignored: set[str],
    files: Sequence[Path],
    report: ReportProgress,
) -> None:
    total_bytes = sum(file.stat().st_size for file in files)
    done_bytes = 0
    found: set[str] = set()
    report(LoadProgress("weights", done_bytes, total_bytes))
    for name, tensor in _tensors(files):
        found.add(name)
        if name in places:
            _copy(name, tensor, places[name])
        done_bytes += tensor.nbytes
        report(LoadProgress("weights", done_bytes, total_bytes))
    _warn_of_unknown(sorted(found - places.keys() - ignored))
    _require_all([name for name in places if name not in found])
    report(LoadProgress("weights", total_bytes, total_bytes))


def _tensors(files: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            logger.error("weights could not be read: %s", error)
            raise weights_damaged() from error


def _copy(name: str, tensor: Tensor, place: Tensor) -> None:
    if tensor.dtype not in _PLAIN_TYPES:
        logger.error("a tensor is of a type not read, name=%s type=%s", name, tensor.dtype)
        raise EngineFailure(
            "unsupported_model",
            "The checkpoint's weights are quantised. Set MODEL_ID to one with bfloat16, float16"
            " or float32 weights, for example Qwen/Qwen3-ASR-1.7B.",
        )
    if tensor.shape != place.shape:
        logger.error(
            "a tensor of the checkpoint has the wrong shape, name=%s shape=%s expected=%s",
            name,
            tuple(tensor.shape),
            tuple(place.shape),
        )
        raise weights_damaged()
    place.copy_(tensor)


def _warn_of_unknown(names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "the checkpoint holds %d tensors the model has no place for, first=%s",
            len(names),
            names[0],
        )


def _require_all(missing: Sequence[str]) -> None:
    if missing:
        logger.error("the checkpoint lacks %d tensors, first=%s", len(missing), missing[0])
        raise weights_damaged()


# Gains above 1 let attention choose instead of averaging, and speech outweigh what the activations
# add to any input; without them all inputs give a deep random model the same token.
_GAINS = {
    "conv2d1.weight": 2.0,
    "conv2d2.weight": 2.0,
    "conv2d3.weight": 2.0,
    "q_proj.weight": 3.0,
    "k_proj.weight": 3.0,
    "v_proj.weight": 3.0,
    "o_proj.weight": 3.0,
    "out_proj.weight": 3.0,
    "q_norm.weight": 3.0,
    "k_norm.weight": 3.0,
}


def _scaled(name: str, drawn: Tensor) -> Tensor:
    """Standard normal values as weights: matrices keep the size of what passes through them."""
    gain = _GAINS.get(".".join(name.split(".")[-2:]), 1.0)
    if drawn.dim() > 1:
        return drawn * (gain * drawn[0].numel() ** -0.5)
    if name.endswith(".bias"):
        return drawn * 0.1
    return gain * (1 + drawn * 0.1)
