"""What is made of the notes of a live client: packets of 20 ms, the first one sent at 100 s."""

from typing import Any

import pytest

from bench.live_client import Log
from bench.live_figures import figures_of, together

PACKET_SECONDS = 0.02
LOUD = [0.5, 0.51, 2.0, 2.01]


def log(*received: tuple[float, dict[str, Any]], late: int = 0) -> Log:
    sent = [100 + PACKET_SECONDS * number for number in range(200)]
    return Log(PACKET_SECONDS, sent, late, list(received), is_answered=True)


def started(at: float, item: str, start_ms: int) -> tuple[float, dict[str, Any]]:
    return at, {"event": "speech_started", "item_id": item, "start_ms": start_ms}


def stopped(at: float, item: str, end_ms: int) -> tuple[float, dict[str, Any]]:
    return at, {"event": "speech_stopped", "item_id": item, "end_ms": end_ms}


def text(at: float, item: str, words: str, *, is_final: bool) -> tuple[float, dict[str, Any]]:
    message = {"item_id": item, "text": words, "is_partial": not is_final, "is_final": is_final}
    return at, message


def test_a_final_is_counted_from_the_packet_that_decided_the_endpoint() -> None:
    whole = stopped(101.3, "a", 1240), text(101.5, "a", "one", is_final=True)
    within = stopped(101.3, "a", 1241), text(101.5, "a", "one", is_final=True)

    # The packet that ends at 1.24 s is the 62nd; 1.241 s lie in the next one.
    assert figures_of(log(*whole), LOUD).finals == pytest.approx([101.5 - 101.22])
    assert figures_of(log(*within), LOUD).finals == pytest.approx([101.5 - 101.24])


def test_a_first_text_is_counted_from_where_its_utterance_begins_to_be_loud() -> None:
    found = figures_of(
        log(
            started(101.0, "a", 0),
            text(101.1, "a", "one", is_final=False),
            text(101.6, "a", "one two", is_final=False),
            started(102.5, "b", 1500),
            text(102.9, "b", "three", is_final=False),
        ),
        LOUD,
    )

    assert found.firsts == pytest.approx([101.1 - 100.5, 102.9 - 102.0])
    assert found.partials == 3


def test_what_ended_and_got_no_text_is_told() -> None:
    found = figures_of(log(stopped(101.0, "a", 900), stopped(102.0, "b", 1900)), LOUD)

    assert (found.unanswered, found.utterances) == (2, 2)


def test_a_text_that_a_flush_gets_is_text_but_no_delay() -> None:
    found = figures_of(log(text(104.0, "c", "nine", is_final=True)), LOUD)

    assert (found.texts, found.finals) == (["nine"], [])


def test_streams_together_have_the_delays_of_all_and_a_text_each() -> None:
    one = figures_of(log(stopped(1, "a", 500), text(101, "a", "one", is_final=True), late=10), LOUD)
    two = figures_of(log(), LOUD)

    both = together([one, two])
    assert both.finals == one.finals
    assert both.texts == ["one", ""]
    assert both.late_share == pytest.approx(10 / 400)
