"""Spoken digits on disk: the human recordings with their split, and the synthesised strings."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SAMPLE_RATE = 16_000
DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
UNSEEN_SPEAKER = "theo"
"""Measures the model on a stranger: no recording of this speaker is trained on."""
HELD_OUT_INDICES = range(5)
"""Recordings 0-4 of every speaker and digit are the corpus's own test split."""
PEAK = 0.7

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Clip:
    """A few spoken digits, 16 kHz mono int16, trimmed and scaled to the same peak."""

    samples: npt.NDArray[np.int16]
    digits: tuple[int, ...]
    voice: str


def words(digits: tuple[int, ...]) -> str:
    """(1, 2) -> "one two", what the model prints."""
    return " ".join(DIGIT_WORDS[digit] for digit in digits)


def to_clip(samples: Samples, rate: int, digits: tuple[int, ...], voice: str) -> Clip:
    """Mono samples at any rate -> a clip; silence is refused."""
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0:
        raise ValueError(f"a recording of {words(digits)!r} by {voice} is silent")
    return Clip(np.round(samples / peak * PEAK * 32767).astype(np.int16), digits, voice)


def human_training_clips(source: Path) -> list[Clip]:
    """Recordings of the Free Spoken Digit Dataset that may be trained on.

    ``source`` is its ``recordings`` folder or a tar archive that holds one.
    """
    clips = []
    for name, content in _recordings(source):
        digit, speaker, index = name.removesuffix(".wav").split("_")
        if speaker == UNSEEN_SPEAKER or int(index) in HELD_OUT_INDICES:
            continue
        samples, rate = soundfile.read(BytesIO(content), dtype="float32")
        clips.append(to_clip(samples, rate, (int(digit),), speaker))
    if not clips:
        raise ValueError(f"no digit recordings found in {source}")
    return clips


def _recordings(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*_*_*.wav")):
            yield path.name, path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".wav") else None
            if file is not None:
                yield Path(member.name).name, file.read()


def save_clips(path: Path, clips: list[Clip]) -> None:
    """Write clips to one ``.npz`` file."""
    np.savez(
        path,
        samples=np.concatenate([clip.samples for clip in clips]),
        lengths=np.array([len(clip.samples) for clip in clips]),
        digits=np.array(["".join(map(str, clip.digits)) for clip in clips]),
        voices=np.array([clip.voice for clip in clips]),
    )


def load_clips(path: Path) -> list[Clip]:
    """Read what :func:`save_clips` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        pieces = np.split(stored["samples"], np.cumsum(stored["lengths"])[:-1])
        digits, voices = stored["digits"], stored["voices"]
    return [
        Clip(piece, tuple(int(digit) for digit in spoken), str(voice))
        for piece, spoken, voice in zip(pieces, digits, voices, strict=True)
    ]
