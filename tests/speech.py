"""Speech and other sounds for tests: human digit strings never trained on, and clips without words.

The human recordings (Free Spoken Digit Dataset, CC BY-SA 4.0) lie beside the repository in
``../shared/speech`` or in the folder named by ``QWEN3_ASR_TEST_SPEECH``; they are not part of it.
"""

import functools
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

SAMPLE_RATE = 16_000
DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
KNOWN_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "yweweler")
"""The embedded model was trained on them; only their recordings 0-4 are used here."""
UNSEEN_SPEAKER = "theo"
"""Never trained on; all recordings are used here."""

SPEECH_FOLDER = Path(
    os.environ.get("QWEN3_ASR_TEST_SPEECH")
    or Path(__file__).resolve().parents[2] / "shared" / "speech"
)
DIGIT_ARCHIVE = SPEECH_FOLDER / "fsdd_recordings.tar.xz"

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spoken:
    """Speech and its words; mono float32 in [-1, 1]."""

    samples: Samples
    sample_rate: int
    text: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class LongSpoken(Spoken):
    """A long string and the shorter ones, each with its pauses, that it is joined of."""

    parts: tuple[Spoken, ...]


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound without words, 16 kHz."""

    name: str
    samples: Samples


def human_speech_available() -> bool:
    """Whether the recordings are on this machine."""
    return DIGIT_ARCHIVE.exists()


needs_human_speech = pytest.mark.skipif(
    not human_speech_available(),
    reason=f"needs human recordings: {DIGIT_ARCHIVE} is missing (set QWEN3_ASR_TEST_SPEECH)",
)
"""Mark for tests that listen to people."""


def held_out(speaker: str) -> tuple[tuple[Samples, ...], ...]:
    """Digit -> recordings of this speaker that no training has seen, 16 kHz, peak 0.5."""
    by_digit: list[list[Samples]] = [[] for _ in range(10)]
    for (digit, name, _), samples in _held_out_recordings().items():
        if name == speaker:
            by_digit[digit].append(samples)
    if not all(by_digit):
        raise ValueError(f"no held-out recordings of speaker {speaker!r}")
    return tuple(map(tuple, by_digit))


def digit_strings(
    speaker: str, count: int, seed: int, digits: tuple[int, int] = (3, 12)
) -> list[Spoken]:
    """Strings of held-out recordings with pauses of 50 to 500 ms; the same for the same seed."""
    rng = np.random.default_rng([seed, *speaker.encode()])
    return [_digit_string(rng, speaker, digits) for _ in range(count)]


def long_string(seconds: float, speaker: str, seed: int) -> LongSpoken:
    """Strings of one speaker, 0.4 to 1.2 s apart, for just under ``seconds``."""
    rng = np.random.default_rng([seed, *speaker.encode(), int(seconds)])
    parts: list[Spoken] = []
    while True:
        part = _digit_string(rng, speaker, (3, 12))
        pause = np.zeros(int(rng.uniform(0.25, 1.0) * SAMPLE_RATE), np.float32)
        part = Spoken(np.concatenate([part.samples, pause]), SAMPLE_RATE, part.text)
        if sum(each.seconds for each in parts) + part.seconds > seconds:
            break
        parts.append(part)
    samples = np.concatenate([part.samples for part in parts])
    text = " ".join(part.text for part in parts)
    return LongSpoken(samples, SAMPLE_RATE, text, tuple(parts))


def mulaw_8k(samples: Samples, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Through a telephone line and back: 8 kHz, G.711 mu-law, the given rate and length."""
    narrow = soxr.resample(samples, sample_rate, 8000)
    linear = np.round(np.clip(narrow, -1, 1) * 32767).astype(np.int32)
    magnitude = np.minimum(np.abs(linear), 32635) + 132
    exponent = np.log2(magnitude).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0xF
    restored = ((((mantissa << 3) + 132) << exponent) - 132) * np.sign(linear)
    wide = soxr.resample(restored.astype(np.float32) / 32768, 8000, sample_rate)
    padded: Samples = np.pad(wide, (0, max(0, len(samples) - len(wide))))[: len(samples)]
    return padded


def at_level(samples: Samples, dbfs: float) -> Samples:
    """Scaled so that the RMS of its audible part is ``dbfs``, then rounded to 16 bits."""
    audible = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    scaled = samples * 10 ** (dbfs / 20) / np.sqrt(np.mean(audible**2))
    rounded: Samples = np.round(np.clip(scaled, -1, 1) * 32767).astype(np.float32) / 32767
    return rounded


def with_noise(samples: Samples, snr_db: float, seed: int) -> Samples:
    """With pink noise this far below the speech."""
    audible = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    rms = np.sqrt(np.mean(audible**2)) * 10 ** (-snr_db / 20)
    noisy: Samples = samples + rms * _coloured_noise(len(samples), 1.0, np.random.default_rng(seed))
    return noisy


