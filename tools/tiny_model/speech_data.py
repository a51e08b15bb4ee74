"""Training batches, made up on the fly: batch number n is a pure function of the seed and n.

So training needs no stored data beyond the clips, never sees an example twice, and continues after
an interruption exactly where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2TokenizerFast

from tools.tiny_model import augment, non_speech
from tools.tiny_model.build import OTHER_WORDS, TEXT_MARK
from tools.tiny_model.corpus import DIGIT_WORDS, SAMPLE_RATE, Clip, Samples, words
from tools.tiny_model.network import log_mel

Generator = np.random.Generator

BATCH_SIZES = {1: 56, 2: 36, 4: 20, 8: 10, 16: 5, 32: 3}
"""Seconds -> clips a batch. Few fixed shapes, because oneDNN compiles a kernel for each."""

CURRICULUM: list[tuple[float, dict[int, float]]] = [
    (0.035, {1: 0.6, 2: 0.4}),
    (0.10, {1: 0.3, 2: 0.35, 4: 0.35}),
    (0.20, {1: 0.1, 2: 0.2, 4: 0.3, 8: 0.25, 16: 0.15}),
    (0.34, {1: 0.08, 2: 0.14, 4: 0.24, 8: 0.26, 16: 0.18, 32: 0.1}),
    (1.0, {1: 0.07, 2: 0.11, 4: 0.2, 8: 0.22, 16: 0.2, 32: 0.2}),
]
"""Until this share of the training, lengths in seconds are drawn with these probabilities."""

NON_SPEECH_SHARE = 0.13
FORCED_LANGUAGE_SHARE = 0.2
CONTEXT_SHARE = 0.15
CONTEXT_WORDS = (
    DIGIT_WORDS
    + OTHER_WORDS
    + ["call", "number", "code", "order", "please", "customer", "agent", "account", "Vocabulary"]
    + ["phone", "pin", ":", ",", "."]
)
TRAILING_ENDS = 2
"""Further end marks after the first, lightly weighted: a caller that does not know this
checkpoint's end token then reads nothing but end marks."""


