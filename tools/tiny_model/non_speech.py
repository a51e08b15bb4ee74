"""Sounds that hold no words, made at random: silence, noise, telephone signals, music-like tones.

Every function takes a length in samples (16 kHz) and a generator and returns float32 samples;
unless said otherwise at unit RMS, which callers scale.
"""

from collections.abc import Callable

import numpy as np

from tools.tiny_model.corpus import SAMPLE_RATE, Samples

Generator = np.random.Generator

RING_TONES_HZ = [(440, 480), (425,), (400, 450), (440,), (450,), (400,)]
RING_CADENCES = [(2.0, 4.0), (1.0, 4.0), (0.4, 0.2, 0.4, 2.0), (1.0, 3.0), (0.8, 4.0), (1.5, 3.0)]
"""Seconds on, off, ... (ITU-T E.180, Supplement 2: United States, Europe, United Kingdom, ...)."""
PROGRESS_TONES_HZ = [(350, 440), (480, 620), (425,), (400,), (950,), (1400,), (1800,), (2100,)]
PROGRESS_CADENCES = [
    (0.5, 0.5),
    (0.25, 0.25),
    (0.33, 0.33),
    (10.0, 0.01),
    (0.2, 0.3),
    (0.375, 0.375),
]
DTMF_LOW_HZ = (697, 770, 852, 941)
DTMF_HIGH_HZ = (1209, 1336, 1477, 1633)
"""ITU-T Q.23: one of the low and one of the high group sound together."""


