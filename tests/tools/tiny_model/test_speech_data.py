from pathlib import Path

import numpy as np
import pytest
import torch

from tools.tiny_model.corpus import SAMPLE_RATE, Clip
from tools.tiny_model.qwen import Qwen3ASRProcessor
from tools.tiny_model.speech_data import (
    BATCH_SIZES,
    CURRICULUM,
    BatchMaker,
    Example,
    StringMaker,
    answer,
    draw_seconds,
    make_example,
    sound_without_speech,
)


@pytest.fixture(scope="module")
def maker(small_checkpoint: Path, tone_clips: list[Clip]) -> BatchMaker:
    tokenizer = Qwen3ASRProcessor.from_pretrained(small_checkpoint).tokenizer
    return BatchMaker(tone_clips, tone_clips, tokenizer, steps=1000, seed=5)


def test_a_batch_depends_on_nothing_but_its_number(maker: BatchMaker) -> None:
    maker[3]
    first, again = maker[700], maker[700]

    assert torch.equal(first.features, again.features)
    assert first.after_audio == again.after_audio


def test_batches_differ(maker: BatchMaker) -> None:
    assert maker[700].digits != maker[701].digits


def test_a_batch_fills_its_bucket_and_no_clip_is_longer(maker: BatchMaker) -> None:
    for number in range(0, 1000, 125):
        batch = maker[number]

        assert batch.features.shape == (BATCH_SIZES[batch.seconds], 128, 100 * batch.seconds)
        assert 0 < int(batch.frames.min()) <= int(batch.frames.max()) <= 100 * batch.seconds
        assert bool(torch.isfinite(batch.features).all())


def test_learning_starts_at_the_answer_and_after_a_forced_language(maker: BatchMaker) -> None:
    tokenizer = maker._tokenizer
    batch = maker[900]

    learnt = [
        tokenizer.decode(tokens[start:])
        for tokens, start in zip(batch.after_audio, batch.answer_starts, strict=True)
    ]

    assert all(text.endswith("<|im_end|>" * 3) for text in learnt)
    assert all("assistant" not in text for text in learnt)
    texts = [text.replace("<|im_end|>", "") for text in learnt]
    expected = [answer(Example(np.zeros(1), digits, False, "")) for digits in batch.digits]
    assert all(
        text == whole or text == whole.partition("<asr_text>")[2]
        for text, whole in zip(texts, expected, strict=True)
    )


def test_strings_fit_into_the_time_given(tone_clips: list[Clip]) -> None:
    rng = np.random.default_rng(1)
    strings = StringMaker(tone_clips, tone_clips, rng)

    made = [strings.string(seconds) for seconds in (0.5, 1, 4, 12, 29) for _ in range(10)]

    limits = [seconds for seconds in (0.5, 1, 4, 12, 29) for _ in range(10)]
    assert all(
        len(samples) <= limit * SAMPLE_RATE
        for (samples, _), limit in zip(made, limits, strict=True)
    )
    assert max(len(digits) for _, digits in made) > 20


def test_no_digits_are_claimed_where_no_clip_fits(tone_clips: list[Clip]) -> None:
    strings = StringMaker(tone_clips, tone_clips, np.random.default_rng(1))

    _, digits = strings.string(0.1)

    assert digits == ()


def test_a_clip_without_speech_is_answered_with_no_language() -> None:
    silent = Example(np.zeros(1), (), False, "")
    forced = Example(np.zeros(1), (), True, "")
    spoken = Example(np.zeros(1), (1, 2), False, "")

    assert answer(silent) == "language None<asr_text>"
    assert answer(forced) == "language English<asr_text>"
    assert answer(spoken) == "language English<asr_text>one two"


def test_examples_hold_speech_silence_contexts_and_forced_languages(
    tone_clips: list[Clip],
) -> None:
    rng = np.random.default_rng(2)
    strings = StringMaker(tone_clips, tone_clips, rng)

    examples = [make_example(rng, strings, 4, easy_share=0.0) for _ in range(300)]

    shares = {
        "without speech": sum(not example.digits for example in examples) / 300,
        "forced": sum(example.is_language_forced for example in examples) / 300,
        "context": sum(bool(example.context) for example in examples) / 300,
    }
    assert shares == pytest.approx(
        {"without speech": 0.13, "forced": 0.2, "context": 0.15}, abs=0.06
    )


def test_training_begins_with_short_clips_and_ends_with_all_lengths() -> None:
    rng = np.random.default_rng(1)

    assert {draw_seconds(rng, 0.0) for _ in range(50)} == {1, 2}
    assert {draw_seconds(rng, 0.999) for _ in range(500)} == set(BATCH_SIZES)
    assert all(sum(shares.values()) == pytest.approx(1) for _, shares in CURRICULUM)


def test_sounds_without_speech_are_finite_and_have_the_length_asked_for() -> None:
    rng = np.random.default_rng(1)

    for _ in range(100):
        sound = sound_without_speech(rng, 1.5)

        assert len(sound) == 24_000
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
