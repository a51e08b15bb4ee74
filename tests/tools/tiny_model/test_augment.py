import numpy as np
import pytest

from tools.tiny_model import augment
from tools.tiny_model.corpus import SAMPLE_RATE, Samples


@pytest.fixture
def tone() -> Samples:
    return (0.5 * np.sin(2 * np.pi * 500 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


def test_faster_is_shorter_and_higher(tone: Samples) -> None:
    fast = augment.respeed(tone, 1.25)

    assert len(fast) == pytest.approx(SAMPLE_RATE / 1.25, abs=2)
    assert np.abs(np.fft.rfft(fast)).argmax() / len(fast) * SAMPLE_RATE == pytest.approx(625, abs=3)


def test_a_telephone_keeps_the_length_and_adds_little_noise(tone: Samples) -> None:
    heard = augment.mulaw_8k(tone)

    assert heard.shape == tone.shape
    noise = np.sqrt(np.mean((heard - tone)[800:-800] ** 2) / np.mean(tone**2))
    assert 0.001 < noise < 0.03


def test_levels_reach_from_loud_to_sixty_decibels_below_full_scale(tone: Samples) -> None:
    rng = np.random.default_rng(1)

    levels = [
        20 * np.log10(np.sqrt(np.mean(augment.speech_path(rng, tone) ** 2))) for _ in range(200)
    ]

    assert min(levels) < -45
    assert max(levels) > -15


def test_another_voice_moves_the_spectrum(tone: Samples) -> None:
    rng = np.random.default_rng(1)
    bands = np.zeros((128, 10), np.float32)
    bands[60] = 1

    peaks = {int(augment.warp_voice(rng, bands)[:, 0].argmax()) for _ in range(50)}

    assert min(peaks) < 58
    assert max(peaks) > 62


def test_masks_blank_a_few_bands_and_moments() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((128, 600)).astype(np.float32)
    bands, moments = features.copy(), features.copy()

    augment.mask_bands(rng, bands)
    augment.mask_moments(rng, moments)

    assert 2 <= (bands != features).any(axis=1).sum() <= 34
    assert 2 <= (moments != features).any(axis=0).sum() <= 16
