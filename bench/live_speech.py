"""What streams say: strings of digits with pauses, as the bytes of a telephone or a microphone.

People's recordings where they are at hand (see tests/speech.py), else the bundled clips in turn.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from bench.cold_start import ROOT
from bench.long_recordings import CLIPS
from tests import speech
from tests.worker.live.road import mulaw, pcm16, resampled

RATE = speech.SAMPLE_RATE
TAIL_SECONDS = 1.5
"""Silence behind the last string, so that it ends as the others do."""
MISSES = 8
"""Strings that are too long for what is left of a stream; the rest of it is silence."""
GAPS = (0.9, 1.6)
"""Seconds between two strings: more than what ends an utterance."""


@dataclass(frozen=True, slots=True)
class Format:
    """As /ws/transcribe names it."""

    encoding: str
    sample_rate: int
    sample_bytes: int

    @property
    def bytes_per_second(self) -> int:
        return self.sample_rate * self.sample_bytes

    @property
    def query(self) -> str:
        return f"encoding={self.encoding}&sample_rate={self.sample_rate}"


FORMATS = {"mulaw": Format("mulaw", 8_000, 1), "pcm16": Format("pcm_s16le", 16_000, 2)}


@dataclass(frozen=True, slots=True)
class Talk:
    """One stream."""

    format: Format
    content: bytes
    text: str
    loud: list[float]
    """Seconds of the stream, in steps of 10 ms, at which it is loud."""

    @property
    def seconds(self) -> float:
        return len(self.content) / self.format.bytes_per_second


def talk(seconds: float, seed: int, form: Format) -> Talk:
    """So many seconds, other strings for another seed."""
    random = np.random.default_rng([17, seed])
    pieces = [np.zeros(int(random.uniform(0.2, 1.5) * RATE), np.float32)]
    texts: list[str] = []
    misses = 0
    left = int((seconds - TAIL_SECONDS) * RATE) - len(pieces[0])
    for spoken in _strings(seed):
        pause = int(random.uniform(*GAPS) * RATE)
        if len(spoken.samples) + pause > left:
            misses += 1
            if misses == MISSES:
                break
            continue
        pieces += [spoken.samples, np.zeros(pause, np.float32)]
        texts.append(spoken.text)
        left -= len(spoken.samples) + pause
    pieces.append(np.zeros(max(0, left) + int(TAIL_SECONDS * RATE), np.float32))
    samples = np.concatenate(pieces)
    return Talk(form, _written(samples, form), " ".join(texts), _loud(samples))


def _strings(seed: int) -> Iterator[speech.Spoken]:
    if not speech.human_speech_available():
        yield from itertools.islice(itertools.cycle(_clips()), seed % len(CLIPS), None)
    speakers = [*speech.KNOWN_SPEAKERS]
    for number in itertools.count():
        yield from speech.digit_strings(speakers[seed % len(speakers)], 8, 1000 * seed + number)


def _clips() -> list[speech.Spoken]:
    folder = ROOT / "examples" / "speech"
    said = {
        clip["file"]: " ".join(clip["said"])
        for clip in json.loads((folder / "clips.json").read_text())
    }
    found = []
    for name in CLIPS:
        samples, rate = soundfile.read(folder / f"{name}.flac", dtype="float32")
        found.append(speech.Spoken(samples, rate, said[f"{name}.flac"]))
    return found


def _written(samples: speech.Samples, form: Format) -> bytes:
    if form.encoding == "mulaw":
        return mulaw(resampled(samples, form.sample_rate))
    return pcm16(samples)


def _loud(samples: speech.Samples) -> list[float]:
    """Within 34 dB of the loudest."""
    step = RATE // 100
    peaks = np.abs(samples[: len(samples) // step * step]).reshape(-1, step).max(axis=1)
    return [float(place) / 100 for place in np.flatnonzero(peaks > 0.02 * peaks.max())]
