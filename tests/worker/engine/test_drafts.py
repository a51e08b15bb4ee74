"""How a new text follows an old one: words as tokens, one letter each."""

import pytest

from worker.engine.drafts import LEAST_REACH, Draft


def a_draft(text: str) -> Draft:
    return Draft([ord(letter) for letter in text])


def following(draft: Draft, text: str, most: int = 100) -> str:
    return "".join(map(chr, draft.following([ord(letter) for letter in text], most)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abX", ""),  # no pair of these stands in the rest
        ("abXde", "fgh"),  # one letter was another
        ("abde", "fgh"),  # one was left out
        ("abXcd", "efgh"),  # one came in
        ("abc", "defgh"),
    ],
)
def test_a_text_that_comes_back_to_its_draft_goes_on_as_it_does(text: str, expected: str) -> None:
    draft = a_draft("abcdefgh")
    draft.judged(8, 2)

    assert following(draft, text) == expected


def test_what_is_used_up_is_not_offered_again() -> None:
    draft = a_draft("abcabd")
    draft.judged(6, 4)

    assert following(draft, "ab") == "d"


def test_at_the_end_of_a_draft_nothing_follows() -> None:
    draft = a_draft("abcd")
    draft.judged(4, 4)

    assert following(draft, "cd") == ""
    assert not draft.may_follow


def test_one_letter_before_the_end_may_still_be_met() -> None:
    draft = a_draft("abcd")
    draft.judged(4, 2)

    assert draft.may_follow
    assert following(draft, "bc") == "d"


def test_no_more_is_offered_than_there_is_room_for() -> None:
    draft = a_draft("abcdefgh")
    draft.judged(8, 1)

    assert following(draft, "bc", most=2) == "de"
    assert following(draft, "bc", most=0) == ""


def test_one_letter_is_not_enough_to_come_back() -> None:
    assert following(a_draft("abcd"), "a") == ""


def test_each_stretch_that_holds_doubles_the_next_and_one_that_does_not_ends_that() -> None:
    letters = "".join(map(chr, range(200, 400)))
    draft = a_draft("ab" + letters)
    draft.judged(202, 1)
    offered = []
    text = "ab"
    for _ in range(3):
        found = following(draft, text)
        offered.append(len(found))
        draft.judged(len(found), len(found))
        text += letters[len(text) - 2 :][: len(found) + 1]  # all of it, and the letter behind

    assert offered == [LEAST_REACH, 2 * LEAST_REACH, 4 * LEAST_REACH]
    found = following(draft, text)
    draft.judged(len(found), 1)
    assert len(following(draft, letters[150:152])) == LEAST_REACH


def test_a_stretch_of_which_nothing_holds_uses_nothing_up() -> None:
    draft = a_draft("abcdefXYghi")
    draft.judged(11, 2)
    assert following(draft, "XY") == "ghi"
    draft.judged(3, 0)

    assert following(draft, "cd") == "efXYghi"
