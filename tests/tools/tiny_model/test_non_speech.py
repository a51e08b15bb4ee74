import numpy as np
import pytest

from tools.tiny_model import non_speech
from tools.tiny_model.corpus import SAMPLE_RATE, Samples


def strongest_hz(samples: Samples, count: int) -> list[int]:
    """The loudest frequencies, at least 30 Hz apart, lowest first."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    found: list[int] = []
    for index in np.argsort(spectrum)[::-1]:
        if all(abs(frequency[index] - other) > 30 for other in found):
            found.append(round(frequency[index]))
        if len(found) == count:
            break
    return sorted(found)


@pytest.mark.parametrize("sound", set(non_speech.SOUNDS), ids=lambda sound: sound.__name__)
def test_sounds_have_the_length_asked_for_and_one_loudness(sound: object) -> None:
    rng = np.random.default_rng(1)
    assert callable(sound)

    for length in (1600, 16_000, 100_001):
        samples = sound(length, rng)

        assert samples.shape == (length,)
        assert samples.dtype == np.float32
        rms = float(np.sqrt(np.mean(samples**2)))
        assert rms == pytest.approx(1, abs=1e-3) or rms == 0


def test_keys_are_one_low_and_one_high_tone() -> None:
    low, high = strongest_hz(non_speech.dtmf(3200, np.random.default_rng(8)), 2)

    assert min(abs(low - tone) for tone in non_speech.DTMF_LOW_HZ) < 20
    assert min(abs(high - tone) for tone in non_speech.DTMF_HIGH_HZ) < 20


def test_a_ring_pauses() -> None:
    samples = non_speech.ringing(12 * SAMPLE_RATE, np.random.default_rng(1))

    loudness = np.abs(samples).reshape(-1, 1600).max(1)

    assert 0.1 < np.mean(loudness < 0.01) < 0.95


def test_silence_is_digital_or_a_few_last_bits() -> None:
    rng = np.random.default_rng(1)

    peaks = [np.abs(non_speech.silence(16_000, rng)).max() for _ in range(20)]

    assert min(peaks) == 0
    assert 0 < max(peaks) < 20 / 32768
