import pytest

from bench.measuring import Case, Timing, interleaved, percentile
from bench.report import Table, text_of


def test_cases_take_turns_after_a_run_that_is_not_counted() -> None:
    ran: list[str] = []

    def run(name: str, seconds: float) -> list[float]:
        ran.append(name)
        return [seconds] if ran.count(name) > 1 else [1000.0]

    timings = interleaved([Case("a", lambda: run("a", 1)), Case("b", lambda: run("b", 3))], 2)

    assert "".join(ran) == "ab" + "abab" * 2
    assert (timings["a"].median, timings["b"].median) == (1, 3)


def test_noise_is_how_far_the_passes_lie_apart() -> None:
    assert Timing([[1.0, 1.0], [1.5, 1.5]]).noise == pytest.approx(0.5 / 1.25)
    assert Timing([[1.0, 2.0], [2.0, 1.0]]).noise == 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (0.01, 1), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_numbers_are_told_with_three_digits_and_words_stand_left() -> None:
    assert [text_of(cell) for cell in (0.012345, 12.345, 1234.5, None)] == [
        "0.0123",
        "12.3",
        "1,234",
        "-",
    ]
    table = Table("", ("", "unit", "ms"))
    table.add("a", "GB/s", 1.0)
    table.add("bb", "B", 10.0)
    assert table.lines() == ["    unit  ms", "a   GB/s   1", "bb  B     10"]


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table("", ("", "a", "b")).add("row", 1.0)
