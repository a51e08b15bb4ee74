"""When two channels count as one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.audio.channels import ChannelComparison, louder
from worker.audio.lag import MAX_LAG_SAMPLES

Samples = NDArray[np.float32]
CHUNK = 80_000


def noise(seed: int, level: float = 0.1) -> Samples:
    return (level * np.random.default_rng(seed).standard_normal(CHUNK)).astype(np.float32)


def both(left: Samples, right: Samples) -> Samples:
    return np.stack([left, right], axis=1).astype(np.float32)


def mixed(likeness: float, seed: int = 0, level: float = 1.0) -> Samples:
    """Two channels of noise that correlate so much; the right one at another level."""
    left = noise(2 * seed + 1)
    other = noise(2 * seed + 2)
    return both(left, level * (likeness * left + np.sqrt(1 - likeness**2) * other))


@pytest.mark.parametrize("gain", [1.0, 0.4, -1.0])
@pytest.mark.parametrize("lag", [0, 37, MAX_LAG_SAMPLES, -MAX_LAG_SAMPLES])
def test_a_copy_is_the_same_sound_whatever_its_gain_offset_sign_and_lag(
    gain: float, lag: int
) -> None:
    left, hiss = noise(1), noise(2, level=0.01 * gain)

    copy = gain * np.roll(left, lag) + hiss + np.float32(0.2)

    assert ChannelComparison().are_same(both(left, copy))


@pytest.mark.parametrize(
    "right",
    [
        noise(2),
        np.zeros(CHUNK, np.float32),
        0.3 * noise(1) + noise(2),
        np.roll(noise(1), 2 * MAX_LAG_SAMPLES),
        0.25 * noise(1),
    ],
    ids=["another voice", "nobody", "an echo under a voice", "a later repetition", "a leak"],
)
def test_what_one_channel_alone_would_lose_counts_as_different(right: Samples) -> None:
    assert not ChannelComparison().are_same(both(noise(1), right))


def test_each_chunk_is_judged_anew() -> None:
    comparison = ChannelComparison()
    chunks = [mixed(1.0), mixed(0.0), mixed(0.0, seed=1), mixed(1.0, seed=2)]

    assert [comparison.are_same(chunk) for chunk in chunks] == [True, False, False, True]


def test_between_same_and_different_what_was_found_before_goes_on() -> None:
    after_same, after_different = ChannelComparison(), ChannelComparison()
    after_same.are_same(mixed(1.0))
    after_different.are_same(mixed(0.0))
    between = mixed(0.9, seed=3)

    assert after_same.are_same(between)
    assert not after_different.are_same(between)


def test_in_a_call_one_side_that_talks_alone_and_leaks_much_is_still_one_side() -> None:
    call, announcement = ChannelComparison(), ChannelComparison()
    call.are_same(mixed(0.0))

    assert not call.are_same(mixed(1.0, level=0.5))
    assert announcement.are_same(mixed(1.0, level=0.5))


def test_an_inaudible_side_tells_nothing() -> None:
    comparison = ChannelComparison()
    comparison.are_same(mixed(1.0))

    assert not comparison.are_same(both(noise(1), noise(2, level=1e-5)))
    assert comparison.are_same(mixed(0.9, seed=3))


def test_of_copies_the_louder_is_taken_as_it_is() -> None:
    assert np.array_equal(louder(both(0.4 * noise(1), noise(1))), noise(1))
