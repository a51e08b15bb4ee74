"""When two channels count as one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.audio.channels import DECIDED_AFTER_SAMPLES, ChannelChoice, are_same_sound

Samples = NDArray[np.float32]
BLOCK = 80_000


def noise(samples: int, seed: int, level: float = 0.1) -> Samples:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def chosen(samples: Samples) -> list[Samples]:
    choice = ChannelChoice()
    blocks = [samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK)]
    return [out for block in blocks for out in choice.push(block)] + choice.finish()


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_a_copy_counts_as_the_same_sound_at_any_gain_and_offset(gain: float) -> None:
    left = noise(BLOCK, 1)
    hiss = noise(BLOCK, 2, level=0.01 * gain)

    assert are_same_sound(np.stack([left, gain * left + hiss + np.float32(0.2)], axis=1))


@pytest.mark.parametrize(
    "right",
    [
        noise(BLOCK, 2),
        np.zeros(BLOCK, np.float32),
        0.3 * noise(BLOCK, 1) + noise(BLOCK, 2),
        -noise(BLOCK, 1),
    ],
    ids=["another voice", "nobody", "the echo of the other side", "a copy that would cancel out"],
)
def test_what_mixing_would_lose_counts_as_different(right: Samples) -> None:
    assert not are_same_sound(np.stack([noise(BLOCK, 1), right], axis=1).astype(np.float32))


def test_equal_channels_become_one() -> None:
    left = noise(7 * BLOCK, 1)

    assert np.array_equal(np.concatenate(chosen(np.stack([left, left], axis=1))), left)


def test_different_channels_stay_apart_also_in_a_short_recording() -> None:
    for samples in (BLOCK // 2, 7 * BLOCK):
        both = np.stack([noise(samples, 1), noise(samples, 2)], axis=1)

        assert np.array_equal(np.concatenate(chosen(both)), both)


def test_the_first_half_minute_decides_for_the_whole() -> None:
    beginning = noise(DECIDED_AFTER_SAMPLES, 1)
    rest = np.stack([noise(BLOCK, 2), noise(BLOCK, 3)], axis=1)

    blocks = chosen(np.concatenate([np.stack([beginning, beginning], axis=1), rest]))

    assert {block.ndim for block in blocks} == {1}


def test_after_half_a_minute_of_silence_channels_stay_apart() -> None:
    silence = np.zeros((DECIDED_AFTER_SAMPLES, 2), np.float32)

    assert {block.ndim for block in chosen(silence)} == {2}


def test_nothing_gives_nothing() -> None:
    assert chosen(np.zeros((0, 2), np.float32)) == []
