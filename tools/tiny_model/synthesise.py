"""Digit strings spoken by Debian's espeak-ng and flite.

    python -m tools.tiny_model.synthesise OUT_FOLDER

writes espeak_train, espeak_test (variants never trained on), flite_train and flite_test ``.npz``.
"""

import argparse
import logging
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tools.tiny_model.corpus import DIGIT_WORDS, SAMPLE_RATE, Clip, save_clips, to_clip

logger = logging.getLogger(__name__)

ESPEAK_ACCENTS = """
    en-us en-gb en-gb-scotland en-gb-x-rp en-gb-x-gbcwmd en-gb-x-gbclan en-029 en-us-nyc
""".split()  # noqa: SIM905
ESPEAK_TRAIN_VARIANTS = """
    m1 m2 m3 m4 m6 m7 m8 f1 f2 f3 f5 klatt klatt3 klatt4 klatt6 Alex Andy Annie Denis Diogo Gene
    Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Storm adam anika antonio aunty belinda
    benjamin boris caleb david ed edward edward2 grandma grandpa gustave iven iven2 iven3 iven4
    john linda marcelo max miguel norbert pablo paul pedro quincy rob sandro shelby steph steph3
    travis zac
""".split()  # noqa: SIM905
ESPEAK_TEST_VARIANTS = """
    f4 m5 klatt2 Mike Andrea robert steph2 michel victor Alicia
""".split()  # noqa: SIM905
FLITE_PITCH_HZ = {"kal": 105, "kal16": 105, "awb": 130, "rms": 105, "slt": 175}
FLITE_VOICES = ["kal", "kal16", "awb", "awb", "rms", "rms", "slt", "slt"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One string for one voice: ``command`` writes a wave file to the path appended to it."""

    command: tuple[str, ...]
    digits: tuple[int, ...]
    voice: str


def espeak_utterance(rng: random.Random, variants: list[str]) -> Utterance:
    """A random string by a random accent and variant, 110-230 words a minute."""
    digits = _random_digits(rng)
    voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(variants)}"
    text = rng.choice([" ", " ", ", ", ". "]).join(DIGIT_WORDS[digit] for digit in digits)
    word_gap = ["-g", str(rng.randrange(8))] if rng.random() < 0.2 else []
    command = ["espeak-ng", "-v", voice, "-s", str(rng.randint(110, 230))]
    command += ["-p", str(rng.randint(20, 80)), *word_gap, text, "-w"]
    return Utterance(tuple(command), digits, f"espeak:{voice}")


def flite_utterance(rng: random.Random) -> Utterance:
    """A random string by one of flite's five voices at a random speed and pitch."""
    digits = _random_digits(rng)
    voice = rng.choice(FLITE_VOICES)
    pitch = int(FLITE_PITCH_HZ[voice] * rng.uniform(0.75, 1.35))
    stretch = rng.uniform(0.75, 1.4)
    text = rng.choice([" ", " ", ", "]).join(DIGIT_WORDS[digit] for digit in digits)
    command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.2f}"]
    command += ["--setf", f"int_f0_target_mean={pitch}", "-t", text, "-o"]
    return Utterance(tuple(command), digits, f"flite:{voice}")


def speak(utterance: Utterance, folder: Path) -> Clip:
    """Run the synthesiser and trim the silence around the speech."""
    path = folder / f"{id(utterance)}.wav"
    subprocess.run([*utterance.command, str(path)], check=True, capture_output=True)
    samples, rate = soundfile.read(path, dtype="float32")
    path.unlink()
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max(initial=1e-3))
    if len(loud) == 0:
        raise ValueError(f"{' '.join(utterance.command)} gave no sound")
    start, end = max(0, loud[0] - rate // 50), loud[-1] + rate // 20
    return to_clip(samples[start:end], rate, utterance.digits, utterance.voice)


def speak_all(utterances: list[Utterance]) -> list[Clip]:
    """Clips in the order of the utterances; two synthesisers run at a time."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda utterance: speak(utterance, Path(folder)), utterances))


def _random_digits(rng: random.Random) -> tuple[int, ...]:
    (count,) = rng.choices(range(1, 8), weights=[4, 2, 2, 2, 2, 1, 1])
    return tuple(rng.randrange(10) for _ in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description="Synthesise the training's digit strings.")
    parser.add_argument("folder", type=Path, help="where the .npz files go (about 350 MB)")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    sets = {
        "espeak_train": [espeak_utterance(rng, ESPEAK_TRAIN_VARIANTS) for _ in range(5000)],
        "espeak_test": [espeak_utterance(rng, ESPEAK_TEST_VARIANTS) for _ in range(200)],
        "flite_train": [flite_utterance(rng) for _ in range(2000)],
        "flite_test": [flite_utterance(rng) for _ in range(200)],
    }
    for name, utterances in sets.items():
        clips = speak_all(utterances)
        save_clips(folder / f"{name}.npz", clips)
        seconds = sum(len(clip.samples) for clip in clips) / SAMPLE_RATE
        logger.info("%s: %d strings, %.0f s", name, len(clips), seconds)


if __name__ == "__main__":
    main()
