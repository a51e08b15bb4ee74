import pytest

from gateway.formats.cue_rules import CueRules, rules_for


@pytest.mark.parametrize(
    ("language", "line", "speed"),
    [
        ("English", 42, 20.0),
        ("German", 42, 17.0),
        ("Chinese", 32, 18.0),
        ("Japanese", 26, 14.0),
        ("Korean", 32, 24.0),
        (None, 42, 17.0),
    ],
)
def test_each_language_has_its_line_and_its_pace(
    language: str | None, line: int, speed: float
) -> None:
    rules = rules_for(language)

    assert (rules.max_line_chars, rules.reading_speed) == (line, speed)


def test_callers_replace_what_they_name_and_keep_the_rest() -> None:
    rules = rules_for("Chinese", max_line_chars=40, gap=0.0, pause=None)

    assert rules == CueRules(language="Chinese", max_line_chars=40, reading_speed=18.0, gap=0.0)


def test_all_impossible_rules_are_named_at_once() -> None:
    with pytest.raises(ValueError) as failure:
        rules_for("English", max_line_chars=0, max_lines=4, min_duration=9, max_duration=7)

    assert str(failure.value) == (
        "max_line_chars must be from 8 to 250; max_lines must be from 1 to 3; "
        "min_duration must not exceed max_duration"
    )


def test_what_is_not_a_number_is_no_rule() -> None:
    with pytest.raises(ValueError, match="reading_speed must be from 1 to 1000"):
        rules_for("English", reading_speed=float("nan"))
