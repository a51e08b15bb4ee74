"""Shapes of a Qwen3-ASR model, read from a checkpoint's config.json. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AudioEncoderConfig:
    """The audio encoder and its projector into the text decoder's space."""

    mel_bins: int
    width: int
    """d_model: size of a hidden state."""
    layers: int
    heads: int
    ffn_width: int
    conv_channels: int
    output_width: int
    """Size of an audio token: the text decoder's width."""
    block_frames: int = 100
    """Mel frames of a conv block (1 s): positions restart in each."""
    window_frames: int = 800
    """Mel frames that attend to each other (8 s)."""

    @property
    def block_tokens(self) -> int:
        """Audio tokens of a whole conv block: three halvings, each rounded up."""
        return halved_thrice(self.block_frames)

    @property
    def window_tokens(self) -> int:
        """Audio tokens of a whole window."""
        return self.window_frames // self.block_frames * self.block_tokens

    def audio_tokens(self, frames: int) -> int:
        """Audio tokens of so many mel frames."""
        blocks, rest = divmod(frames, self.block_frames)
        return blocks * self.block_tokens + halved_thrice(rest)


@dataclass(frozen=True, slots=True)
class TextDecoderConfig:
    """The Qwen3 text decoder; its multimodal rotary positions are all equal, so plain ones do."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    vocabulary: int
    is_tied: bool
    """Whether the embedding is also the output head."""
    norm_epsilon: float = 1e-6
    rope_theta: float = 1_000_000.0
    max_positions: int = 65_536

    @property
    def kv_values_per_token(self) -> int:
        """Numbers a token takes in the KV cache, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_width


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A whole model."""

    audio: AudioEncoderConfig
    text: TextDecoderConfig


def halved_thrice(frames: int) -> int:
    """Length of so many frames behind three convolutions of stride 2 with padding 1."""
    return -(-frames // 8)


class UnsupportedConfig(ValueError):
    """A config.json of a model this code cannot run; the message says why, for the operator."""


def is_hf_layout(config: Mapping[str, Any]) -> bool:
    """Whether config.json is of transformers 5's own port, not of the published checkpoints."""
    return "thinker_config" not in config


def read_model_config(config: Mapping[str, Any]) -> ModelConfig:
    """Reads a config.json of either layout. Raises UnsupportedConfig."""
    whole = _Section(config)
    parts = whole if is_hf_layout(config) else whole.section("thinker_config")
    audio, text = parts.section("audio_config"), parts.section("text_config")
    model = ModelConfig(_read_audio(audio), _read_text(text, is_tied=_is_tied(whole, text)))
    if model.audio.output_width != model.text.width:
        raise UnsupportedConfig(
            f"audio tokens have {model.audio.output_width} values (audio_config.output_dim), the"
            f" text decoder takes {model.text.width} (text_config.hidden_size)"
        )
    return model


def _read_audio(section: _Section) -> AudioEncoderConfig:
    section.require("activation_function", "gelu")
    # The package's own count of audio tokens is fixed to blocks of 100 frames and 13 tokens.
    section.require("n_window", _BLOCK_FRAMES // 2)
    config = AudioEncoderConfig(
        mel_bins=section.size("num_mel_bins"),
        width=section.size("d_model"),
        layers=section.size("encoder_layers"),
        heads=section.size("encoder_attention_heads"),
        ffn_width=section.size("encoder_ffn_dim"),
        conv_channels=section.size("downsample_hidden_size"),
        output_width=section.size("output_dim"),
        block_frames=_BLOCK_FRAMES,
        window_frames=section.size("n_window_infer"),
    )
    section.require_multiple("d_model", "encoder_attention_heads", of=config.heads)
    if config.width < 4 or config.width % 2:
        raise section.unsupported("d_model", "an even number from 4")
    if config.window_frames % config.block_frames:
        raise section.unsupported("n_window_infer", "a multiple of 2 * n_window")
    return config


def _read_text(section: _Section, *, is_tied: bool) -> TextDecoderConfig:
    section.require("hidden_act", "silu")
    section.require("attention_bias", False)
    section.require("use_sliding_window", False)
    config = TextDecoderConfig(
        width=section.size("hidden_size"),
        layers=section.size("num_hidden_layers"),
        heads=section.size("num_attention_heads"),
        kv_heads=section.size("num_key_value_heads"),
        head_width=section.size("head_dim"),
        ffn_width=section.size("intermediate_size"),
        vocabulary=section.size("vocab_size"),
        is_tied=is_tied,
        norm_epsilon=section.positive("rms_norm_eps"),
        rope_theta=_rope_theta(section),
        max_positions=section.size("max_position_embeddings", default=_MAX_POSITIONS),
    )
    section.require_multiple("num_attention_heads", "num_key_value_heads", of=config.kv_heads)
    if config.head_width % 2:
        raise section.unsupported("head_dim", "an even number")
    return config


def _rope_theta(section: _Section) -> float:
    """transformers 5 holds all of the rotary embedding in rope_parameters, 4 in two places."""
    rope = section
    for name in ("rope_scaling", "rope_parameters"):
        if section.values.get(name) is None:
            continue
        scaling = section.section(name)
        scaling.require("rope_type", "default")
        scaling.require("type", "default")
        scaling.require("partial_rotary_factor", 1)
        if "rope_theta" in scaling.values:
            rope = scaling
    return rope.positive("rope_theta")


def _is_tied(whole: _Section, text: _Section) -> bool:
    """As the packages do: the published layout has it in the text part, the port at the top."""
    if is_hf_layout(whole.values):
        return whole.flag("tie_word_embeddings", default=True)
    return text.flag("tie_word_embeddings", default=False)


_BLOCK_FRAMES = 100
_MAX_POSITIONS = 65_536


@dataclass(frozen=True, slots=True)
class _Section:
    """An object within config.json that knows its place in it, for messages."""

    values: Mapping[str, Any]
    path: str = ""

    def section(self, name: str) -> _Section:
        value = self.values.get(name)
        if not isinstance(value, Mapping):
            raise self.unsupported(name, "an object")
        return _Section(value, f"{self.path}{name}.")

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.unsupported(name, "a whole number above 0")
        return value

    def positive(self, name: str) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.unsupported(name, "a number above 0")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.unsupported(name, "true or false")
        return value

    def require(self, name: str, only: str | int | bool) -> None:
        """Refuses another value; a checkpoint need not name it."""
        if self.values.get(name, only) != only:
            raise self.unsupported(name, str(only).lower())

    def require_multiple(self, name: str, of_name: str, *, of: int) -> None:
        if self.size(name) % of:
            raise self.unsupported(name, f"a multiple of {of_name}, {of}")

    def unsupported(self, name: str, wanted: str) -> UnsupportedConfig:
        if name not in self.values:
            return UnsupportedConfig(f"config.json names no {self.path}{name}")
        value = str(self.values[name])[:40]
        return UnsupportedConfig(f"{self.path}{name} is {value}, but must be {wanted}")
