"""Measure a checkpoint on human recordings never trained on and on sounds without words.

    python -m tools.tiny_model.evaluate CHECKPOINT [--json FILE] [--synthesised FOLDER] [--quick]

The recordings are found as tests/speech.py finds them. Rates are per cent of the words spoken.
"""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tests import speech
from tests.speech import Spoken
from tools.tiny_model.corpus import SAMPLE_RATE, Samples, load_clips, words
from tools.tiny_model.recognise import Recogniser

logger = logging.getLogger(__name__)

DEFAULT_CHUNK_SECONDS = 30.0
SPEAKERS = (*speech.KNOWN_SPEAKERS, speech.UNSEEN_SPEAKER)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one set: clips, words spoken, words wrong and clips without any mistake, in per cent."""

    name: str
    clips: int
    words: int
    word_error_rate: float
    right_clips: float


def evaluate(recogniser: Recogniser, strings: int, chunk_seconds: float) -> list[Result]:
    """The whole table; ``strings`` of 3-12 digits for each speaker and condition."""
    human = {speaker: speech.digit_strings(speaker, strings, seed=7) for speaker in SPEAKERS}
    known = [spoken for name in speech.KNOWN_SPEAKERS for spoken in human[name]]
    known = known[:: len(speech.KNOWN_SPEAKERS)]
    unseen = human[speech.UNSEEN_SPEAKER]
    groups = {"known speakers": known, "unseen speaker": unseen}
    results = [_measure(recogniser, f"speaker {name}", clips) for name, clips in human.items()]
    for condition, change in CONDITIONS.items():
        for group, clips in groups.items():
            changed = [_changed(spoken, change) for spoken in clips]
            results.append(_measure(recogniser, f"{group}, {condition}", changed))
    for group, speakers in (
        ("known speakers", speech.KNOWN_SPEAKERS),
        ("unseen speaker", (speech.UNSEEN_SPEAKER,)),
    ):
        count = max(4, strings // 8)
        results += _long_results(recogniser, group, speakers, count, chunk_seconds)
    results += [_single_digits(recogniser, speaker) for speaker in SPEAKERS]
    results.append(_non_speech(recogniser, speech.non_speech_clips()))
    for result in results:
        logger.info("%s", result)
    return results


CONDITIONS: dict[str, Callable[[Samples], Samples]] = {
    "8 kHz mu-law": speech.mulaw_8k,
    "8 kHz mu-law at -40 dBFS": lambda samples: speech.mulaw_8k(speech.at_level(samples, -40)),
    "at -48 dBFS": lambda samples: speech.at_level(samples, -48),
    "pink noise 20 dB below": lambda samples: speech.with_noise(samples, 20, seed=5),
    "pink noise 10 dB below": lambda samples: speech.with_noise(samples, 10, seed=5),
}


def chunk_seconds_of(checkpoint: Path) -> float:
    """The longest piece this checkpoint asks for, else 30 s."""
    config = json.loads((checkpoint / "config.json").read_text())
    return float(config.get("max_chunk_seconds", DEFAULT_CHUNK_SECONDS))


def cut_at_quiet_points(samples: Samples, longest: float) -> list[Samples]:
    """Pieces of at most ``longest`` seconds, each cut in the quietest 100 ms of its last 5 s."""
    limit, reach, step = (int(x * SAMPLE_RATE) for x in (longest, 5.0, 0.1))
    pieces = []
    while len(samples) > limit:
        stretch = samples[limit - reach : limit]
        energy = np.square(stretch[: len(stretch) // step * step]).reshape(-1, step).sum(1)
        cut = limit - reach + int(energy.argmin()) * step + step // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def _changed(spoken: Spoken, change: Callable[[Samples], Samples]) -> Spoken:
    return Spoken(change(spoken.samples), spoken.sample_rate, spoken.text)


def _measure(recogniser: Recogniser, name: str, clips: list[Spoken]) -> Result:
    heard = recogniser.transcribe([spoken.samples for spoken in clips])
    return _result(name, [(spoken.text, text) for spoken, text in zip(clips, heard, strict=True)])


def _result(name: str, pairs: list[tuple[str, str]]) -> Result:
    for said, heard in pairs:
        if said != heard:
            logger.debug("%s: said %r, heard %r", name, said, heard)
    return Result(
        name,
        clips=len(pairs),
        words=sum(len(said.split()) for said, _ in pairs),
        word_error_rate=round(100 * speech.word_error_rate(pairs), 2),
        right_clips=round(100 * sum(said == heard for said, heard in pairs) / len(pairs), 1),
    )


def _long_results(
    recogniser: Recogniser,
    group: str,
    speakers: tuple[str, ...],
    count: int,
    chunk_seconds: float,
) -> list[Result]:
    """One piece of 15 and 30 s; 60 to 120 s in chunks, beside the strings they are joined of."""
    results = []
    for seconds in (15, 30):
        clips = [
            speech.long_string(seconds, speakers[n % len(speakers)], seed=n)
            for n in range(2 * count)
        ]
        results.append(_measure(recogniser, f"{group}, {seconds} s in one piece", list(clips)))
    lengths = (60, 90, 120)
    long = [
        speech.long_string(lengths[n % 3], speakers[n % len(speakers)], seed=100 + n)
        for n in range(count)
    ]
    pairs = []
    for spoken in long:
        heard = recogniser.transcribe(cut_at_quiet_points(spoken.samples, chunk_seconds))
        pairs.append((spoken.text, " ".join(filter(None, heard))))
    results.append(_result(f"{group}, 60-120 s in chunks of at most {chunk_seconds:.0f} s", pairs))
    parts = [part for spoken in long for part in spoken.parts]
    return [*results, _measure(recogniser, f"{group}, the same in its 3-12 digit parts", parts)]


def _single_digits(recogniser: Recogniser, speaker: str) -> Result:
    margin = int(0.1 * SAMPLE_RATE)
    clips = [
        Spoken(np.pad(samples, margin), SAMPLE_RATE, words((digit,)))
        for digit, recordings in enumerate(speech.held_out(speaker))
        for samples in recordings[:10]
    ]
    return _measure(recogniser, f"speaker {speaker}, one digit at a time", clips)


def _non_speech(recogniser: Recogniser, sounds: list[speech.Sound]) -> Result:
    """Here ``right_clips`` is the share of clips that gave no text."""
    heard = recogniser.transcribe([sound.samples for sound in sounds])
    for sound, text in zip(sounds, heard, strict=True):
        if text:
            logger.info("heard %r in %s", text, sound.name)
    silent = sum(not text for text in heard)
    return Result("no speech", len(sounds), 0, 0.0, round(100 * silent / len(sounds), 1))


def synthetic_results(recogniser: Recogniser, folder: Path) -> list[Result]:
    """Strings of espeak-ng variants never trained on, and strings of flite's five voices."""
    results = []
    for name in ("espeak_test", "flite_test"):
        clips = [
            Spoken(clip.samples.astype(np.float32) / 32767, SAMPLE_RATE, words(clip.digits))
            for clip in load_clips(folder / f"{name}.npz")
        ]
        results.append(_measure(recogniser, name.replace("_", " "), clips))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a checkpoint's word error rates.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--synthesised", type=Path, help="also measure the synthesised test sets")
    parser.add_argument("--quick", action="store_true", help="a fifth of the strings")
    parser.add_argument("--mistakes", action="store_true", help="print what was heard wrongly")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    level = logging.DEBUG if options.mistakes else logging.INFO
    logging.getLogger(__name__).setLevel(level)
    logger.setLevel(level)
    recogniser = Recogniser(options.checkpoint)
    strings = 20 if options.quick else 100
    results = evaluate(recogniser, strings, chunk_seconds_of(options.checkpoint))
    if options.synthesised:
        results += synthetic_results(recogniser, options.synthesised)
    print(table(results))
    if options.json:
        rows = [asdict(result) for result in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def table(results: list[Result]) -> str:
    """Markdown for the model card."""
    lines = ["| set | clips | words | WER % | clips right % |", "|---|---|---|---|---|"]
    for result in results:
        rate = f"{result.word_error_rate:.2f}" if result.words else "-"
        lines.append(
            f"| {result.name} | {result.clips} | {result.words} | {rate} | {result.right_clips} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
