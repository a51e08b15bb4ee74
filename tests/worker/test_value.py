import pytest

from worker.value import Value


class Point(Value):
    x: int
    y: int = 0


class Origin(Value):
    """A value without fields."""


class Place(Value):
    x: int
    y: int = 0


def test_values_are_equal_by_type_and_fields() -> None:
    assert Point(1, 2) == Point(x=1, y=2)
    assert Point(1) == Point(1, 0)
    assert Point(1) != Point(2)
    assert Point(1, 2) != Place(1, 2)
    assert Origin() == Origin()
    assert len({Point(1), Point(1, 0), Place(1)}) == 2


def test_values_cannot_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="cannot change"):
        point.x = 2  # type: ignore[misc]


def test_values_show_their_fields() -> None:
    assert repr(Point(1)) == "Point(x=1, y=0)"


def test_values_match_by_position() -> None:
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_wrong_fields_are_refused(arguments: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point has the fields"):
        Point(*arguments, **named)