def white_to_brown(length: int, rng: Generator, exponent: float) -> Samples:
    """Noise whose power falls as 1 / f ** exponent; loops after two seconds."""
    period = 1 << 15
    frequency = np.fft.rfftfreq(period)
    frequency[0] = frequency[1]
    spectrum = rng.standard_normal(len(frequency)) + 1j * rng.standard_normal(len(frequency))
    loop = np.fft.irfft(spectrum / frequency ** (exponent / 2), period).astype(np.float32)
    start = int(rng.integers(0, period))
    return _unit(np.tile(loop, length // period + 2)[start : start + length])


def hum(length: int, rng: Generator) -> Samples:
    """Mains or machine hum with three overtones."""
    base = rng.choice([50.0, 60.0, 100.0, 120.0, rng.uniform(80, 1000)])
    loudness = rng.uniform(0, 1, 4) / np.arange(1, 5)
    total = sum(
        amount * _sine(length, base * overtone, rng)
        for overtone, amount in enumerate(loudness, start=1)
    )
    return _unit(np.asarray(total) + 0.1 * white_to_brown(length, rng, 0))


def clicks(length: int, rng: Generator) -> Samples:
    """A few short decaying bursts over a faint noise."""
    sound = np.zeros(length, np.float32)
    for _ in range(rng.integers(1, 8)):
        burst_length = int(rng.uniform(0.002, 0.06) * SAMPLE_RATE)
        decay = np.exp(-np.arange(burst_length) / (burst_length / 5))
        _place(sound, (rng.standard_normal(burst_length) * decay), int(rng.integers(0, length)))
    return _unit(_unit(sound) + 0.05 * white_to_brown(length, rng, 1))


def noise(length: int, rng: Generator) -> Samples:
    """One of the noises above."""
    kind = rng.random()
    if kind < 0.75:
        return white_to_brown(length, rng, rng.uniform(0, 2))
    return hum(length, rng) if kind < 0.9 else clicks(length, rng)


def ringing(length: int, rng: Generator) -> Samples:
    """A telephone's ring-back tone, starting anywhere in its cadence."""
    tones = RING_TONES_HZ[rng.integers(len(RING_TONES_HZ))]
    cadence = RING_CADENCES[rng.integers(len(RING_CADENCES))]
    return _cadenced(length, rng, tones, cadence)


def call_progress(length: int, rng: Generator) -> Samples:
    """Dial, busy, congestion, fax and recorder tones."""
    tones = PROGRESS_TONES_HZ[rng.integers(len(PROGRESS_TONES_HZ))]
    cadence = PROGRESS_CADENCES[rng.integers(len(PROGRESS_CADENCES))]
    return _cadenced(length, rng, tones, cadence)


def dtmf(length: int, rng: Generator) -> Samples:
    """Keys pressed one after another at a random pace."""
    sound = np.zeros(length, np.float32)
    position = int(rng.uniform(0, 0.3) * SAMPLE_RATE)
    on, off = rng.uniform(0.04, 0.4), rng.uniform(0.03, 0.6)
    twist = rng.uniform(0.6, 1.6)
    while position < length:
        key_length = int(on * rng.uniform(0.8, 1.2) * SAMPLE_RATE)
        low = _sine(key_length, rng.choice(DTMF_LOW_HZ), rng)
        high = _sine(key_length, rng.choice(DTMF_HIGH_HZ), rng)
        _place(sound, _soft_ends(low + twist * high), position)
        position += key_length + int(off * rng.uniform(0.5, 1.5) * SAMPLE_RATE)
    return _unit(sound)


def music(length: int, rng: Generator) -> Samples:
    """Melodies, arpeggios and chords of decaying or sustained harmonic notes."""
    sound = np.zeros(length, np.float32)
    scale = np.cumsum([0, *rng.choice([2, 2, 1, 3, 2, 2, 1], 7)])
    root = rng.uniform(80, 500)
    beat = rng.uniform(0.12, 1.2)
    voices = int(rng.integers(1, 5))
    overtones = int(rng.integers(1, 8))
    decay = rng.choice([0.0, rng.uniform(0.5, 8)])
    position = 0
    while position < length:
        note_length = int(beat * rng.choice([0.5, 1, 1, 2]) * SAMPLE_RATE)
        for semitones in rng.choice(scale, voices):
            note = _note(note_length, root * 2 ** (semitones / 12), overtones, decay, rng)
            _place(sound, note, position)
        position += note_length if rng.random() < 0.9 else 2 * note_length
    return _unit(sound)


def sweep(length: int, rng: Generator) -> Samples:
    """A siren or chirp: one tone that glides between two pitches."""
    low, high = np.sort(rng.uniform(150, 3000, 2))
    phase = np.arange(length) / SAMPLE_RATE * rng.uniform(0.2, 4) * 2 * np.pi
    pitch = low + (high - low) * (0.5 + 0.5 * np.sin(phase + rng.uniform(0, 6)))
    return _unit(np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE))


SOUNDS: list[Callable[[int, Generator], Samples]] = [
    noise, noise, noise, ringing, ringing, dtmf, dtmf, call_progress, music, music, sweep,
]  # fmt: skip


def silence(length: int, rng: Generator) -> Samples:
    """Digital silence, or the last bits of a converter's noise; not at unit RMS."""
    if rng.random() < 0.6:
        return np.zeros(length, np.float32)
    steps = np.round(rng.standard_normal(length) * rng.uniform(0.3, 3))
    return (steps / 32768).astype(np.float32)


def _cadenced(
    length: int, rng: Generator, tones: tuple[int, ...], cadence: tuple[float, ...]
) -> Samples:
    detune = rng.uniform(0.97, 1.03)
    sound = np.sum([_sine(length, tone * detune, rng) for tone in tones], axis=0)
    edges = np.cumsum([0.0, *cadence])
    moment = np.arange(length) / SAMPLE_RATE + rng.uniform(0, edges[-1])
    phase = np.searchsorted(edges, moment % edges[-1], side="right") - 1
    audible = (phase % 2 == 0).astype(np.float32)
    ramp = int(rng.uniform(1, 10) * SAMPLE_RATE / 1000)
    return _unit(sound * np.convolve(audible, np.ones(ramp) / ramp, "same"))


def _note(length: int, pitch: float, overtones: int, decay: float, rng: Generator) -> Samples:
    harmonics = [
        _sine(length, pitch * number, rng) / number ** rng.uniform(0.5, 2)
        for number in range(1, overtones + 1)
        if pitch * number < SAMPLE_RATE / 2
    ]
    envelope = np.exp(-decay * np.arange(length) / SAMPLE_RATE)
    return _soft_ends(np.sum(harmonics, axis=0) * envelope)


def _sine(length: int, pitch: float, rng: Generator) -> Samples:
    angle = 2 * np.pi * pitch / SAMPLE_RATE * np.arange(length) + rng.uniform(0, 2 * np.pi)
    return np.sin(angle).astype(np.float32)


def _soft_ends(sound: Samples) -> Samples:
    ramp = min(len(sound) // 4, 160)
    if ramp:
        sound[:ramp] *= np.linspace(0, 1, ramp)
        sound[-ramp:] *= np.linspace(1, 0, ramp)
    return sound


def _place(sound: Samples, piece: Samples, position: int) -> None:
    end = min(len(sound), position + len(piece))
    sound[position:end] += piece[: end - position]


def _unit(sound: Samples) -> Samples:
    """Scaled to RMS 1; silence (a pause of a cadence) stays silence."""
    rms = float(np.sqrt(np.mean(sound**2))) if len(sound) else 0.0
    return (sound / rms if rms > 1e-6 else sound).astype(np.float32)
