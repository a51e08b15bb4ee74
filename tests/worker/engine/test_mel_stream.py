"""Features of a growing recording against those of all of it."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.worker.engine.test_mel import CPU, PREPROCESSOR, noise
from worker.engine.limits import LEAST_SAMPLES
from worker.engine.mel import LogMel, frame_count
from worker.engine.mel_stream import MelStream

WINDOW_FRAMES = 800
LOG_MEL = LogMel(PREPROCESSOR, CPU)

Samples = npt.NDArray[np.float32]


class CountingMel(LogMel):
    def __init__(self) -> None:
        super().__init__(PREPROCESSOR, CPU)
        self.frames = 0

    def levels(self, samples: Tensor, first: int = 0) -> Tensor:
        found = super().levels(samples, first)
        self.frames += len(found)
        return found


def whole(samples: Samples) -> Tensor:
    padded = np.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))
    return LOG_MEL(torch.from_numpy(padded))


def all_features(stream: MelStream) -> Tensor:
    return torch.cat([stream.features(index) for index in range(stream.windows)], dim=1)


def assert_as_the_whole(stream: MelStream, samples: Samples) -> None:
    stream.extend(torch.from_numpy(samples))
    expected = whole(samples)
    found = all_features(stream)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_however_samples_come_features_are_those_of_the_whole(seed: int) -> None:
    generator = np.random.default_rng(seed)
    loudness = generator.choice([1e-4, 0.01, 1.0], 12).repeat(32_000).astype(np.float32)
    samples = noise(len(loudness), seed) * loudness
    stream = MelStream(LOG_MEL, WINDOW_FRAMES)
    end = 0
    while end < len(samples):
        end += int(generator.choice([0, 1, 39, 40, 41, 160, 161, 3_000, 20_000, 70_000]))
        assert_as_the_whole(stream, samples[:end])


def test_around_the_ends_of_frames_and_windows_too() -> None:
    samples = noise(129_000)
    stream = MelStream(LOG_MEL, WINDOW_FRAMES)
    for end in (0, 100, 199, 200, 360, 7_999, 8_000, 8_039, 8_040, 8_041, 127_999, 128_000):
        assert_as_the_whole(stream, samples[:end])
    for end in range(128_030, 128_050):
        assert_as_the_whole(stream, samples[:end])


def test_a_window_is_final_once_its_last_frame_reaches_into_no_sample_to_come() -> None:
    samples = torch.from_numpy(noise(130_000))
    stream = MelStream(LOG_MEL, WINDOW_FRAMES)
    stream.extend(samples[:128_039])
    assert not stream.is_final(0)
    stream.extend(samples[:128_040])
    assert stream.is_final(0)
    before = stream.features(0)

    stream.extend(samples)

    assert not stream.is_final(1)
    assert torch.equal(stream.features(0), before)


def test_each_frame_is_computed_once_but_for_the_last() -> None:
    samples = torch.from_numpy(noise(30 * 16_000))
    counted = CountingMel()
    stream = MelStream(counted, WINDOW_FRAMES)
    steps = range(8_000, len(samples) + 1, 8_000)
    for end in steps:
        stream.extend(samples[:end])

    assert counted.frames <= frame_count(len(samples)) + 2 * len(steps)


def test_a_higher_floor_changes_the_windows_below_it_and_no_others() -> None:
    loud, quiet = noise(128_000, 1), noise(128_000, 2) * np.float32(1e-3)
    quiet[20_000:40_000] = 0
    samples = np.concatenate((loud, quiet, noise(32_000, 3) * np.float32(2)))
    stream = MelStream(LOG_MEL, WINDOW_FRAMES)
    stream.extend(torch.from_numpy(samples[: 256_000 + 40]))
    floor, before = stream.floor, [stream.features(index) for index in range(2)]

    stream.extend(torch.from_numpy(samples))

    assert stream.floor > floor
    assert [stream.is_alike(index, floor) for index in range(2)] == [True, False]
    assert torch.equal(stream.features(0), before[0])
    assert not torch.equal(stream.features(1), before[1])


class LoudEnd(LogMel):
    """The newest frame is louder while nothing follows it."""

    def levels(self, samples: Tensor, first: int = 0) -> Tensor:
        found = super().levels(samples, first)
        if len(samples) % 160 < 40:
            found[-1] += 4
        return found


def test_a_frame_that_is_not_final_sets_the_floor_only_while_it_is_so() -> None:
    samples = torch.from_numpy(noise(48_000))
    stream = MelStream(LoudEnd(PREPROCESSOR, CPU), WINDOW_FRAMES)
    stream.extend(samples[:16_000])
    floor = stream.floor

    stream.extend(samples[:40_050])

    assert stream.floor < floor - 2
    assert not stream.is_alike(0, floor)


def test_samples_do_not_become_fewer() -> None:
    stream = MelStream(LOG_MEL, WINDOW_FRAMES)
    stream.extend(torch.from_numpy(noise(9_000)))

    with pytest.raises(ValueError, match="8000 samples after 9000"):
        stream.extend(torch.from_numpy(noise(8_000)))
