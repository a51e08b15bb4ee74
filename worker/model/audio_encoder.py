"""The audio encoder: log-mel windows of any clips in, audio tokens of the text decoder's width out.

A window is at most 8 s long and attends to nothing but itself, so windows of all clips form one
dense batch. Convolutions and positions know only their own 1 s block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from worker.model.config import AudioEncoderConfig
from worker.model.parameters import Affine, EncoderLayer, EncoderParameters

_NORM_EPSILON = 1e-5
_LONGEST_WAVELENGTH = 10_000

# A lone window's weights are read at the cost of computing 15 to 20 tokens more (0.6B on a CPU), so
# windows are padded to a longer one's length where no more than that is wasted on each.
_MOST_PADDING = 16

# What the first convolution may put out at once. On a CPU larger tensors come as fresh pages of the
# system each time: with 16 MB the three convolutions take 340 ms for 16 blocks of the 0.6B shape on
# one thread, with 49 MB 480 ms. On a GPU it only bounds memory (16 windows of 0.6B in bfloat16).
_CPU_CONVOLVED_BYTES = 16 * 2**20
_GPU_CONVOLVED_BYTES = 400 * 2**20


class AudioEncoder:
    """Weights and shapes of one encoder."""

    def __init__(self, parameters: EncoderParameters, config: AudioEncoderConfig) -> None:
        self._parameters = parameters
        self._config = config
        weight = parameters.conv_out
        self._device, self._dtype = weight.device, weight.dtype
        self._convolutions = [_channels_last(affine) for affine in parameters.convolutions]
        self._positions = _sinusoids(config.block_tokens, config.width).to(weight)
        self._blocks_at_once = _blocks_at_once(config, weight)

    def __repr__(self) -> str:
        config = self._config
        return f"<AudioEncoder {config.layers} layers of {config.width} on {self._device}>"

    def encode(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """Windows (mel_bins, 1 to window_frames frames) -> audio tokens of each, in order
        (audio_tokens(frames), output_width)."""
        encoded: dict[int, Tensor] = {}
        for group in similar_lengths([self._tokens(window) for window in windows]):
            members = [windows[index] for index in group]
            encoded |= zip(group, self._encode_together(members), strict=True)
        return [encoded[index] for index in range(len(windows))]

    def pack(self, windows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What forward() takes, on the device: windows padded with zeros to the whole conv blocks
        of the longest, and the audio tokens of each."""
        blocks = -(-max(window.shape[1] for window in windows) // self._config.block_frames)
        shape = (len(windows), self._config.mel_bins, blocks * self._config.block_frames)
        mel = torch.zeros(shape, dtype=self._dtype, device=self._device)
        for row, window in zip(mel, windows, strict=True):
            row[:, : window.shape[1]] = window
        counts = torch.tensor([self._tokens(window) for window in windows], dtype=torch.int32)
        if self._device.type == "cuda":
            counts = counts.pin_memory()
        return mel, counts.to(self._device, non_blocking=True)

    def forward(self, mel: Tensor, counts: Tensor) -> Tensor:
        """Packed windows (windows, mel_bins, whole blocks) and their audio tokens (windows,) int32
        -> (windows, tokens of so many blocks, output_width); what lies behind a count is noise.

        Fit for a CUDA graph: asks the host for nothing. A window that pads the batch counts 0.
        """
        hidden = self._embed(mel)
        return self._project(self._transform(hidden, _key_mask(counts, hidden.shape[1])))

    def _tokens(self, window: Tensor) -> int:
        return self._config.audio_tokens(window.shape[1])

    def _encode_together(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """As pack() and forward(), but without the longest window's padding, and without a mask
        where all are equally long."""
        tokens = [self._tokens(window) for window in windows]
        mel, counts = self.pack(windows)
        hidden = self._embed(mel)[:, : max(tokens)]
        mask = None if min(tokens) == max(tokens) else _key_mask(counts, max(tokens))
        projected = self._project(self._transform(hidden, mask))
        return [window[:count] for window, count in zip(projected, tokens, strict=True)]

    def _embed(self, mel: Tensor) -> Tensor:
        """(windows, mel_bins, whole blocks) -> (windows, tokens, width)."""
        by_block = mel.to(self._dtype).unflatten(2, (-1, self._config.block_frames))
        blocks = by_block.transpose(1, 2).flatten(0, 1)[:, None]  # (blocks, 1, mel_bins, frames)
        columns = torch.cat([self._convolve(some) for some in blocks.split(self._blocks_at_once)])
        embedded = functional.linear(columns, self._parameters.conv_out) + self._positions
        return embedded.unflatten(0, (len(mel), -1)).flatten(1, 2)

    def _convolve(self, blocks: Tensor) -> Tensor:
        """(blocks, 1, mel_bins, block_frames) -> (blocks, block_tokens, channels * bins)."""
        hidden = blocks
        for weight, bias in self._convolutions:
            hidden = functional.gelu(functional.conv2d(hidden, weight, bias, stride=2, padding=1))
        return hidden.permute(0, 3, 1, 2).flatten(2)

    def _transform(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self._parameters.layers:
            hidden = self._layer(layer, hidden, mask)
        return _norm(hidden, self._parameters.final_norm)

    def _layer(self, layer: EncoderLayer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        qkv = functional.linear(_norm(hidden, layer.attention_norm), *layer.qkv)
        by_head = qkv.unflatten(-1, (3, self._config.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = by_head.unbind(0)  # (windows, heads, tokens, head_width)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = hidden + functional.linear(mixed.transpose(1, 2).flatten(2), *layer.attention_out)
        widened = functional.linear(_norm(hidden, layer.ffn_norm), *layer.ffn_in)
        hidden = hidden + functional.linear(functional.gelu(widened), *layer.ffn_out)
        if hidden.dtype == torch.float16:  # as the package does: residuals overflow half precision
            limit = torch.finfo(torch.float16).max - 1000
            hidden = hidden.clamp(-limit, limit)
        return hidden

    def _project(self, hidden: Tensor) -> Tensor:
        widened = functional.gelu(functional.linear(hidden, *self._parameters.projector_in))
        return functional.linear(widened, *self._parameters.projector_out)


def similar_lengths(tokens: Sequence[int]) -> list[list[int]]:
    """Groups of indices in which none is shorter than the longest by more than _MOST_PADDING."""
    groups: list[list[int]] = []
    for index in sorted(range(len(tokens)), key=tokens.__getitem__, reverse=True):
        if groups and tokens[groups[-1][0]] - tokens[index] <= _MOST_PADDING:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _channels_last(convolution: Affine) -> Affine:
    """The layout in which both CPUs and tensor cores convolve without reordering."""
    weight, bias = convolution
    return Affine(weight.contiguous(memory_format=torch.channels_last), bias)


def _blocks_at_once(config: AudioEncoderConfig, weight: Tensor) -> int:
    most = _GPU_CONVOLVED_BYTES if weight.is_cuda else _CPU_CONVOLVED_BYTES
    values = config.conv_channels * (config.mel_bins // 2) * (config.block_frames // 2)
    block_bytes: int = values * weight.itemsize
    return max(1, most // block_bytes)


def _norm(hidden: Tensor, affine: Affine) -> Tensor:
    return functional.layer_norm(hidden, hidden.shape[-1:], *affine, eps=_NORM_EPSILON)


def _key_mask(counts: Tensor, tokens: int) -> Tensor:
    """True where a key may be seen (windows, 1, 1, tokens); nowhere gives NaN in some kernels."""
    positions = torch.arange(tokens, dtype=torch.int32, device=counts.device)
    return (positions < counts.clamp(min=1)[:, None])[:, None, None, :]


def _sinusoids(length: int, width: int) -> Tensor:
    """(length, width) float32: sines, then cosines, of wavelengths in geometric progression."""
    step = math.log(_LONGEST_WAVELENGTH) / (width // 2 - 1)
    rates = torch.exp(-step * torch.arange(width // 2, dtype=torch.float32))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)
