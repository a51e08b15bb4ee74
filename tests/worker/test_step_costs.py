"""What batches cost, learned from those that ran."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sequence import (
    Batch,
    DecodeStep,
    Encode,
    Extend,
    Priority,
    Sequence,
    TokenSlice,
    WindowSlice,
)
from worker.step_costs import CostCurve, LinearCost, StepCosts

PRIOR = LinearCost(fixed=0.002, each=0.001)


def a_sequence(windows: int = 1, tokens: int = 1) -> Sequence:
    return Sequence(("film", 0), Priority.BULK, windows, tokens, max_new_tokens=10)


def encode(*windows: int) -> Encode:
    return Encode(tuple(WindowSlice(a_sequence(count), 0, count) for count in windows))


def extend(*tokens: int) -> Extend:
    return Extend(tuple(TokenSlice(a_sequence(1, count), 0, count, True) for count in tokens))


def decode_step(rows: int) -> DecodeStep:
    return DecodeStep(tuple(a_sequence() for _ in range(rows)))


def test_before_any_batch_the_priors_hold() -> None:
    costs = StepCosts(
        encode=LinearCost(0.1, 0.02), extend=LinearCost(0.2, 0.003), decode=LinearCost(0.3, 0.04)
    )

    assert costs.encode_seconds(5) == pytest.approx(0.2)
    assert costs.extend_seconds(100) == pytest.approx(0.5)
    assert costs.decode_seconds(10) == pytest.approx(0.7)
    assert costs.windows_within(0.2) == 5
    assert costs.tokens_within(0.5) == 100
    assert costs.rows_within(0.7) == 10


def test_the_least_batch_is_always_affordable() -> None:
    costs = StepCosts(LinearCost(9.0, 1.0), LinearCost(9.0, 1.0), LinearCost(9.0, 1.0))

    assert costs.windows_within(0.01) == 1
    assert costs.tokens_within(0.01) == 64
    assert costs.rows_within(0.01) == 1


@pytest.mark.parametrize(
    ("batch", "size", "kind"),
    [
        (encode(3, 5), 8, "encode_seconds"),
        (extend(100, 28), 128, "extend_seconds"),
        (decode_step(8), 8, "decode_seconds"),
    ],
)
def test_batches_teach_their_own_kind_by_their_whole_size(
    batch: Batch, size: int, kind: str
) -> None:
    costs, untaught = StepCosts(), StepCosts()
    for _ in range(3):
        costs.observe(batch, 0.7)

    assert getattr(costs, kind)(size) == pytest.approx(0.7)
    for other in {"encode_seconds", "extend_seconds", "decode_seconds"} - {kind}:
        assert getattr(costs, other)(size) == getattr(untaught, other)(size)


def test_one_slow_first_call_changes_nothing() -> None:
    curve = CostCurve(PRIOR)
    curve.observe(8, 30.0)
    assert curve.seconds(8) == pytest.approx(0.010)

    curve.observe(8, 0.011)
    assert curve.seconds(8) == pytest.approx(0.011)


def test_a_hiccup_among_many_steps_changes_nothing() -> None:
    curve = CostCurve(PRIOR)
    for seconds in (0.02, 0.02, 5.0, 0.02, 5.0, 0.02):
        curve.observe(8, seconds)

    assert curve.seconds(8) == pytest.approx(0.02)


def test_lasting_change_is_believed() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(100):
        curve.observe(8, 0.02)
    for _ in range(9):
        curve.observe(8, 0.04)

    assert curve.seconds(8) == pytest.approx(0.04)


def test_once_the_prior_proves_wrong_larger_sizes_are_estimated_in_proportion() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(2):
        curve.observe(4, 6.0)

    assert curve.seconds(40) == pytest.approx(60.0)
    assert curve.seconds(1) == pytest.approx(3.0)  # shaped as the prior below


def test_while_the_prior_proves_about_right_it_is_believed_for_sizes_nobody_tried() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(2):
        curve.observe(1, 0.006)

    assert curve.seconds(100) == pytest.approx(2 * PRIOR.seconds(100))


def test_sizes_between_two_known_ones_cost_something_in_between() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(2):
        curve.observe(1, 0.050)
        curve.observe(64, 0.066)

    assert curve.seconds(64) == pytest.approx(0.066)
    assert all(0.050 <= curve.seconds(size) <= 0.066 for size in range(1, 65))


def test_a_size_that_was_slow_twice_by_chance_is_tried_again() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(2):
        curve.observe(8, 0.010)
        curve.observe(16, 99.0)

    assert curve.seconds(16) == pytest.approx(1.5 * 0.020)


def test_nor_does_it_spoil_the_sizes_before_it() -> None:
    curve = CostCurve(PRIOR)
    for _ in range(2):
        curve.observe(8, 0.010)
        curve.observe(64, 99.0)

    assert curve.seconds(32) <= 1.5 * 0.040
    assert curve.seconds(64) <= 1.5 * 0.080


def test_after_two_batches_a_prior_that_was_far_too_low_does_no_more_harm() -> None:
    truth, curve = LinearCost(0.01, 0.3), CostCurve(LinearCost(0.001, 0.0001))
    taken = []
    for _ in range(50):
        size = max(1, min(32, curve.size_within(1.0)))
        taken.append(truth.seconds(size))
        curve.observe(size, taken[-1])

    assert max(taken[2:]) < 1.25
    assert taken[-1] > 0.6


def test_learning_from_far_too_high_a_prior_uses_the_budget_after_few_batches() -> None:
    truth, curve = LinearCost(0.003, 0.0001), CostCurve(LinearCost(1.0, 1.0))
    for _ in range(30):
        size = max(1, curve.size_within(0.03))
        assert truth.seconds(size) <= 0.03 * 1.01
        curve.observe(size, truth.seconds(size))

    assert size >= 200


OBSERVED = st.lists(st.tuples(st.integers(1, 70_000), st.floats(0, 100)), max_size=40)


@given(observed=OBSERVED, sizes=st.tuples(st.integers(0, 70_000), st.integers(0, 70_000)))
def test_a_larger_batch_never_costs_less(
    observed: list[tuple[int, float]], sizes: tuple[int, int]
) -> None:
    curve = CostCurve(PRIOR)
    for size, seconds in observed:
        curve.observe(size, seconds)

    smaller, larger = sorted(sizes)
    assert curve.seconds(smaller) <= curve.seconds(larger)


@given(observed=OBSERVED, seconds=st.floats(0, 100))
def test_what_fits_fits_and_one_more_would_not(
    observed: list[tuple[int, float]], seconds: float
) -> None:
    curve = CostCurve(PRIOR)
    for size, taken in observed:
        curve.observe(size, taken)

    fits = curve.size_within(seconds)
    assert curve.seconds(fits) <= seconds
    assert fits == 1 << 16 or curve.seconds(fits + 1) > seconds


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        CostCurve(PRIOR).observe(0, 1.0)
    with pytest.raises(ValueError, match="no batch"):
        CostCurve(PRIOR).observe(1, -1.0)
    with pytest.raises(ValueError, match="cost more"):
        LinearCost(1.0, 0.0)
