"""What batches are thought to cost before the first has run: arithmetic over a device's speed.

Too low a guess would let the first batch of a large model on a slow machine run for minutes, in
which no mail is read; so guesses are on the high side, and the first batches correct them.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig
from worker.step_costs import LinearCost, StepCosts


@dataclass(frozen=True, slots=True)
class DeviceSpeed:
    """What a device of a kind does at least, of what its data sheet names."""

    operations_per_second: float
    bytes_per_second: float
    launch_seconds: float
    """Fixed cost of a batch."""


# A quarter of a current laptop core's float32, and of one memory channel.
A_CPU_CORE = DeviceSpeed(15e9, 5e9, 0.001)
# Half of a T4, the smallest card with tensor cores: 65 TFLOP/s in float16, 320 GB/s.
A_GPU = DeviceSpeed(30e12, 160e9, 0.003)


def prior_costs(config: ModelConfig, parameter_bytes: int, speed: DeviceSpeed) -> StepCosts:
    """Step costs of a model whose weights take so many bytes."""

    def each(operations: float) -> float:
        return operations / speed.operations_per_second

    token = each(2 * decoder_weights(config.text))
    return StepCosts(
        encode=LinearCost(speed.launch_seconds, each(window_operations(config.audio))),
        extend=LinearCost(speed.launch_seconds, token),
        # A step reads every weight once; what a row adds is small beside it.
        decode=LinearCost(speed.launch_seconds + parameter_bytes / speed.bytes_per_second, token),
    )


def window_operations(audio: AudioEncoderConfig) -> int:
    """Multiplications and additions for one encoder window."""
    blocks = audio.window_frames // audio.block_frames
    channels, kernel = audio.conv_channels, 9
    inputs, bins, frames = 1, audio.mel_bins, audio.block_frames
    convolutions = 0
    for _ in range(3):
        bins, frames = -(-bins // 2), -(-frames // 2)
        convolutions += blocks * bins * frames * channels * inputs * kernel
        inputs = channels
    layer = 4 * audio.width**2 + 2 * audio.width * audio.ffn_width
    attention = 2 * audio.window_tokens * audio.width
    a_token = audio.layers * (layer + attention) + channels * bins * audio.width
    return 2 * (convolutions + audio.window_tokens * a_token)


def decoder_weights(text: TextDecoderConfig) -> int:
    """Numbers of the decoder's layers, which every token meets once."""
    heads = 2 * text.heads + 2 * text.kv_heads
    return text.layers * text.width * (heads * text.head_width + 3 * text.ffn_width)