def word_errors(reference: str, heard: str) -> int:
    """Fewest words to replace, drop or add to turn one text into the other."""
    expected, actual = reference.split(), heard.split()
    costs = list(range(len(actual) + 1))
    for row, word in enumerate(expected, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(actual, start=1):
            swap = diagonal + (word != other)
            diagonal = costs[column]
            costs[column] = min(swap, diagonal + 1, costs[column - 1] + 1)
    return costs[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Errors per spoken word over (reference, heard) pairs: 0.05 is five per cent."""
    listed = list(pairs)
    spoken = sum(len(reference.split()) for reference, _ in listed)
    if spoken == 0:
        raise ValueError("a word error rate needs at least one spoken word")
    return sum(word_errors(reference, heard) for reference, heard in listed) / spoken


def non_speech_clips() -> list[Sound]:
    """Some 140 clips without words: silence, noise, hum, ringing, DTMF, call tones, music."""
    clips = [*_silences(), *_noises(), *_telephone_signals(), *_key_presses(), *_tunes()]
    telephone = [
        Sound(f"{clip.name}, telephone", mulaw_8k(clip.samples))
        for clip in [*_telephone_signals(), *_key_presses()][::2]
    ]
    return clips + telephone


def write_wav(path: Path, samples: Samples, sample_rate: int = SAMPLE_RATE) -> Path:
    """A 16-bit wave file; one column a channel."""
    soundfile.write(path, samples, sample_rate, subtype="PCM_16")
    return path


def _digit_string(rng: np.random.Generator, speaker: str, digits: tuple[int, int]) -> Spoken:
    recordings = held_out(speaker)
    spoken = rng.integers(0, 10, rng.integers(digits[0], digits[1], endpoint=True))
    pieces = [np.zeros(int(rng.uniform(0.1, 0.3) * SAMPLE_RATE), np.float32)]
    for digit in spoken:
        takes = recordings[digit]
        pieces.append(takes[rng.integers(len(takes))])
        pieces.append(np.zeros(int(rng.uniform(0.05, 0.5) * SAMPLE_RATE), np.float32))
    pieces.append(np.zeros(int(0.15 * SAMPLE_RATE), np.float32))
    text = " ".join(DIGIT_WORDS[digit] for digit in spoken)
    return Spoken(np.concatenate(pieces), SAMPLE_RATE, text)


@functools.cache
def _held_out_recordings() -> dict[tuple[int, str, int], Samples]:
    found = {}
    with tarfile.open(DIGIT_ARCHIVE) as archive:
        for member in archive:
            if not member.name.endswith(".wav"):
                continue
            digit, speaker, index = Path(member.name).stem.split("_")
            if speaker != UNSEEN_SPEAKER and int(index) > 4:
                continue
            file = archive.extractfile(member)
            assert file is not None
            samples, rate = soundfile.read(BytesIO(file.read()), dtype="float32")
            wide = soxr.resample(samples, rate, SAMPLE_RATE)
            found[int(digit), speaker, int(index)] = wide / np.abs(wide).max() * np.float32(0.5)
    return dict(sorted(found.items()))


def _silences() -> list[Sound]:
    zeros = [
        Sound(f"{seconds} s of zeros", np.zeros(int(seconds * SAMPLE_RATE), np.float32))
        for seconds in (0.3, 0.5, 1, 2, 3, 5, 10, 20, 30)
    ]
    rng = np.random.default_rng(1)
    dither = [
        Sound(
            f"{seconds} s of a converter's last bit",
            rng.integers(-1, 2, seconds * SAMPLE_RATE).astype(np.float32) / np.float32(32768),
        )
        for seconds in (1, 3, 10)
    ]
    return zeros + dither


def _noises() -> list[Sound]:
    rng = np.random.default_rng(2)
    clips = []
    for colour, exponent in (("white", 0.0), ("pink", 1.0), ("brown", 2.0)):
        for dbfs in (-20, -35, -50, -65):
            seconds = rng.uniform(1, 10)
            noise = _coloured_noise(int(seconds * SAMPLE_RATE), exponent, rng)
            clips.append(Sound(f"{colour} noise at {dbfs} dBFS", noise * 10 ** (dbfs / 20)))
    for mains in (50, 60):
        for dbfs in (-20, -40):
            moments = np.arange(int(rng.uniform(2, 6) * SAMPLE_RATE)) / SAMPLE_RATE
            hum = sum(np.sin(2 * np.pi * mains * n * moments) / n for n in (1, 2, 3, 5))
            faint = 0.02 * _coloured_noise(len(moments), 1.0, rng)
            samples = (np.asarray(hum) + faint).astype(np.float32) * 10 ** (dbfs / 20)
            clips.append(Sound(f"{mains} Hz hum at {dbfs} dBFS", samples))
    return clips


RING_TONES = {
    "United States ring": ((440, 480), (2, 4)),
    "European ring": ((425,), (1, 4)),
    "British ring": ((400, 450), (0.4, 0.2, 0.4, 2)),
    "German ring": ((425,), (1, 4)),
    "French ring": ((440,), (1.5, 3.5)),
}
CALL_TONES = {
    "United States dial tone": ((350, 440), (30, 0)),
    "European dial tone": ((425,), (30, 0)),
    "United States busy tone": ((480, 620), (0.5, 0.5)),
    "European busy tone": ((425,), (0.48, 0.48)),
    "British busy tone": ((400,), (0.375, 0.375)),
    "congestion tone": ((425,), (0.24, 0.24)),
    "recorder beep": ((1400,), (0.5, 2.5)),
    "fax calling tone": ((1100,), (0.5, 3)),
}
"""Tones in Hz; seconds on, off, ... (ITU-T E.180 and its supplement 2)."""


def _telephone_signals() -> list[Sound]:
    clips = []
    for name, (tones, cadence) in (RING_TONES | CALL_TONES).items():
        for dbfs, seconds in ((-12, 12.0), (-30, 6.0)):
            samples = _cadenced_tone(seconds, tones, cadence) * 10 ** (dbfs / 20)
            clips.append(Sound(f"{name} at {dbfs} dBFS", samples))
    return clips


DTMF_HZ = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}


def dtmf(keys: str, on: float = 0.1, off: float = 0.1) -> Samples:
    """Keys of a telephone pressed one after another."""
    gap = np.zeros(int(off * SAMPLE_RATE), np.float32)
    moments = np.arange(int(on * SAMPLE_RATE)) / SAMPLE_RATE
    pieces = [gap]
    for key in keys:
        pair = sum(np.sin(2 * np.pi * tone * moments) for tone in DTMF_HZ[key])
        pieces += [0.2 * np.asarray(pair, dtype=np.float32), gap]
    return np.concatenate(pieces)


def _key_presses() -> list[Sound]:
    singles = [Sound(f"DTMF key {key}", dtmf(key, on=0.25, off=0.4)) for key in DTMF_HZ]
    rng = np.random.default_rng(3)
    sequences = []
    for number in range(24):
        keys = "".join(rng.choice(list(DTMF_HZ), rng.integers(3, 13)))
        on, off = rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.5)
        samples = dtmf(keys, on, off) * 10 ** (-rng.uniform(0, 25) / 20)
        sequences.append(Sound(f"DTMF sequence {number}: {keys}", samples))
    return singles + sequences


def _tunes() -> list[Sound]:
    rng = np.random.default_rng(4)
    clips = []
    for number in range(24):
        kind = ("chords", "arpeggio", "melody")[number % 3]
        root, beat = rng.uniform(110, 440), rng.uniform(0.2, 0.8)
        steps = rng.choice([0, 2, 4, 5, 7, 9, 11, 12], 16)
        if kind == "arpeggio":
            steps = np.tile([0, 4, 7, 12], 4)
        notes = [
            sum(
                _plucked(root * 2 ** ((step + interval) / 12), beat)
                for interval in ((0, 4, 7) if kind == "chords" else (0,))
            )
            for step in steps
        ]
        tune = np.concatenate(notes).astype(np.float32)
        level = 10 ** (-rng.uniform(10, 35) / 20)
        clips.append(Sound(f"{kind} {number}", tune / np.abs(tune).max() * np.float32(level)))
    return clips


def _plucked(pitch: float, seconds: float) -> Samples:
    moments = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * pitch * n * moments) / n for n in range(1, 5))
    attack = np.minimum(1, moments / 0.01)
    release = np.minimum(1, (seconds - moments) / 0.02)
    note: Samples = (np.asarray(tone) * attack * release * np.exp(-3 * moments)).astype(np.float32)
    return note


def _cadenced_tone(seconds: float, tones: tuple[int, ...], cadence: tuple[float, ...]) -> Samples:
    moments = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    edges = np.cumsum([0.0, *cadence])
    phase = np.searchsorted(edges, moments % edges[-1], side="right") - 1
    tone = sum(np.sin(2 * np.pi * pitch * moments) for pitch in tones) / len(tones)
    return (np.asarray(tone) * (phase % 2 == 0)).astype(np.float32)


def _coloured_noise(length: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Power falling as 1 / f ** exponent, RMS 1."""
    frequency = np.maximum(np.fft.rfftfreq(length), 1 / length)
    spectrum = rng.standard_normal(len(frequency)) + 1j * rng.standard_normal(len(frequency))
    noise = np.fft.irfft(spectrum / frequency ** (exponent / 2), length)
    scaled: Samples = (noise / np.std(noise)).astype(np.float32)
    return scaled
