"""What happens to sound on its way to a model: rooms, noise, telephones, levels, other voices.

The generator comes first and decides all; samples are 16 kHz float32, log-mels (128, frames).
"""

import numpy as np
import numpy.typing as npt
import soxr

from tools.tiny_model import non_speech
from tools.tiny_model.corpus import SAMPLE_RATE, Samples

Generator = np.random.Generator
LogMel = npt.NDArray[np.float32]


def respeed(samples: Samples, ratio: float) -> Samples:
    """Faster and higher for ``ratio`` > 1: resampled and played at the old rate."""
    if abs(ratio - 1) < 0.01:
        return samples
    return soxr.resample(samples, SAMPLE_RATE * ratio, SAMPLE_RATE, quality="QQ")


def reverb(rng: Generator, samples: Samples) -> Samples:
    """A room of 50 to 400 ms: direct sound plus a decaying noise tail."""
    tail = int(rng.uniform(0.05, 0.4) * SAMPLE_RATE)
    response = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    response *= rng.uniform(0.02, 0.15)
    response[0] = 1.0
    size = 1 << (len(samples) + tail - 1).bit_length()
    product = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(samples)].astype(np.float32)


def mulaw_8k(samples: Samples) -> Samples:
    """Through a telephone: 8 kHz, 8-bit mu-law, back to 16 kHz and the same length."""
    narrow = np.clip(soxr.resample(samples, SAMPLE_RATE, 8000, quality="LQ"), -1, 1)
    companded = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    rounded = np.round(companded * 127) / 127
    linear = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256)) / 255
    wide = soxr.resample(linear.astype(np.float32), 8000, SAMPLE_RATE, quality="LQ")
    return np.pad(wide, (0, max(0, len(samples) - len(wide))))[: len(samples)]


def speech_path(rng: Generator, samples: Samples) -> Samples:
    """A string of speech as some microphone, line and converter would deliver it."""
    samples = samples / (np.abs(samples).max() + 1e-6) * 0.6
    if rng.random() < 0.25:
        samples = reverb(rng, samples)
    if rng.random() < 0.15:
        samples = np.tanh(samples * rng.uniform(1.5, 5)) * 0.6
    if rng.random() < 0.85:
        samples = _with_background(rng, samples)
    if rng.random() < 0.35:
        samples = mulaw_8k(samples * 10 ** (-rng.uniform(0, 25) / 20))
    return level(rng, samples)


def sound_path(rng: Generator, samples: Samples) -> Samples:
    """The same for a sound without words, given at unit RMS."""
    samples = samples * 10 ** (-rng.uniform(6, 30) / 20)
    if rng.random() < 0.2:
        samples = reverb(rng, samples)
    if rng.random() < 0.3:
        slow = np.abs(non_speech.white_to_brown(len(samples), rng, 2)) ** rng.uniform(0.3, 1)
        samples = samples * slow
    if rng.random() < 0.5:
        background = non_speech.white_to_brown(len(samples), rng, rng.uniform(0, 2))
        samples = samples + background * 10 ** (-rng.uniform(20, 75) / 20)
    samples = np.clip(samples, -1, 1)
    if rng.random() < 0.4:
        samples = mulaw_8k(samples)
    return level(rng, samples)


def level(rng: Generator, samples: Samples) -> Samples:
    """Turned down by up to 30 dB, at times by up to 45 dB, and at times rounded to 16 bits."""
    quieter = rng.uniform(0, 30) if rng.random() < 0.75 else rng.uniform(25, 45)
    samples = samples * 10 ** (-quieter / 20)
    if rng.random() < 0.4:
        samples = np.round(samples * 32767) / 32767
    return samples.astype(np.float32)


def warp_voice(rng: Generator, log_mel: LogMel) -> LogMel:
    """Another vocal tract: the spectrum stretched along the frequency axis by 0.82 to 1.2."""
    factor = rng.uniform(0.82, 1.2)
    position = np.interp(_MEL_CENTRES_HZ * factor, _MEL_CENTRES_HZ, np.arange(128))
    below = position.astype(int)
    above = np.minimum(below + 1, 127)
    share = (position - below).astype(np.float32)[:, None]
    return log_mel[below] * (1 - share) + log_mel[above] * share


def tilt_spectrum(rng: Generator, log_mel: LogMel) -> LogMel:
    """A microphone's colour: up to 12 dB between the lowest and the highest band."""
    slope = rng.uniform(-0.3, 0.3)  # log10 of power / 4, the features' unit: 12 dB = 0.3
    return log_mel + (slope * np.linspace(-0.5, 0.5, 128, dtype=np.float32))[:, None]


def mask_bands(rng: Generator, log_mel: LogMel) -> None:
    """Blank one or two bands of up to 17 mel bins, in place."""
    for _ in range(rng.integers(1, 3)):
        width = int(rng.integers(2, 18))
        start = int(rng.integers(0, 128 - width))
        log_mel[start : start + width] = log_mel.mean()


def mask_moments(rng: Generator, log_mel: LogMel) -> None:
    """Blank up to 80 ms in every three seconds, in place."""
    frames = log_mel.shape[1]
    for _ in range(max(1, frames // 300)):
        width = int(rng.integers(2, 9))
        start = int(rng.integers(0, frames - width))
        log_mel[:, start : start + width] = log_mel.mean()


def _with_background(rng: Generator, samples: Samples) -> Samples:
    audible = samples[np.abs(samples) > 0.02]
    speech_rms = np.sqrt(np.mean(audible**2)) if len(audible) else 0.1
    if rng.random() < 0.9:
        background, below = non_speech.noise(len(samples), rng), rng.uniform(5, 45)
    else:
        background, below = non_speech.music(len(samples), rng), rng.uniform(10, 40)
    return samples + background * speech_rms * 10 ** (-below / 20)


def _mel_centres_hz() -> npt.NDArray[np.float64]:
    """Centres of 128 Slaney mel bands from 0 to 8 kHz: linear to 1 kHz, then logarithmic."""
    step = np.log(6.4) / 27
    top = 15 + np.log(8000 / 1000) / step
    mel = np.linspace(0, top, 130)[1:-1]
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))


_MEL_CENTRES_HZ = _mel_centres_hz()
