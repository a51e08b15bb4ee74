from pathlib import Path

import pytest
import torch

from tests.tools.tiny_model.conftest import SMALL
from tools.tiny_model.corpus import Clip
from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration
from tools.tiny_model.speech_data import BatchMaker
from tools.tiny_model.train import Recipe, Run, ctc_loss, learning_rate, learnt_tokens, train

RECIPE = Recipe(steps=4, warm_up_steps=2, shape=SMALL)


def batches(run: Run, clips: list[Clip]) -> BatchMaker:
    return BatchMaker(clips, clips, run.processor.tokenizer, steps=100, seed=1)


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, tone_clips: list[Clip]
) -> None:
    whole = Run(RECIPE, tmp_path / "whole")
    maker = batches(whole, tone_clips)
    train(whole, iter([maker[n] for n in range(4)]), save_every=2, log_every=2)
    interrupted = Run(RECIPE, tmp_path / "interrupted")
    train(interrupted, iter([maker[n] for n in range(3)]), save_every=2, log_every=2)

    resumed = Run(RECIPE, tmp_path / "interrupted")
    resumed.resume()
    assert resumed.step == 2
    train(resumed, iter([maker[n] for n in range(2, 4)]), save_every=2, log_every=2)

    for one, other in zip(whole.average, resumed.average, strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(whole.parameters, resumed.parameters, strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_leaves_its_averaged_weights_as_a_loadable_checkpoint(
    tmp_path: Path, tone_clips: list[Clip]
) -> None:
    run = Run(RECIPE, tmp_path)
    maker = batches(run, tone_clips)

    train(run, iter([maker[n] for n in range(4)]), save_every=100, log_every=100)

    loaded = Qwen3ASRForConditionalGeneration.from_pretrained(tmp_path / "model")
    for stored, average in zip(loaded.parameters(), run.average, strict=True):
        torch.testing.assert_close(stored, average)


def test_another_recipe_does_not_continue_a_stored_run(tmp_path: Path) -> None:
    Run(RECIPE, tmp_path).save()

    other = Run(Recipe(steps=5, shape=SMALL), tmp_path)

    with pytest.raises(ValueError, match="another recipe"):
        other.resume()


def test_learning_lowers_the_losses(tmp_path: Path, tone_clips: list[Clip]) -> None:
    run = Run(Recipe(steps=100, warm_up_steps=1, peak_learning_rate=0.01, shape=SMALL), tmp_path)
    batch = batches(run, tone_clips)[0]

    losses = [run.learn(batch)["answer"] for _ in range(15)]

    assert losses[-1] < 0.6 * losses[0]


def test_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    recipe = Recipe(steps=1000, warm_up_steps=10, peak_learning_rate=1.0)

    rates = [learning_rate(recipe, step) for step in range(1000)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(0.01, abs=0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_each_token_is_predicted_from_the_place_before_it(
    tmp_path: Path, tone_clips: list[Clip]
) -> None:
    batch = batches(Run(RECIPE, tmp_path), tone_clips)[2]
    audio_tokens = [7] * len(batch.before_audio)

    rows, places, targets, is_trailing = learnt_tokens(batch, audio_tokens)

    for row, place, target in zip(rows, places, targets, strict=True):
        sequence = [*batch.before_audio[row], *[-1] * 7, *batch.after_audio[row]]
        assert sequence[place + 1] == target
    assert sum(is_trailing) == 2 * len(batch.before_audio)


def test_alignment_loss_ignores_clips_without_digits_or_room_for_them() -> None:
    scores = torch.zeros(3, 4, 11)
    tokens = torch.tensor([4, 4, 1])

    loss = ctc_loss(scores, tokens, [(), (3,), (1, 2, 3)])
    alone = ctc_loss(scores[1:2], tokens[1:2], [(3,)])

    torch.testing.assert_close(loss, alone)
    assert float(ctc_loss(scores, tokens, [(), (), ()])) == 0