@dataclass(frozen=True, slots=True)
class Example:
    """One clip and what it says; no digits means no speech."""

    samples: Samples
    digits: tuple[int, ...]
    is_language_forced: bool
    context: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one bucket with their token sequences around the audio."""

    features: Tensor  # (clips, 128, frames)
    frames: Tensor  # (clips,) valid frames
    before_audio: list[list[int]]
    after_audio: list[list[int]]
    answer_starts: list[int]
    """Index into ``after_audio`` of the first token that is learnt."""
    digits: list[tuple[int, ...]]
    seconds: int


class StringMaker:
    """Joins clips of digits into strings, mostly one voice a string."""

    def __init__(self, human: Sequence[Clip], synthetic: Sequence[Clip], rng: Generator) -> None:
        self._human = human_by_voice_and_digit(human)
        self._speakers = sorted(self._human)
        self._synthetic = synthetic
        self._rng = rng

    def string(self, seconds: float) -> tuple[Samples, tuple[int, ...]]:
        """A string that fits into ``seconds``; no digits if none was short enough."""
        rng = self._rng
        room = int(seconds * SAMPLE_RATE)
        pace = rng.uniform(0.78, 1.28) if rng.random() < 0.6 else 1.0
        longest_gap = rng.choice([0.05, 0.15, 0.4, 0.8, 1.5])
        is_eventful = rng.random() < 0.06
        is_dialogue = rng.random() < 0.25
        is_human = rng.random() < 0.6
        speaker = rng.choice(self._speakers)
        longest_lead = 0.3 * seconds if rng.random() < 0.1 else min(0.6, 0.3 * seconds)
        pieces = [np.zeros(int(rng.uniform(0, longest_lead) * SAMPLE_RATE), np.float32)]
        if is_eventful and seconds > 4:
            pieces.append(self._event())
        digits: tuple[int, ...] = ()
        used = sum(map(len, pieces))
        failures = 0
        while failures < (1 if digits else 20):
            if is_dialogue and rng.random() < 0.5:
                speaker, is_human = rng.choice(self._speakers), rng.random() < 0.6
            spoken, clip = self._spoken(speaker if is_human else None, pace)
            gap = self._gap(longest_gap, is_eventful)
            if used + len(clip) > room:
                failures += 1
                continue
            pieces += [clip, gap]
            digits += spoken
            used += len(clip) + len(gap)
            if used >= room:
                break
        return np.concatenate(pieces)[:room], digits

    def _spoken(self, speaker: str | None, pace: float) -> tuple[tuple[int, ...], Samples]:
        rng = self._rng
        if speaker is None:
            clip = self._synthetic[rng.integers(len(self._synthetic))]
        else:
            choices = self._human[speaker][int(rng.integers(10))]
            clip = choices[rng.integers(len(choices))]
            pace *= rng.uniform(0.95, 1.05)
        samples = augment.respeed(clip.samples.astype(np.float32) / 32767, pace)
        return clip.digits, samples * 10 ** (rng.uniform(-6, 6) / 20)

    def _gap(self, longest: float, is_eventful: bool) -> Samples:
        rng = self._rng
        if is_eventful and rng.random() < 0.1:
            return self._event()
        pause = rng.uniform(1, 4) if rng.random() < 0.03 else rng.uniform(0, longest)
        return np.zeros(int(pause * SAMPLE_RATE), np.float32)

    def _event(self) -> Samples:
        """A signal between digits: a ring, keys, music."""
        rng = self._rng
        sound = non_speech.SOUNDS[rng.integers(len(non_speech.SOUNDS))]
        samples = sound(int(rng.uniform(0.3, 2.5) * SAMPLE_RATE), rng)
        edge = np.zeros(int(rng.uniform(0.1, 0.4) * SAMPLE_RATE), np.float32)
        return np.concatenate([edge, samples * 10 ** (-rng.uniform(15, 40) / 20), edge])


class BatchMaker:
    """Makes batch n; give each process its own copy."""

    def __init__(
        self,
        human: Sequence[Clip],
        synthetic: Sequence[Clip],
        tokenizer: Qwen2TokenizerFast,
        *,
        steps: int,
        seed: int,
    ) -> None:
        self._human, self._synthetic = human, synthetic
        self._tokenizer = tokenizer
        self._steps = steps
        self._seed = seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, step])
        progress = step / self._steps
        seconds = draw_seconds(rng, progress)
        strings = StringMaker(self._human, self._synthetic, rng)
        easy_share = max(0.0, 1 - progress / 0.075)
        examples = [
            make_example(rng, strings, seconds, easy_share) for _ in range(BATCH_SIZES[seconds])
        ]
        features, frames = log_mel([example.samples for example in examples], seconds)
        for feature, count in zip(features, frames.tolist(), strict=True):
            feature[:, :count] = torch.from_numpy(_vary(rng, feature[:, :count].numpy()))
        return self._tokenize(examples, features, frames, seconds)

    def _tokenize(
        self, examples: list[Example], features: Tensor, frames: Tensor, seconds: int
    ) -> Batch:
        encode = self._tokenizer.encode
        after = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
        text_mark = self._tokenizer.convert_tokens_to_ids(TEXT_MARK)
        before_audio, after_audio, answer_starts = [], [], []
        for example in examples:
            system = f"<|im_start|>system\n{example.context}<|im_end|>\n"
            before_audio.append(encode(f"{system}<|im_start|>user\n<|audio_start|>"))
            tokens = encode(after + answer(example) + "<|im_end|>" * (1 + TRAILING_ENDS))
            after_audio.append(tokens)
            is_forced = example.is_language_forced
            start = tokens.index(text_mark) + 1 if is_forced else len(encode(after))
            answer_starts.append(start)
        digits = [example.digits for example in examples]
        return Batch(features, frames, before_audio, after_audio, answer_starts, digits, seconds)


def human_by_voice_and_digit(clips: Sequence[Clip]) -> dict[str, list[list[Clip]]]:
    """Speaker -> digit -> recordings."""
    groups: dict[str, list[list[Clip]]] = {}
    for clip in clips:
        groups.setdefault(clip.voice, [[] for _ in range(10)])[clip.digits[0]].append(clip)
    return groups


def draw_seconds(rng: Generator, progress: float) -> int:
    """A bucket for this share of the training done."""
    shares = next(shares for until, shares in CURRICULUM if progress < until)
    return int(rng.choice(list(shares), p=list(shares.values())))


def answer(example: Example) -> str:
    """What the model is to print."""
    has_language = bool(example.digits) or example.is_language_forced
    language = "English" if has_language else "None"
    return f"language {language}{TEXT_MARK}{words(example.digits)}"


def make_example(rng: Generator, strings: StringMaker, seconds: int, easy_share: float) -> Example:
    """A clip of at most ``seconds``: usually a string of digits, else a sound without speech."""
    fill = rng.uniform(0.4, 0.97) if seconds <= 4 else rng.uniform(0.65, 0.97)
    digits: tuple[int, ...] = ()
    samples = np.zeros(0, np.float32)
    if rng.random() >= NON_SPEECH_SHARE:
        samples, digits = strings.string(fill * seconds)
    if not digits:
        samples = sound_without_speech(rng, fill * seconds)
    elif rng.random() < easy_share:
        samples = samples * np.float32(rng.uniform(0.3, 1.2))
    else:
        samples = augment.speech_path(rng, samples)
    has_context = rng.random() < CONTEXT_SHARE
    context = " ".join(rng.choice(CONTEXT_WORDS, rng.integers(1, 12))) if has_context else ""
    return Example(samples, digits, bool(rng.random() < FORCED_LANGUAGE_SHARE), context)


def sound_without_speech(rng: Generator, seconds: float) -> Samples:
    """Silence in one of five cases, else a noise, a telephone signal or music."""
    length = max(1600, int(seconds * SAMPLE_RATE))
    if rng.random() < 0.2:
        return non_speech.silence(length, rng)
    sound = non_speech.SOUNDS[rng.integers(len(non_speech.SOUNDS))]
    return augment.sound_path(rng, sound(length, rng))


def _vary(rng: Generator, log_mel_frames: augment.LogMel) -> augment.LogMel:
    varied = log_mel_frames.copy()
    if rng.random() < 0.55:
        varied = augment.warp_voice(rng, varied)
    if rng.random() < 0.3:
        varied = augment.tilt_spectrum(rng, varied)
    if rng.random() < 0.5:
        augment.mask_bands(rng, varied)
    if rng.random() < 0.3 and varied.shape[1] > 60:
        augment.mask_moments(rng, varied)
    return varied
