"""Shapes of a Qwen3-ASR model, read from a checkpoint's config.json. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass


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
