"""Batches over a tiny random model, with and without recorded graphs (played on the CPU)."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.worker.engine.tiny_runner import (
    SLOTS,
    TINY,
    PlayedCapture,
    first_row,
    tiny_runner,
)
from worker.engine.cuda_graphs import GraphCache
from worker.engine.rows import BROKEN, Choice, DecodeRow, TokenRun
from worker.engine.runner import TOKEN_BUCKETS, Runner, _drawn

PROMPTS = (37, 5, 64, 120, 1)
"""Tokens of the prompts of a mixed batch."""
STEPS = 12


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=["eager", "graphs"])
def runner(request: pytest.FixtureRequest) -> Runner:
    graphs = GraphCache(PlayedCapture()) if request.param == "graphs" else None
    return tiny_runner(graphs=graphs)


def hidden(tokens: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, TINY.text.width, generator=generator)


def prompt_run(slot: int, tokens: int, *, choice: Choice | None = None) -> TokenRun:
    prompt = hidden(tokens, seed=slot)
    return TokenRun(slot, first_row(slot), 0, prompt, picks=1, choice=choice or Choice())


def decode_row(slot: int, position: int, choice: Choice | None = None) -> DecodeRow:
    return DecodeRow(slot, first_row(slot), position, choice or Choice())


def generated(runner: Runner, slots: tuple[int, ...], steps: int = STEPS) -> dict[int, list[int]]:
    """What sequences in these slots say when they are prefilled and decoded together."""
    launched = runner.extend([prompt_run(slot, PROMPTS[slot]) for slot in slots])
    said = {slot: [pick] for slot, pick in zip(slots, launched.read()[0], strict=True)}
    for step in range(steps):
        rows = [decode_row(slot, PROMPTS[slot] + step) for slot in slots]
        for slot, pick in zip(slots, runner.decode(rows).read()[0], strict=True):
            said[slot].append(pick)
    return said


def test_random_weights_say_different_things(runner: Runner) -> None:
    said = generated(runner, (0, 1, 2, 3))

    assert len({tuple(tokens) for tokens in said.values()}) == 4
    assert len({token for tokens in said.values() for token in tokens}) > 12


def test_a_batch_gives_each_sequence_what_it_says_alone(runner: Runner) -> None:
    together = generated(runner, (0, 1, 2, 3, 4))

    for slot in range(5):
        assert generated(tiny_runner(), (slot,))[slot] == together[slot]


def test_sequences_join_and_leave_between_steps(runner: Runner) -> None:
    alone = {slot: generated(tiny_runner(), (slot,))[slot] for slot in (0, 2, 3)}
    said: dict[int, list[int]] = {0: [], 2: [], 3: []}

    def prefill(slot: int) -> None:
        said[slot] += runner.extend([prompt_run(slot, PROMPTS[slot])]).read()[0]

    def decode(*slots: int) -> None:
        rows = [decode_row(slot, PROMPTS[slot] + len(said[slot]) - 1) for slot in slots]
        for slot, pick in zip(slots, runner.decode(rows).read()[0], strict=True):
            said[slot].append(pick)

    prefill(0)
    decode(0)
    prefill(2)
    decode(0, 2)
    decode(2, 0)
    prefill(3)
    decode(3, 0, 2)
    decode(3, 2)
    decode(3)

    assert all(alone[slot][: len(tokens)] == tokens for slot, tokens in said.items())


def test_a_prompt_in_slices_says_what_it_says_in_one(runner: Runner) -> None:
    whole = generated(tiny_runner(), (3,))[3]
    prompt = hidden(PROMPTS[3], seed=3)

    for first, end in ((0, 50), (50, 51), (51, 99)):
        picks, _ = runner.extend([TokenRun(3, first_row(3), first, prompt[first:end])]).read()
        assert picks == []
    last = runner.extend([TokenRun(3, first_row(3), 99, prompt[99:], picks=1)])
    said = last.read()[0]
    for step in range(STEPS):
        said += runner.decode([decode_row(3, PROMPTS[3] + step)]).read()[0]

    assert said == whole


def test_one_pass_over_a_draft_verifies_every_token_of_it(runner: Runner) -> None:
    said = generated(tiny_runner(), (2,))[2]
    prompt = hidden(PROMPTS[2], seed=2)
    drafted = torch.cat((prompt, runner.embed(said[:-1])))

    verified = runner.extend(
        [TokenRun(2, first_row(2), 0, drafted, picks=len(said)), prompt_run(0, PROMPTS[0])]
    )

    assert verified.read()[0] == [*said, generated(tiny_runner(), (0,))[0][0]]


def test_the_last_pick_of_a_verified_draft_is_decoded_on(runner: Runner) -> None:
    said = generated(tiny_runner(), (2,))[2]
    drafted = torch.cat((hidden(PROMPTS[2], seed=2), runner.embed(said[:5])))

    runner.extend([TokenRun(2, first_row(2), 0, drafted, picks=6)])
    following = runner.decode([decode_row(2, PROMPTS[2] + 6 - 1)]).read()[0]

    assert following == said[6:7]


def test_many_picks_are_scored_in_parts_and_told_as_one(
    monkeypatch: pytest.MonkeyPatch, runner: Runner
) -> None:
    drafts = {slot: hidden(PROMPTS[slot], seed=slot) for slot in (0, 2, 3)}
    choices = {slot: Choice(wants_logprob=slot == 2) for slot in drafts}
    picks = {0: 37, 2: 20, 3: 120}
    runs = [
        TokenRun(slot, first_row(slot), 0, drafts[slot], picks=picks[slot], choice=choices[slot])
        for slot in drafts
    ]
    whole = tiny_runner().extend(runs).read()
    monkeypatch.setattr("worker.engine.runner.SCORED_AT_ONCE", 24)

    found = runner.extend(runs).read()
    following = runner.decode([decode_row(2, PROMPTS[2])]).read()[0]

    assert found[0] == whole[0]
    assert found[1] == pytest.approx(whole[1], abs=1e-4)
    assert following == generated(tiny_runner(), (2,), steps=1)[2][1:]


def test_tokens_are_fed_back_without_being_read(runner: Runner) -> None:
    read_at_once = generated(tiny_runner(), (1,))[1]

    launched = [runner.extend([prompt_run(1, PROMPTS[1])])]
    launched += [runner.decode([decode_row(1, PROMPTS[1] + step)]) for step in range(STEPS)]

    assert [pick for one in launched for pick in one.read()[0]] == read_at_once


def test_a_region_taken_over_from_another_sequence_holds_nothing_of_it(runner: Runner) -> None:
    alone = generated(tiny_runner(), (1,))[1]
    longer = TokenRun(0, first_row(1), 0, hidden(90, seed=9), picks=1)
    runner.extend([longer])

    assert generated(runner, (1,))[1] == alone


def test_scores_that_are_not_finite_are_told_and_harm_no_neighbour(runner: Runner) -> None:
    alone = generated(tiny_runner(), (1,), steps=3)[1]
    broken = TokenRun(0, first_row(0), 0, torch.full((9, TINY.text.width), torch.nan), picks=1)

    said = runner.extend([broken, prompt_run(1, PROMPTS[1])]).read()[0]
    picks = [runner.decode([decode_row(0, 9), decode_row(1, PROMPTS[1])]).read()[0]]
    picks += [runner.decode([decode_row(0, 10), decode_row(1, PROMPTS[1] + 1)]).read()[0]]

    assert said[0] == BROKEN
    assert [pick[0] for pick in picks] == [BROKEN, BROKEN]
    assert [said[1], *(pick[1] for pick in picks)] == alone[:3]


def test_logprobs_are_those_of_the_chosen_tokens(runner: Runner) -> None:
    wanted = Choice(wants_logprob=True)

    picks, logprobs = runner.extend(
        [
            prompt_run(1, PROMPTS[1]),
            *(prompt_run(slot, PROMPTS[slot], choice=wanted) for slot in (0, 2)),
        ]
    ).read()
    rows = [decode_row(slot, PROMPTS[slot], wanted) for slot in (0, 2)]
    _, later = runner.decode([decode_row(1, PROMPTS[1]), *rows]).read()

    assert len(picks) == len(logprobs) == len(later) == 3
    assert logprobs[0] == later[0] == 0  # of slot 1, which wants none
    for place, slot in ((1, 0), (2, 2)):
        alone = tiny_runner()
        _, own = alone.extend([prompt_run(slot, PROMPTS[slot], choice=wanted)]).read()
        _, own_later = alone.decode([decode_row(slot, PROMPTS[slot], wanted)]).read()
        assert -6 < own[0] < 0  # the likeliest of 211 tokens
        assert (logprobs[place], later[place]) == pytest.approx((own[0], own_later[0]), abs=1e-4)
    assert logprobs[1] != logprobs[2]


def test_nobody_pays_for_logprobs_that_nobody_wants(runner: Runner) -> None:
    assert runner.extend([prompt_run(0, PROMPTS[0])]).read()[1] == []


def drawn(seed: int, *, beside: int | None = None) -> list[int]:
    """Tokens drawn at a high temperature in slot 1, alone or beside another sequence."""
    runner = tiny_runner()
    choice = Choice(2.0, torch.Generator().manual_seed(seed))
    others = [] if beside is None else [beside]
    runs = [*(prompt_run(slot, PROMPTS[slot]) for slot in others)]
    said = runner.extend([*runs, prompt_run(1, PROMPTS[1], choice=choice)]).read()[0][-1:]
    for step in range(STEPS):
        rows = [decode_row(slot, PROMPTS[slot] + step) for slot in others]
        own = decode_row(1, PROMPTS[1] + step, choice)
        said += runner.decode([*rows, own]).read()[0][-1:]
    return said


def test_what_is_drawn_depends_on_the_seed_and_not_on_neighbours() -> None:
    assert drawn(5) == drawn(5, beside=3)
    assert drawn(5) != drawn(6)


def test_what_is_very_unlikely_is_never_drawn() -> None:
    scores = torch.full((200, 50_000), -3.0)  # together far likelier than the two good ones
    scores[:, 7], scores[:, 8] = 4.0, 3.0

    choices = [Choice(1.0, torch.Generator().manual_seed(seed)) for seed in range(200)]

    assert set(_drawn(scores, choices).tolist()) == {7, 8}


def test_a_tiny_temperature_draws_the_likeliest_token() -> None:
    runner = tiny_runner()
    choice = Choice(1e-3, torch.Generator().manual_seed(0))

    said = runner.extend([prompt_run(0, PROMPTS[0], choice=choice)]).read()[0]

    assert said == generated(tiny_runner(), (0,))[0][:1]


def test_a_drawn_token_is_what_is_fed_back() -> None:
    runner = tiny_runner()
    choice = Choice(50.0, torch.Generator().manual_seed(1))
    prompt = hidden(PROMPTS[1], seed=1)
    first = runner.extend([prompt_run(1, PROMPTS[1], choice=choice)]).read()[0]
    second = runner.decode([decode_row(1, PROMPTS[1])]).read()[0]

    again = tiny_runner()
    drafted = torch.cat((prompt, again.embed(first)))
    verified = again.extend([TokenRun(1, first_row(1), 0, drafted, picks=1)]).read()[0]

    assert first != generated(tiny_runner(), (1,))[1][:1]
    assert second == verified


def test_windows_are_encoded_alike_in_every_batch(runner: Runner) -> None:
    windows = [torch.randn(128, frames) for frames in (800, 300, 99, 800, 13)]

    together, _ = runner.encode(windows)

    for window, found in zip(windows, together, strict=True):
        ((alone,), _) = tiny_runner().encode([window])
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_encoded_windows_outlive_the_next_replay() -> None:
    runner = tiny_runner(graphs=GraphCache(PlayedCapture()))
    window = torch.randn(128, 800)

    ((before,), _) = runner.encode([window])
    kept = before.clone()
    runner.encode([torch.randn(128, 500)])

    assert torch.equal(before, kept)


def test_a_bucket_is_recorded_at_its_first_use_only() -> None:
    capture = PlayedCapture()
    runner = tiny_runner(graphs=GraphCache(capture))

    generated(runner, (0,))
    once = capture.recorded
    generated(runner, (0,))
    generated(runner, (2,))  # 64 prompt tokens fill the same bucket as 37

    assert capture.recorded == once == 2
    generated(runner, (0, 1, 2))
    assert capture.recorded == once + 2


def test_what_is_larger_than_every_bucket_runs_without_a_graph() -> None:
    capture = PlayedCapture()
    runner = tiny_runner(graphs=GraphCache(capture))
    assert TOKEN_BUCKETS[-1] < 1000
    runs = [TokenRun(slot, first_row(slot), 0, hidden(250, slot), picks=1) for slot in range(3)]

    said = runner.extend(runs).read()[0]

    assert capture.recorded == 0
    assert said == tiny_runner().extend(runs).read()[0]


def test_a_batch_that_ran_twice_has_fed_back_once(runner: Runner) -> None:
    """As after a failure behind the model: nothing of the first attempt may show."""
    expected = generated(tiny_runner(), (0,), steps=2)[0]
    runner.extend([prompt_run(0, PROMPTS[0])])
    table = torch.tensor([[0, first_row(0), PROMPTS[0]]])

    runner._decode(table, ((first_row(0), PROMPTS[0] + 1),))

    assert runner.decode([decode_row(0, PROMPTS[0])]).read()[0] == expected[1:2]


def test_memory_that_fails_behind_the_model_leaves_the_fed_token_alone(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generated(tiny_runner(), (0,), steps=2)[0]
    runner.extend([prompt_run(0, PROMPTS[0])])
    row = decode_row(0, PROMPTS[0], Choice(wants_logprob=True))

    def failing(*_: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.runner._logprobs", failing)
        with pytest.raises(torch.OutOfMemoryError):
            runner.decode([row])

    assert runner.decode([row]).read()[0] == expected[1:2]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_decoder_runs_in_one_thread_and_the_encoder_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = tiny_runner(threads=2)

    runner.encode([torch.randn(128, 100)])
    assert torch.get_num_threads() == 2
    runner.extend([prompt_run(0, PROMPTS[0])])
    assert torch.get_num_threads() == 1
    monkeypatch.setattr("worker.engine.runner.SMALL_DECODER", 0)
    large = tiny_runner(threads=2)
    large.extend([prompt_run(0, PROMPTS[0])])
    large.decode([decode_row(0, PROMPTS[0])])
    assert torch.get_num_threads() == 2


def test_every_slot_has_its_own_newest_token(runner: Runner) -> None:
    slots = tuple(range(SLOTS))
    alone = [
        runner.extend([TokenRun(slot, first_row(slot), 0, hidden(20, slot), picks=1)]).read()[0]
        for slot in slots
    ]
    rows = [DecodeRow(slot, first_row(slot), 20) for slot in slots]
    following = runner.decode(rows).read()[0]

    verified = [
        runner.extend(
            [
                TokenRun(
                    slot,
                    first_row(slot),
                    0,
                    torch.cat((hidden(20, slot), runner.embed(alone[slot]))),
                    picks=1,
                )
            ]
        ).read()[0][0]
        for slot in slots
    ]
    assert following == verified
