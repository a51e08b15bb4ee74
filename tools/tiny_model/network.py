"""The reference network's forward pass for whole training batches, through its own modules.

The encoder's attention is cut into windows of 8 s, as the architecture defines it and as its
flash-attention, vLLM and later implementations compute it; the package's own CPU path is not.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from tools.tiny_model.corpus import SAMPLE_RATE, Samples

BLOCK_FRAMES = 100
BLOCK_TOKENS = 13
WINDOW_BLOCKS = 8


@functools.cache
def _mel_filters() -> Tensor:
    filters = mel_filter_bank(201, 128, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters).float().T.contiguous()  # (128, 201)


def log_mel(clips: list[Samples], seconds: int) -> tuple[Tensor, Tensor]:
    """Clips of at most ``seconds`` -> features (clips, 128, 100 * seconds) and frame counts.

    The arithmetic of transformers' WhisperFeatureExtractor on a batch padded to that length.
    """
    padded = torch.zeros(len(clips), seconds * SAMPLE_RATE)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    spectrum = torch.stft(padded, 400, 160, window=torch.hann_window(400), return_complex=True)
    power = _mel_filters() @ spectrum[..., :-1].abs() ** 2
    logarithm = power.clamp(min=1e-10).log10()
    loudest = logarithm.amax(dim=(1, 2), keepdim=True)
    features = (torch.maximum(logarithm, loudest - 8.0) + 4.0) / 4.0
    frames = torch.tensor([-(-len(clip) // 160) for clip in clips])
    return features, frames


def audio_tokens(frames: Tensor) -> Tensor:
    """Mel frames -> tokens the encoder makes of them: 13 a second, 1 for each 8 frames begun."""
    full, rest = frames // BLOCK_FRAMES, frames % BLOCK_FRAMES
    return full * BLOCK_TOKENS + (rest + 7) // 8


def encode(encoder: nn.Module, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """(clips, 128, 100 * blocks) -> tokens (clips, 13 * blocks, width) and valid tokens (clips,).

    Invalid tokens of a clip follow its valid ones and mean nothing.
    """
    clips, mels, length = features.shape
    blocks = length // BLOCK_FRAMES
    is_valid = torch.arange(length)[None] < frames[:, None]
    features = features * is_valid[:, None]
    split = features.view(clips, mels, blocks, BLOCK_FRAMES).transpose(1, 2)
    hidden = _convolve(encoder, split.reshape(clips * blocks, 1, mels, BLOCK_FRAMES))

    window_blocks = min(blocks, WINDOW_BLOCKS)
    windows = -(-blocks // window_blocks)
    size = window_blocks * BLOCK_TOKENS
    hidden = hidden.reshape(clips, blocks * BLOCK_TOKENS, -1)
    hidden = F.pad(hidden, (0, 0, 0, windows * size - hidden.shape[1]))
    tokens = audio_tokens(frames)
    mask = torch.arange(windows * size)[None] < tokens[:, None]
    hidden = hidden.reshape(clips * windows, size, -1)
    hidden = _attend(encoder, hidden, mask.view(clips * windows, 1, 1, size))
    hidden = encoder.proj2(encoder.act(encoder.proj1(encoder.ln_post(hidden))))
    return hidden.reshape(clips, windows * size, -1)[:, : blocks * BLOCK_TOKENS], tokens


def _convolve(encoder: nn.Module, blocks: Tensor) -> Tensor:
    """(blocks, 1, 128, 100) -> (blocks, 13, width), positions added."""
    hidden = blocks.contiguous(memory_format=torch.channels_last)
    for convolution in (encoder.conv2d1, encoder.conv2d2, encoder.conv2d3):
        hidden = F.gelu(convolution(hidden))
    hidden = encoder.conv_out(hidden.permute(0, 3, 1, 2).flatten(2))
    positions = encoder.positional_embedding.positional_embedding[: hidden.shape[1]]
    return hidden + positions.to(hidden.dtype)


def _attend(encoder: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    """The transformer layers; (windows, tokens, width), attention within a window only."""
    windows, size, _ = hidden.shape
    for layer in encoder.layers:
        attention = layer.self_attn
        normed = layer.self_attn_layer_norm(hidden)
        query, key, value = (
            project(normed).view(windows, size, attention.num_heads, -1).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        # By hand: torch's fused CPU attention is slow backwards at these sizes.
        scores = query @ key.transpose(2, 3) * attention.scaling
        weights = scores.float().masked_fill(~mask, -1e4).softmax(-1).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).reshape(windows, size, -1)
        hidden = hidden + attention.out_proj(mixed)
        normed = layer.final_layer_norm(hidden)
        hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(normed)))
    return hidden


def read(
    thinker: nn.Module,
    audio: Tensor,
    tokens: Tensor,
    before_audio: list[list[int]],
    after_audio: list[list[int]],
) -> Tensor:
    """Decoder states (clips, length, width) of before | audio | after, padded right."""
    embed = thinker.model.embed_tokens
    rows = [
        torch.cat(
            [
                embed(torch.tensor(before)).to(audio.dtype),
                clip[:count],
                embed(torch.tensor(after)).to(audio.dtype),
            ]
        )
        for clip, count, before, after in zip(
            audio, tokens.tolist(), before_audio, after_audio, strict=True
        )
    ]
    sequences = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    # Lengths in steps of 32, so that few kernels are compiled.
    sequences = F.pad(sequences, (0, 0, 0, -sequences.shape[1] % 32))
    thinker.model.config._attn_implementation = "eager"
    return thinker.model(inputs_embeds=sequences, use_cache=False).last_hidden_state
