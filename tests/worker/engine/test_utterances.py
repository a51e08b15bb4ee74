"""What is kept of an utterance between its steps."""

import torch
from torch import Tensor

from tests.worker.engine.test_mel import CPU, PREPROCESSOR, noise
from worker.engine.mel import LogMel
from worker.engine.mel_stream import MelStream
from worker.engine.utterances import Utterance, UtteranceStep

LOG_MEL = LogMel(PREPROCESSOR, CPU)
WINDOW = 128_000
BEFORE = [7, 8, 9]
SAMPLES = torch.from_numpy(noise(3 * WINDOW))


def an_utterance() -> Utterance:
    return Utterance(MelStream(LOG_MEL, 800))


def encoded(utterance: Utterance, step: UtteranceStep) -> UtteranceStep:
    for index, features in step.features.items():
        utterance.keep(step, index, audio_of(features))
    return step


def audio_of(features: Tensor) -> Tensor:
    """13 tokens a second, of no meaning."""
    return torch.zeros(features.shape[1] * 13 // 100, 4)


def begun(utterance: Utterance, samples: int, before: list[int] | None = None) -> UtteranceStep:
    return utterance.begin(SAMPLES[:samples], before or BEFORE)


def test_a_complete_window_is_encoded_once() -> None:
    utterance = an_utterance()
    first = encoded(utterance, begun(utterance, WINDOW + 9_000))
    assert list(first.features) == [0, 1]

    second = begun(utterance, WINDOW + 50_000)

    assert list(second.features) == [1]
    assert list(second.audio) == [0]
    assert second.unchanged_tokens == len(BEFORE) + 104


def test_what_was_not_encoded_in_one_step_is_in_the_next() -> None:
    utterance = an_utterance()
    begun(utterance, WINDOW + 9_000)

    second = begun(utterance, WINDOW + 50_000)

    assert list(second.features) == [0, 1]
    assert second.unchanged_tokens == len(BEFORE)


def test_without_new_samples_nothing_is_encoded() -> None:
    utterance = an_utterance()
    encoded(utterance, begun(utterance, WINDOW + 16_000))

    second = begun(utterance, WINDOW + 16_000)

    assert not second.features
    assert second.unchanged_tokens == len(BEFORE) + 104 + 13


def test_other_words_before_the_audio_change_all_rows_and_no_audio() -> None:
    utterance = an_utterance()
    encoded(utterance, begun(utterance, WINDOW + 9_000))

    second = begun(utterance, WINDOW + 50_000, before=[7, 8])
    third = begun(utterance, WINDOW + 50_000, before=[7, 8])

    assert (second.unchanged_tokens, list(second.audio)) == (0, [0])
    assert third.unchanged_tokens == 2 + 104


def test_of_a_past_step_nothing_is_kept() -> None:
    utterance = an_utterance()
    past = begun(utterance, WINDOW + 9_000)
    assert utterance.is_latest(past)
    later = begun(utterance, WINDOW + 20_000)

    encoded(utterance, past)

    assert not utterance.is_latest(past)
    assert utterance.is_latest(later)
    assert list(begun(utterance, WINDOW + 50_000).features) == [0, 1]


def test_it_grows_and_does_not_shrink() -> None:
    utterance = an_utterance()
    begun(utterance, 20_000)

    assert utterance.could_grow_to(SAMPLES[:20_000].numpy())
    assert not utterance.could_grow_to(SAMPLES[:19_999].numpy())
