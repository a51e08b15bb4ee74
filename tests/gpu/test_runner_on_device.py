"""The runner on a CUDA device: against float32 on the CPU, and graphs against plain launches."""

import pytest
import torch
from torch import Tensor

from tests.gpu.models import SHALLOW, on_device, reference
from tests.worker.engine.tiny_runner import first_row
from worker.engine.rows import DecodeRow, TokenRun
from worker.engine.runner import Runner
from worker.model.operations import packed_extents
from worker.model.text_decoder import PackedTokens

PROMPTS = (37, 5, 64, 120, 1)
TYPES = [torch.float32, torch.bfloat16, torch.float16]
# Of the norm of the reference's scores: float32 differs in the order of sums only.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def hidden(tokens: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, SHALLOW.text.width, generator=generator)


def run(runner: Runner, slot: int, tokens: Tensor, picks: int = 1) -> TokenRun:
    width = runner.cache.layers[0][0].dtype
    return TokenRun(slot, first_row(slot), 0, tokens.to(runner.device, width), picks=picks)


def generated(runner: Runner, slots: tuple[int, ...], steps: int = 12) -> list[list[int]]:
    runs = [run(runner, slot, hidden(PROMPTS[slot], slot)) for slot in slots]
    said = [[pick] for pick in runner.extend(runs).read()[0]]
    for step in range(steps):
        rows = [DecodeRow(slot, first_row(slot), PROMPTS[slot] + step) for slot in slots]
        for tokens, pick in zip(said, runner.decode(rows).read()[0], strict=True):
            tokens.append(pick)
    return said


def scores(runner: Runner, slot: int, tokens: Tensor) -> Tensor:
    """Of every token of a prompt, in one pass."""
    span = (first_row(slot), len(tokens))
    places = torch.arange(len(tokens), device=runner.device)
    packed = PackedTokens(
        places, span[0] + places, packed_extents([span], [span[1]], runner.device)
    )
    decoder = runner._decoder
    own = run(runner, slot, tokens).hidden
    return decoder.scores(decoder.forward(own, packed, runner.cache)).float().cpu()


@pytest.mark.parametrize("dtype", TYPES)
def test_scores_are_those_of_float32_on_the_cpu(dtype: torch.dtype) -> None:
    tokens = hidden(200, seed=1)
    expected = scores(reference(), 1, tokens)

    found = scores(on_device(dtype=dtype), 1, tokens)

    assert (found - expected).norm() / expected.norm() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TYPES)
def test_greedy_picks_agree_with_float32_on_the_cpu(dtype: torch.dtype) -> None:
    cpu = reference()
    prompt = hidden(60, seed=3)
    said = cpu.extend([run(cpu, 3, prompt)]).read()[0]
    for step in range(60):
        said += cpu.decode([DecodeRow(3, first_row(3), 60 + step)]).read()[0]
    drafted = torch.cat((prompt, cpu.embed(said[:-1])))

    device = on_device(dtype=dtype)
    picks = device.extend([run(device, 3, drafted, picks=len(said))]).read()[0]

    agreed = sum(one == other for one, other in zip(picks, said, strict=True)) / len(said)
    assert agreed >= (1.0 if dtype == torch.float32 else 0.9)


@pytest.mark.parametrize("dtype", TYPES)
def test_encoded_windows_are_those_of_float32_on_the_cpu(dtype: torch.dtype) -> None:
    windows = [torch.randn(128, frames) for frames in (800, 333, 7)]
    expected, _ = reference().encode(windows)

    for with_graphs in (False, True):
        device = on_device(dtype=dtype, with_graphs=with_graphs)
        found, _ = device.encode([window.to("cuda", dtype) for window in windows])
        for one, other in zip(found, expected, strict=True):
            assert (one.float().cpu() - other).norm() / other.norm() < TOLERANCE[dtype]


def test_a_replayed_graph_gives_the_bits_of_plain_launches() -> None:
    slots = (0, 1, 2, 3)  # a bucket of their own size, so that every launch has the same shape
    plain, graphed = on_device(), on_device(with_graphs=True)
    rows = [[slot, first_row(slot), PROMPTS[slot]] for slot in slots]
    for runner in (plain, graphed):
        generated(runner, slots, steps=0)

    _, expected = plain._decode(plain._table(rows))
    for _ in range(3):
        assert graphed._graphs is not None
        _, found = graphed._graphs.run("bits", graphed._decode, graphed._table(rows))
        assert torch.equal(found, expected)


def test_graphs_say_what_plain_launches_say() -> None:
    plain, graphed = (
        on_device(dtype=torch.float32),
        on_device(dtype=torch.float32, with_graphs=True),
    )

    for slots in ((0, 1, 2, 3, 4), (2,), (4, 0), (3, 1, 2)):
        assert generated(graphed, slots) == generated(plain, slots)


def test_a_batch_says_what_each_sequence_says_alone() -> None:
    device = on_device(dtype=torch.float32, with_graphs=True)
    together = generated(device, (0, 1, 2, 3, 4))

    for slot in range(5):
        assert generated(on_device(dtype=torch.float32), (slot,)) == [together[slot]]


def test_poison_in_rows_of_nobody_reaches_no_score() -> None:
    tokens = hidden(90, seed=1)
    clean = on_device()
    for keys, values in clean.cache.layers:
        keys.zero_()
        values.zero_()

    assert torch.equal(scores(on_device(), 1, tokens), scores(clean, 1, tokens))


def test_tokens_are_fed_back_without_the_host() -> None:
    device = on_device(with_graphs=True)
    expected = generated(device, (1,))

    launched = [device.extend([run(device, 1, hidden(PROMPTS[1], 1))])]
    for step in range(12):
        launched.append(device.decode([DecodeRow(1, first_row(1), PROMPTS[1] + step)]))

    assert [pick for one in launched for pick in one.read()[0]] == expected[0]


def test_a_batch_knows_how_long_the_device_worked() -> None:
    device = on_device(with_graphs=True)
    launched = device.extend([run(device, 1, hidden(100, 1))])
    launched.read()

    assert 0 < launched.seconds < 60
