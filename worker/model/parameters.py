"""The tensors of a model, fused as they are used. Who fills them: worker/engine/weights.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from worker.model.config import ModelConfig


class Affine(NamedTuple):
    """Weight (out, in) and bias (out,) of a linear layer, or scale and shift of a norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One transformer layer of the audio encoder."""

    attention_norm: Affine
    qkv: Affine
    """Query, key and value projections below each other: (3 * width, width)."""
    attention_out: Affine
    ffn_norm: Affine
    ffn_in: Affine
    ffn_out: Affine


@dataclass(frozen=True, slots=True)
class EncoderParameters:
    """The audio encoder and its projector."""

    convolutions: tuple[Affine, Affine, Affine]
    """Weights (channels, in, 3, 3); in is 1 for the first."""
    conv_out: Tensor
    """(width, channels * bins behind the convolutions)."""
    layers: tuple[EncoderLayer, ...]
    final_norm: Affine
    projector_in: Affine
    projector_out: Affine


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer of the text decoder; it has no biases."""

    attention_norm: Tensor
    qkv: Tensor
    """((heads + 2 * kv_heads) * head_width, width)."""
    query_norm: Tensor
    """(head_width,), shared by all heads; key_norm too."""
    key_norm: Tensor
    attention_out: Tensor
    ffn_norm: Tensor
    gate_up: Tensor
    """Gate above up: (2 * ffn_width, width)."""
    down: Tensor


@dataclass(frozen=True, slots=True)
class DecoderParameters:
    """The text decoder."""

    embedding: Tensor
    """(vocabulary, width)."""
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    head: Tensor
    """(vocabulary, width); the embedding itself where the checkpoint ties them."""


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """All tensors of a model, on one device, of one type."""

    config: ModelConfig
    encoder: EncoderParameters
    decoder: DecoderParameters
