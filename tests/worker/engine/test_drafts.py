"""How a new text follows an old one: words as tokens, one letter each."""

import pytest

from worker.engine.drafts import FARTHEST, LEAST_REACH, Draft


def tokens(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def a_draft(text: str, accepted: int | None = None, **fields: int) -> Draft:
    """One of which so much was verified."""
    draft = Draft(tokens(text), **fields)
    draft.judged(len(text), len(text) if accepted is None else accepted)
    return draft


def following(draft: Draft, text: str, most: int = 100) -> str:
    return "".join(map(chr, draft.following(tokens(text), most)))


def behind_correction(draft: Draft, text: str, most: int = 100) -> str:
    return "".join(map(chr, draft.behind_correction(tokens(text), most)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abX", ""),  # no pair of these stands in the rest
        ("abXde", "fgh"),  # one letter was another
        ("abde", "fgh"),  # one was left out
        ("abXcd", "efgh"),  # one came in
        ("abXYZZYcd", "efgh"),
        ("abfg", "h"),
    ],
)
def test_a_text_that_comes_back_to_its_draft_goes_on_as_it_does(text: str, expected: str) -> None:
    assert following(a_draft("abcdefgh", 2), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abX", "defgh"),  # as if X stood for c
        ("abd", "efgh"),  # as if c had been too many
    ],
)
def test_behind_a_correction_the_draft_is_tried_at_once(text: str, expected: str) -> None:
    assert behind_correction(a_draft("abcdefgh", 2), text) == expected


def test_where_that_was_in_vain_two_tokens_have_to_agree_first() -> None:
    draft = a_draft("abcdefgh", 2)
    assert behind_correction(draft, "abX") == "defgh"
    draft.judged(5, 0)

    assert behind_correction(draft, "abXY") == ""
    assert following(draft, "abXYef") == "gh"


def test_a_draft_that_is_wrong_from_the_start_is_not_tried_again_at_once() -> None:
    assert behind_correction(a_draft("abcdefgh", 0), "X") == ""


def test_what_is_used_up_is_not_offered_again() -> None:
    assert following(a_draft("abcabd", 4), "abcaab") == "d"


def test_of_several_places_the_one_where_the_text_should_be_is_meant() -> None:
    draft = a_draft("?xy1....xy2....xy3", 1)

    assert following(draft, "?" + "." * 8 + "xy", most=1) == "2"
    assert following(draft, "?xy", most=1) == "1"


def test_what_stands_far_off_is_not_meant() -> None:
    far = "-" * (FARTHEST + 2)

    assert following(a_draft(f"a?{far}xyz", 1), "axy") == ""
    assert following(a_draft(f"a?{far[:-4]}xyz", 1), "axy") == "z"


def test_a_draft_behind_a_prefix_is_met_where_it_is() -> None:
    far = "-" * FARTHEST
    draft = a_draft("a?xyz", 1, behind=FARTHEST + 9)

    assert following(draft, far + "-" * 9 + "aXxy") == "z"
    assert following(draft, "xy") == ""


def test_at_the_end_of_a_draft_nothing_follows() -> None:
    draft = a_draft("abcd")

    assert following(draft, "abcd") == ""
    assert not draft.may_follow(4)


def test_as_long_as_a_pair_and_one_more_are_left_text_may_come_back() -> None:
    assert a_draft("abcd", 2).may_follow(3)
    assert not a_draft("abcd", 3).may_follow(4)


def test_text_that_has_gone_on_for_long_does_not_come_back() -> None:
    draft = a_draft("abcdefgh", 2)

    assert draft.may_follow(FARTHEST)
    assert not draft.may_follow(FARTHEST + 8)


def test_no_more_is_offered_than_there_is_room_for() -> None:
    draft = a_draft("abcdefgh", 1)

    assert following(draft, "aXcd", most=2) == "ef"
    assert following(draft, "aXcd", most=0) == ""
    assert behind_correction(draft, "aX", most=0) == ""


def test_one_letter_is_not_enough_to_come_back() -> None:
    assert following(a_draft("abcd", 0), "a") == ""


def test_each_stretch_that_holds_doubles_the_next_and_one_that_does_not_ends_that() -> None:
    letters = "".join(map(chr, range(200, 400)))
    draft = a_draft(letters, 1)
    text = letters[:1] + "X" + letters[2:4]
    offered = []
    for _ in range(3):
        found = following(draft, text)
        offered.append(len(found))
        draft.judged(len(found), len(found))
        text = letters[: len(text) + len(found) + 1]  # all of it, and the letter behind

    assert offered == [LEAST_REACH, 2 * LEAST_REACH, 4 * LEAST_REACH]
    draft.judged(len(following(draft, text)), 1)
    assert len(following(draft, text[:-1] + letters[len(text) : len(text) + 2])) == LEAST_REACH
