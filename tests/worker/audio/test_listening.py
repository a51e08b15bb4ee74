"""People's recordings cut with the real detector of speech."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import speech
from worker.audio import SAMPLE_RATE
from worker.audio.chunking import Chunk, Chunker
from worker.audio.vad import SpeechModel, VoiceActivity
from worker.segments import segments_of

MODEL = SpeechModel()


def cut(samples: NDArray[np.float32]) -> list[Chunk]:
    chunker = Chunker(30, 60, lambda: VoiceActivity(MODEL))
    blocks = [samples[start : start + 160_000] for start in range(0, len(samples), 160_000)]
    return [chunk for block in blocks for chunk in chunker.push(block)] + chunker.finish()


@speech.needs_human_speech
@pytest.mark.parametrize("speaker", [speech.UNSEEN_SPEAKER, *speech.KNOWN_SPEAKERS[:2]])
@pytest.mark.parametrize("dbfs", [-20, -48])
def test_no_cut_falls_into_a_word_and_no_word_is_left_out(speaker: str, dbfs: float) -> None:
    clean = speech.long_string(120, speaker, seed=11).samples
    spoken = speech.at_level(clean, dbfs)

    chunks = cut(spoken)

    assert len(chunks) >= 4
    for chunk in chunks[:-1]:
        assert np.abs(clean[chunk.end - 480 : chunk.end + 480]).max() < 0.02
    outside = np.ones(len(clean), np.bool_)
    for chunk in chunks:
        for span in chunk.spans:
            outside[span.start : span.end] = False
    loud = np.abs(clean) > 0.05
    assert loud[outside].sum() < 0.02 * loud.sum()


@speech.needs_human_speech
def test_ringing_and_keys_around_a_sentence_are_left_to_no_model() -> None:
    [words] = speech.digit_strings(speech.UNSEEN_SPEAKER, 1, seed=3)
    keys = speech.dtmf("0123456789*#" * 20)
    call = np.concatenate([keys, speech.mulaw_8k(words.samples), keys])

    chunks = cut(call)

    speaking = [chunk for chunk in chunks if not chunk.is_silent]
    assert len(speaking) < len(chunks)
    for chunk in speaking:
        for span in chunk.spans:
            assert len(keys) - SAMPLE_RATE // 5 < span.start
            assert span.end < len(keys) + len(words.samples) + SAMPLE_RATE // 5


@speech.needs_human_speech
def test_two_people_in_two_channels_are_told_apart() -> None:
    [first] = speech.digit_strings(speech.UNSEEN_SPEAKER, 1, seed=4)
    [second] = speech.digit_strings(speech.KNOWN_SPEAKERS[0], 1, seed=4)
    length = len(first.samples) + len(second.samples)
    call = np.zeros((length, 2), np.float32)
    call[: len(first.samples), 0] = first.samples
    call[len(first.samples) :, 1] = second.samples

    (chunk,) = cut(call)

    left, right = chunk.turns
    assert (left.channel, right.channel) == (0, 1)
    assert left.spans[-1].end <= len(first.samples) <= right.spans[0].start


@speech.needs_human_speech
def test_most_estimated_words_are_where_they_are_said() -> None:
    rng = np.random.default_rng(1)
    met: list[bool] = []
    for speaker in [speech.UNSEEN_SPEAKER, *speech.KNOWN_SPEAKERS[:3]] * 5:
        met += words_met(speech.held_out(speaker), rng.integers(0, 10, rng.integers(6, 40)), rng)

    assert sum(met) >= 0.8 * len(met)


def words_met(
    takes: tuple[tuple[NDArray[np.float32], ...], ...],
    digits: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[bool]:
    """For each digit of a string whether its estimate overlaps with it."""
    said, pieces, position = [], [np.zeros(3_200, np.float32)], 3_200
    for digit in digits:
        take = takes[digit][rng.integers(len(takes[digit]))]
        said.append((position, position + len(take)))
        pieces += [take, np.zeros(rng.integers(800, 8_000), np.float32)]
        position = sum(map(len, pieces))
    (chunk,) = cut(np.concatenate(pieces))
    text = " ".join(speech.DIGIT_WORDS[digit] for digit in digits)
    segments = segments_of(text, "English", chunk.spans, start=0, end=chunk.end)
    words = [word for segment in segments for word in segment.words]
    return [
        word.start < end and word.end > start
        for word, (start, end) in zip(words, said, strict=True)
    ]
