import pytest

from gateway.formats.cue_checks import SOFT, Rule, violations
from gateway.formats.cues import Cue, CueRules, CueWord

RULES = CueRules(max_line_chars=20)


def cue(start: float, end: float, *lines: str) -> Cue:
    words = tuple(CueWord(start, end, text, True) for line in lines for text in line.split())
    return Cue(start, end, lines, words, None)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (cue(10, 9.9, "a"), Rule.TIME),
        (cue(2.5, 5, "early"), Rule.ORDER),
        (cue(10, 17.1, "long"), Rule.TOO_LONG),
        (cue(10, 12), Rule.EMPTY),
        (cue(10, 12, "one", ""), Rule.EMPTY),
        (cue(10, 12, "one", "two", "three"), Rule.TOO_MANY_LINES),
        (cue(10, 14, "more than twenty columns"), Rule.LINE_TOO_WIDE),
        (cue(10, 14, "你们好 你们好 你们好 你们好"), Rule.LINE_TOO_WIDE),
        (cue(10, 10.8, "short"), Rule.TOO_SHORT),
        (cue(10, 12, "as fast as nobody", "can read this cue"), Rule.TOO_FAST),
        (cue(3.05, 5, "close"), Rule.NO_GAP),
    ],
)
def test_each_broken_rule_is_found(broken: Cue, rule: Rule) -> None:
    found = violations([cue(1, 3, "before"), broken], RULES)

    assert rule in {violation.rule for violation in found if violation.index == 1}
    assert not [violation for violation in found if violation.index == 0]


def test_good_cues_break_nothing() -> None:
    good = [
        cue(1, 4, "Two lines of words,", "as they should be"),
        cue(4.083, 11.083, "the next"),
        cue(12, 15, "Donaudampfschiff"),
    ]

    assert violations(good, RULES) == []


def test_only_what_fast_speech_may_break_is_soft() -> None:
    assert {Rule.TOO_FAST, Rule.TOO_SHORT, Rule.NO_GAP} == SOFT
