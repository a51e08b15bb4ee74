"""What is kept of a call, and what each of its followers is told."""

import json
from typing import Any

from gateway.live.call_history import RECENT_PARTIALS, CallHistory, Event, Place

ITEM = ("sess_1", "item_1")
OTHER = ("sess_1", "item_2")


def history(*, most_bytes: int = 1024 * 1024) -> CallHistory:
    kept = CallHistory("call-1", "abcd", most_bytes=most_bytes)
    kept.add("call.started", {})
    return kept


def told(events: list[Event]) -> list[tuple[str, Any]]:
    """Type, and text where there is one."""
    fields = [json.loads(event.content) for event in events]
    return [(each["type"], each.get("text")) for each in fields]


def kinds(events: list[Event]) -> list[str]:
    return [kind for kind, _ in told(events)]


def add_final(kept: CallHistory, text: str, until: float = 1.0) -> None:
    kept.close_item(ITEM)
    kept.add("text.final", {"text": text}, until=until)


def test_a_late_follower_hears_of_everything_from_the_start() -> None:
    kept = history()
    add_final(kept, "one")
    add_final(kept, "two")

    assert told(kept.take(Place(0))) == [
        ("call.started", None),
        ("text.final", "one"),
        ("text.final", "two"),
    ]


def test_nothing_is_told_to_a_follower_twice() -> None:
    kept, place = history(), Place(0)
    kept.take(place)
    add_final(kept, "one")

    assert kinds(kept.take(place)) == ["text.final"]
    assert kept.take(place) == []


def test_events_have_ids_and_count_up() -> None:
    kept = history()
    add_final(kept, "one")
    events = kept.take(Place(0))

    assert [event.event_id for event in events] == ["abcd-1", "abcd-2"]
    assert json.loads(events[1].content) == {
        "type": "text.final",
        "id": "abcd-2",
        "sequence": 2,
        "call_id": "call-1",
        "text": "one",
    }


def test_a_late_follower_gets_the_latest_partial_of_what_is_still_open_and_no_other() -> None:
    kept = history()
    kept.add_partial("text.partial", {"text": "o"}, ITEM)
    add_final(kept, "one")
    kept.add_partial("text.partial", {"text": "t"}, OTHER)
    kept.add_partial("text.partial", {"text": "tw"}, OTHER)

    assert told(kept.take(Place(0)))[1:] == [("text.final", "one"), ("text.partial", "tw")]


def test_a_follower_that_keeps_up_gets_every_partial_in_its_place() -> None:
    kept, place = history(), Place(0)
    kept.take(place)
    kept.add_partial("text.partial", {"text": "o"}, ITEM)
    kept.add_partial("text.partial", {"text": "on"}, ITEM)
    add_final(kept, "one")

    assert told(kept.take(place)) == [
        ("text.partial", "o"),
        ("text.partial", "on"),
        ("text.final", "one"),
    ]


def test_a_slow_follower_loses_partials_but_no_final_and_is_told_how_many() -> None:
    kept, place = history(), Place(0)
    kept.take(place)
    for number in range(RECENT_PARTIALS):
        kept.add_partial("text.partial", {"text": str(number)}, ITEM)
    add_final(kept, "one")
    for number in range(3):
        kept.add_partial("text.partial", {"text": f"next {number}"}, OTHER)
    events = kept.take(place)

    assert told(events[1:]) == [("text.final", "one"), ("text.partial", "next 2")]
    notice = {"type": "partials.dropped", "call_id": "call-1", "count": RECENT_PARTIALS + 2}
    assert json.loads(events[0].content) == notice
    assert events[0].event_id is None
    assert kept.take(place) == []


def test_partials_of_what_was_cleared_are_not_told_to_who_comes_later() -> None:
    kept = history()
    kept.add_partial("text.partial", {"text": "o"}, ITEM)
    kept.add_partial("text.partial", {"text": "t"}, ("sess_2", "item_1"))
    kept.close_session("sess_1")

    assert told(kept.take(Place(0)))[1:] == [("text.partial", "t")]


def test_a_history_is_bounded_and_says_what_is_missing() -> None:
    kept = history(most_bytes=5000)
    for number in range(100):
        add_final(kept, "x" * 100, until=float(number))
    events = kept.take(Place(0))

    assert kept.kept_bytes <= 5000
    assert kinds(events[:3]) == ["call.started", "history.truncated", "text.final"]
    finals = len(events) - 2
    notice = {
        "type": "history.truncated",
        "call_id": "call-1",
        "finals": 100 - finals,
        "until": 99.0 - finals,
    }
    assert json.loads(events[1].content) == notice


def test_a_single_event_larger_than_the_history_is_kept() -> None:
    kept = history(most_bytes=1000)
    add_final(kept, "x" * 2000)

    assert kinds(kept.take(Place(0))) == ["call.started", "text.final"]


def test_a_follower_that_was_too_slow_even_for_finals_is_told_so() -> None:
    kept, place = history(most_bytes=2000), Place(0)
    kept.take(place)
    for _ in range(20):
        add_final(kept, "x" * 100)

    assert kinds(kept.take(place))[:2] == ["history.truncated", "text.final"]


def test_who_has_read_what_is_missing_is_not_told_that_it_is() -> None:
    kept, place = history(most_bytes=2000), Place(0)
    for _ in range(20):
        add_final(kept, "x" * 100)
        kept.take(place)
    add_final(kept, "last")

    assert told(kept.take(place)) == [("text.final", "last")]


def test_reading_goes_on_behind_the_last_event_that_was_read() -> None:
    kept = history()
    add_final(kept, "one")
    add_final(kept, "two")

    assert told(kept.take(kept.place_after("abcd-2"))) == [("text.final", "two")]


def test_an_event_id_of_another_call_or_of_none_begins_at_the_start() -> None:
    kept = history()

    for event_id in ("", "ffff-1", "abcd-9", "abcd-", "abcd-x", "abcd-²", "abcd-" + "9" * 5000):
        assert kinds(kept.take(kept.place_after(event_id))) == ["call.started"], event_id
