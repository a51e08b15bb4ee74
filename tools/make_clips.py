"""Synthesise the clips under examples/speech with Debian's espeak-ng and flite.

    python -m tools.make_clips [FOLDER]

writes FLAC files and clips.json, which says what each holds. The same versions of the synthesisers
give the same files.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from tools.tiny_model import augment
from tools.tiny_model.corpus import SAMPLE_RATE, Samples
from tools.tiny_model.synthesise import Utterance, speak

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "speech"


@dataclass(frozen=True, slots=True)
class Made:
    """One file to write: samples (length,) or (length, channels) and their description."""

    file: str
    samples: Samples
    said: list[str]
    """One text a channel."""
    how: str


def make_clips() -> list[Made]:
    """Everything the repository bundles."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        british = ("en-gb+m3", 150)
        american = ("en-us+f2", 140)
        return [
            _digits(folder, "digits_british.flac", "zero one two three four five", *british),
            _digits(folder, "digits_american.flac", "six seven eight nine zero one", *american),
            _flite_digits(folder, "digits_flite.flac", "three one four one five nine two six"),
            _telephone(folder, "digits_telephone.flac", "eight zero zero five five five two"),
            _quiet(folder, "digits_quiet.flac", "nine four six one three"),
            _long(folder, "digits_long.flac"),
            Made("silence.flac", _silence(3.0), [""], "digital silence"),
            Made(
                "ringing.flac",
                np.concatenate([_ring(), _keys("5550123"), _ring()]),
                [""],
                "United States ring tone, the DTMF keys 5550123, ring tone",
            ),
            _call(folder, "call_stereo.flac"),
        ]


def write_clips(clips: list[Made], folder: Path) -> None:
    """FLAC files of 16 bits and clips.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        soundfile.write(folder / clip.file, clip.samples, SAMPLE_RATE, subtype="PCM_16")
    described = [
        {key: value for key, value in asdict(clip).items() if key != "samples"}
        | {"seconds": round(len(clip.samples) / SAMPLE_RATE, 2)}
        for clip in clips
    ]
    (folder / "clips.json").write_text(json.dumps(described, indent=1) + "\n")


def _espeak(folder: Path, text: str, voice: str, speed: int) -> Samples:
    command = ("espeak-ng", "-v", voice, "-s", str(speed), text.replace(" ", ", "), "-w")
    return _spoken(folder, command, voice)


def _flite(folder: Path, text: str, voice: str) -> Samples:
    command = ("flite", "-voice", voice, "-t", text.replace(" ", ", "), "-o")
    return _spoken(folder, command, voice)


def _spoken(folder: Path, command: tuple[str, ...], voice: str) -> Samples:
    clip = speak(Utterance(command, (), voice), folder)
    return clip.samples.astype(np.float32) / 32767


def _digits(folder: Path, file: str, text: str, voice: str, speed: int) -> Made:
    samples = _padded(_espeak(folder, text, voice, speed))
    return Made(file, samples, [text], f"espeak-ng, voice {voice}, {speed} words a minute")


def _flite_digits(folder: Path, file: str, text: str) -> Made:
    return Made(file, _padded(_flite(folder, text, "slt")), [text], "flite, voice slt")


def _telephone(folder: Path, file: str, text: str) -> Made:
    samples = augment.mulaw_8k(0.5 * _padded(_flite(folder, text, "rms")))
    return Made(file, samples, [text], "flite, voice rms, through 8 kHz mu-law")


def _quiet(folder: Path, file: str, text: str) -> Made:
    samples = 0.01 * _padded(_espeak(folder, text, "en-us+m1", 150))
    return Made(file, samples, [text], "espeak-ng, voice en-us+m1, turned down by 40 dB")


def _long(folder: Path, file: str) -> Made:
    """Longer than one chunk of 30 s, with pauses to cut at."""
    texts = [
        "one two three four five",
        "five four three two one",
        "nine eight seven",
        "zero zero seven",
        "two four six eight",
        "one three five seven nine",
        "six six six",
        "four one eight two",
        "seven three zero five",
        "eight nine",
    ]
    pause = _silence(1.4)
    voices = ("slt", "rms")
    pieces = []
    for number, text in enumerate(texts):
        pieces += [_flite(folder, text, voices[number % 2]), pause]
    return Made(
        file,
        np.concatenate([_silence(0.3), *pieces]),
        [" ".join(texts)],
        "flite, voices slt and rms in turn, pauses of 1.4 s",
    )


def _call(folder: Path, file: str) -> Made:
    """Two parties on two channels, one after the other."""
    turns = [
        (0, "five five five zero one two"),
        (1, "seven three nine"),
        (0, "four eight"),
        (1, "six one two zero"),
    ]
    channels: list[list[Samples]] = [[], []]
    said: list[list[str]] = [[], []]
    for channel, text in turns:
        voice = "slt" if channel == 0 else "awb"
        speech = _padded(_flite(folder, text, voice))
        channels[channel].append(speech)
        channels[1 - channel].append(np.zeros_like(speech))
        said[channel].append(text)
    samples = np.stack([np.concatenate(channel) for channel in channels], axis=1)
    texts = [" ".join(spoken) for spoken in said]
    return Made(file, samples, texts, "flite, voice slt on the left, awb on the right")


def _padded(samples: Samples) -> Samples:
    return np.concatenate([_silence(0.3), samples, _silence(0.3)])


def _silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _ring() -> Samples:
    return np.concatenate([_tones((440, 480), 2.0), _silence(1.0)])


def _keys(keys: str) -> Samples:
    """Each key for 150 ms and as long a pause (ITU-T Q.23)."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    pieces = []
    for key in keys:
        row, column = divmod("123456789*0#".index(key), 3)
        pieces += [_tones((rows[row], columns[column]), 0.15), _silence(0.15)]
    return np.concatenate(pieces)


def _tones(pitches: tuple[int, ...], seconds: float) -> Samples:
    moments = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = [0.15 * np.sin(2 * np.pi * pitch * moments) for pitch in pitches]
    return np.sum(waves, axis=0).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Synthesise the bundled clips.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    write_clips(make_clips(), parser.parse_args().folder)


if __name__ == "__main__":
    main()
