"""Our encoding against an explicit block mask over the same weights, and against the package's."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.encoder import WINDOWS_PER_PASS, audio_token_count, encode_windows
from worker.engine.imports import import_modeling

FRAMES_PER_SECOND = 100
LENGTHS = [0.3, 0.99, 1.0, 7.99, 8.0, 8.01, 12.0, 16.0, 24.5]


@cache
def tower() -> Any:
    """A random encoder of the package: three layers are enough for windows to mix if they could."""
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other
    modeling = import_modeling()
    config = modeling.Qwen3ASRAudioEncoderConfig(
        d_model=64,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=128,
        downsample_hidden_size=8,
        output_dim=32,
        n_window=50,
        n_window_infer=800,
        conv_chunksize=500,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(1)
    module = modeling.Qwen3ASRAudioEncoder(config).eval().requires_grad_(False)
    for parameter in module.parameters():
        # The package's own initialisation is so small that positions drown the audio.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return module


def mel(seconds: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(128, round(seconds * FRAMES_PER_SECOND), generator=generator)


def masked_reference(module: Any, features: Tensor) -> Tensor:
    """The encoder as it was trained, spelled out: each 1 s block padded and convolved by itself,
    one sequence for the clip, an additive mask that closes all but the own 104-token window."""
    tokens = []
    for start in range(0, features.shape[1], 100):
        block = features[:, start : start + 100]
        frames = block.shape[1]
        hidden = functional.pad(block, (0, 100 - frames))[None, None]
        for convolution in (module.conv2d1, module.conv2d2, module.conv2d3):
            hidden = functional.gelu(convolution(hidden))
        _, channels, bins, steps = hidden.shape
        flat = hidden[0].permute(2, 0, 1).reshape(steps, channels * bins)
        embedded = module.conv_out(flat) + module.positional_embedding(steps)
        for _halving in range(3):
            frames = (frames + 1) // 2
        tokens.append(embedded[:frames])
    hidden = torch.cat(tokens)
    window = torch.arange(len(hidden)) // 104
    mask = torch.zeros(len(hidden), len(hidden))
    mask[window[:, None] != window[None, :]] = float("-inf")
    for layer in module.layers:
        lengths = torch.tensor([0, len(hidden)])
        (hidden,) = layer(hidden, lengths, attention_mask=mask[None, None])
    result: Tensor = module.proj2(module.act(module.proj1(module.ln_post(hidden))))
    return result


def as_the_package(module: Any, features: Tensor) -> Tensor:
    frames = torch.tensor([features.shape[1]])
    result: Tensor = module(features, feature_lens=frames).last_hidden_state
    return result


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_clip_is_encoded_as_with_an_explicit_window_mask(seconds: float) -> None:
    (ours,) = encode_windows(tower(), [mel(seconds)])

    torch.testing.assert_close(ours, masked_reference(tower(), mel(seconds)), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("seconds", [0.3, 8.01, 12.0, 16.0, 24.5])
def test_the_package_itself_encodes_these_lengths_otherwise(seconds: float) -> None:
    difference = as_the_package(tower(), mel(seconds)) - masked_reference(tower(), mel(seconds))

    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.99, 8.0])
def test_the_package_agrees_where_one_window_holds_the_clip(seconds: float) -> None:
    (ours,) = encode_windows(tower(), [mel(seconds)])

    torch.testing.assert_close(ours, as_the_package(tower(), mel(seconds)), atol=2e-5, rtol=1e-4)


def test_each_clip_of_a_batch_is_encoded_as_if_alone() -> None:
    clips = [mel(seconds, seed) for seed, seconds in enumerate(LENGTHS)]

    together = encode_windows(tower(), clips)

    for clip, encoded in zip(clips, together, strict=True):
        (alone,) = encode_windows(tower(), [clip])
        torch.testing.assert_close(encoded, alone, atol=2e-5, rtol=1e-4)


def test_a_finished_window_does_not_depend_on_what_follows() -> None:
    clip = mel(24.5)

    (whole,) = encode_windows(tower(), [clip])
    (beginning,) = encode_windows(tower(), [clip[:, :1600]])

    torch.testing.assert_close(whole[:208], beginning, atol=2e-5, rtol=1e-4)


def test_more_windows_than_fit_one_pass_are_encoded_in_several() -> None:
    clip = mel(8.0 * (WINDOWS_PER_PASS + 1) + 3.0)
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    (encoded,) = encode_windows(tower(), [clip], beat)

    assert beats == 2 * len(tower().layers)
    assert len(encoded) == audio_token_count(clip.shape[1])
    torch.testing.assert_close(encoded, masked_reference(tower(), clip), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("frames", "tokens"),
    [(1, 1), (9, 2), (50, 7), (93, 12), (100, 13), (101, 14), (3000, 390), (12000, 1560)],
)
def test_a_second_gives_thirteen_tokens(frames: int, tokens: int) -> None:
    assert audio_token_count(frames) == tokens
