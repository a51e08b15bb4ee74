import pytest
import torch

from worker.engine.generation import Row, StepControl, output_tokens
from worker.engine.interface import Cancelled
from worker.engine.limits import output_token_limit

END = 2
CPU = torch.device("cpu")


def control(*rows: Row) -> StepControl:
    return StepControl(rows, end_token_id=END, device=CPU, on_step=lambda: None)


def tokens(rows: int, steps: int) -> torch.Tensor:
    return torch.zeros(rows, steps, dtype=torch.long)


def test_greedy_rows_keep_their_scores() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.3, 0.2, 0.1]])

    adjusted = control(Row(8, 0.0), Row(8, 0.0)).adjust(tokens(2, 0), scores.clone())

    assert torch.equal(adjusted, scores)


def test_a_row_with_broken_scores_is_ended_and_told_and_its_neighbour_goes_on() -> None:
    governor = control(Row(8, 0.0), Row(8, 0.0))
    scores = torch.tensor([[0.1, float("nan"), 0.0], [0.3, 0.2, 0.1]])

    adjusted = governor.adjust(tokens(2, 0), scores)

    assert adjusted.argmax(dim=-1).tolist() == [END, 0]
    assert governor.broken_rows() == [True, False]


def test_a_broken_row_stays_broken() -> None:
    governor = control(Row(8, 0.7))

    governor.adjust(tokens(1, 0), torch.tensor([[float("inf"), 0.0, 0.0]]))
    governor.adjust(tokens(1, 1), torch.tensor([[0.0, 0.0, 0.0]]))

    assert governor.broken_rows() == [True]


def test_each_row_is_over_at_its_own_limit() -> None:
    governor = control(Row(2, 0.0), Row(3, 0.0))

    over = [governor.is_over(tokens(2, steps), torch.zeros(0)).tolist() for steps in (1, 2, 3)]

    assert over == [[False, False], [True, False], [True, True]]
    assert governor.token_limit == 3


def test_every_step_is_told_and_may_cancel() -> None:
    def cancel() -> None:
        raise Cancelled

    governor = StepControl([Row(8, 0.0)], end_token_id=END, device=CPU, on_step=cancel)

    with pytest.raises(Cancelled):
        governor.is_over(tokens(1, 1), torch.zeros(0))


def test_sampling_follows_the_distribution_at_its_temperature() -> None:
    temperature = 0.5
    scores = torch.tensor([0.0, 0.5, 1.0])
    draws = 4000
    governor = control(*[Row(8, temperature)] * draws)

    drawn = governor.adjust(tokens(draws, 0), scores.repeat(draws, 1)).argmax(dim=-1)

    frequencies = torch.bincount(drawn, minlength=3) / draws
    expected = torch.softmax(scores / temperature, dim=-1)
    # Five standard deviations of a frequency are 0.04 here: one run in a million fails by chance.
    assert (frequencies - expected).abs().max() < 0.04


def test_a_sampled_row_leaves_its_greedy_neighbour_alone() -> None:
    scores = torch.randn(2, 50)

    adjusted = control(Row(8, 1.0), Row(8, 0.0)).adjust(tokens(2, 0), scores.clone())

    assert not torch.equal(adjusted[0], scores[0])
    assert torch.equal(adjusted[1], scores[1])


@pytest.mark.parametrize(
    ("row", "limit", "kept"),
    [
        ([5, 6, END, 0, 0], 10, [5, 6]),
        ([5, 6, 7], 10, [5, 6, 7]),
        ([5, 6, 7, 8], 2, [5, 6]),
        ([END], 10, []),
    ],
)
def test_output_ends_before_the_end_token_and_at_the_limit(
    row: list[int], limit: int, kept: list[int]
) -> None:
    assert output_tokens(row, limit=limit, end_ids=(END, 0)) == kept


@pytest.mark.parametrize("seconds", [0.5, 1, 10, 30, 60])
def test_the_limit_leaves_room_for_the_fastest_speech_and_ends_a_loop(seconds: float) -> None:
    limit = output_token_limit(int(seconds * 16_000))

    assert limit >= 2 * 7 * seconds + 8
    assert limit <= 32 + 16 * seconds
