"""The audio encoder, one 8 s window at a time, over the modules of the official package.

The package's own forward attends over the whole clip unless flash-attention runs it (its mask is
written but never used), and pads a lone block below 1 s differently; the model was trained with
windows and padded blocks. Here all windows of all clips form one dense batch instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# 16 windows are 128 s of audio: enough to fill a GPU, and the first convolution of the 1.7B model
# then holds 400 MB in bfloat16 (128 blocks x 480 channels x 64 x 50).
WINDOWS_PER_PASS = 16


def encode_windows(
    tower: Any, clips: Sequence[Tensor], on_step: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Log-mel of each clip (mel_bins, frames) -> its audio tokens (tokens, output_dim).

    tower is the package's Qwen3ASRAudioEncoder; clips are on its device, any float type. on_step is
    called before each layer.
    """
    window_frames = tower.n_window_infer
    windows = [window for clip in clips for window in clip.split(window_frames, dim=1)]
    encoded: list[Tensor] = []
    for start in range(0, len(windows), WINDOWS_PER_PASS):
        encoded += _encode_pass(tower, windows[start : start + WINDOWS_PER_PASS], on_step)
    rest = iter(encoded)
    return [_joined(rest, -(-clip.shape[1] // window_frames)) for clip in clips]


def audio_token_count(frames: int) -> int:
    """Audio tokens of so many log-mel frames: three halvings, rounded up, in each 1 s block."""
    blocks, rest = divmod(frames, 100)
    return 13 * blocks + -(-rest // 8)


def _joined(windows: Iterator[Tensor], count: int) -> Tensor:
    return torch.cat([next(windows) for _ in range(count)])


def _encode_pass(
    tower: Any, windows: Sequence[Tensor], on_step: Callable[[], None]
) -> list[Tensor]:
    """Encodes windows of at most n_window_infer frames together; no window sees another."""
    block_frames = 2 * tower.n_window
    counts = [audio_token_count(window.shape[1]) for window in windows]
    blocks = [_blocks(window, block_frames) for window in windows]
    embedded = _embed_blocks(tower, torch.cat(blocks))  # (blocks, tokens, d_model)
    by_window = [part.flatten(0, 1) for part in embedded.split([len(part) for part in blocks])]
    hidden = torch.nn.utils.rnn.pad_sequence(by_window, batch_first=True)
    hidden = hidden[:, : max(counts)]  # (windows, tokens, d_model)
    mask = _key_mask(counts, hidden.device)
    for layer in tower.layers:
        on_step()
        hidden = _encoder_layer(layer, hidden, mask)
    hidden = tower.proj2(tower.act(tower.proj1(tower.ln_post(hidden))))
    return [window[:count] for window, count in zip(hidden, counts, strict=True)]


def _blocks(window: Tensor, block_frames: int) -> Tensor:
    """(mel_bins, frames) -> (blocks, mel_bins, block_frames), the last block padded with zeros."""
    missing = -window.shape[1] % block_frames
    padded = functional.pad(window, (0, missing))
    return padded.unflatten(1, (-1, block_frames)).transpose(0, 1)


def _embed_blocks(tower: Any, blocks: Tensor) -> Tensor:
    hidden = blocks.to(tower.conv_out.weight.dtype).unsqueeze(1)
    for convolution in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        hidden = functional.gelu(convolution(hidden))  # (blocks, channels, bins, tokens)
    embedded = tower.conv_out(hidden.permute(0, 3, 1, 2).flatten(2))
    positions = tower.positional_embedding.positional_embedding[: embedded.shape[1]]
    return embedded + positions.to(embedded.dtype)


def _key_mask(counts: Sequence[int], device: torch.device) -> Tensor | None:
    """True where a key may be seen (windows, 1, 1, tokens); None when no window is shorter."""
    if min(counts) == max(counts):
        return None
    positions = torch.arange(max(counts), device=device)
    lengths = torch.tensor(counts, device=device)
    return (positions < lengths[:, None])[:, None, None, :]


def _encoder_layer(layer: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    query, key, value = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )  # (windows, heads, tokens, head_dim)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    hidden = hidden + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    widened = layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden)))
    hidden = hidden + layer.fc2(widened)
    if hidden.dtype == torch.float16:  # as the package does: residuals overflow half precision
        limit = torch.finfo(torch.float16).max - 1000
        hidden = hidden.clamp(-limit, limit)
    return hidden
