"""Calls of one session or several, told from the sessions' events."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import CallNotFound, Unavailable
from gateway.live.call_events import LEG_GAP, MOST_ENDED_CALLS, MOST_FOLLOWERS, Calls
from gateway.live.events import (
    AudioCleared,
    EngineReady,
    EngineWarming,
    SessionEnded,
    TurnCommitted,
)
from gateway.live.publishing import Leg
from protocol.failures import FailureCode
from tests.gateway.live.calls import (
    ENDED,
    LEG,
    ManualLoop,
    calls_of,
    failed,
    final,
    opening,
    partial,
    started,
    stopped,
)

OTHER_LEG = Leg("call-1", "sess_2", None)


@pytest.fixture
def loop() -> ManualLoop:
    return ManualLoop()


@pytest.fixture
def calls(loop: ManualLoop) -> Calls:
    return calls_of(loop)


async def read(calls: Calls, call_id: str = "call-1", **more: Any) -> list[Any]:
    """What is there for a follower that comes now."""
    with calls.follow(more.pop("owner", None), call_id, **more) as follower:
        events = await anext(follower.batches())
    return [json.loads(event.content) for event in events]


async def kinds(calls: Calls, call_id: str = "call-1", **more: Any) -> list[str]:
    return [event["type"] for event in await read(calls, call_id, **more)]


def is_known(calls: Calls, call_id: str = "call-1", owner: str | None = None) -> bool:
    try:
        with calls.follow(owner, call_id):
            return True
    except CallNotFound:
        return False


async def test_a_call_is_told_from_its_start_to_its_end(calls: Calls, loop: ManualLoop) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, EngineWarming())
    calls.publish(LEG, EngineReady())
    calls.publish(LEG, started("item_1", 200))
    calls.publish(LEG, stopped("item_1", 1700))
    calls.publish(LEG, TurnCommitted("item_1", 0, None, by_client=False))
    loop.move_on(2.0)
    calls.publish(LEG, final("item_1", "one two", 200, 1400))
    calls.publish(LEG, ENDED)
    loop.move_on(LEG_GAP)
    events = await read(calls)

    assert [event["sequence"] for event in events] == list(range(1, 10))
    assert [event["type"] for event in events] == [
        "call.started",
        "session.started",
        "engine.warming_up",
        "engine.ready",
        "speech.started",
        "speech.stopped",
        "text.final",
        "session.ended",
        "call.ended",
    ]
    assert [event["call_id"] for event in events] == ["call-1"] * 9
    about = {name: events[1][name] for name in ("encoding", "sample_rate", "channels", "offset")}
    assert about == {"encoding": "mulaw", "sample_rate": 8000, "channels": 1, "offset": 0.0}
    assert (events[4]["start"], events[5]["end"]) == (0.2, 1.7)
    spoken = {name: value for name, value in events[6].items() if name != "id"}
    assert spoken == {
        "type": "text.final",
        "sequence": 7,
        "call_id": "call-1",
        "time": 2.0,
        "session_id": "sess_1",
        "item_id": "item_1",
        "channel": 0,
        "text": "one two",
        "language": "English",
        "start": 0.2,
        "end": 1.4,
        "lag": 0.25,
    }
    assert (events[7]["code"], events[7]["message"]) == (None, None)
    assert events[8]["finals"] == 1


async def test_partials_have_what_is_settled_and_what_is_not(calls: Calls) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, partial("item_1", "one", " tow", channel=1))
    event = (await read(calls))[-1]

    named = {name: event[name] for name in ("type", "item_id", "channel", "stable", "tail", "lag")}
    assert named == {
        "type": "text.partial",
        "item_id": "item_1",
        "channel": 1,
        "stable": "one",
        "tail": " tow",
        "lag": 0.12,
    }


async def test_an_item_that_fails_is_told_in_the_place_of_its_text(calls: Calls) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, partial("item_1", "one"))
    calls.publish(LEG, failed("item_1"))
    events = await read(calls)

    assert [event["type"] for event in events[2:]] == ["text.failed"]
    assert (events[2]["code"], events[2]["message"]) == ("timed_out", "Try again.")


async def test_a_session_that_failed_says_why(calls: Calls) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, SessionEnded(str(FailureCode.WORKER_FAILED), "Open a new one."))
    event = (await read(calls))[-1]

    assert (event["type"], event["code"], event["message"]) == (
        "session.ended",
        "worker_failed",
        "Open a new one.",
    )


async def test_what_a_client_clears_leaves_no_partial_behind(calls: Calls) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, partial("item_1", "one"))
    calls.publish(LEG, AudioCleared())

    assert await kinds(calls) == ["call.started", "session.started", "speech.cleared"]


async def test_two_legs_of_a_call_share_its_clock_and_end_with_the_last(
    calls: Calls, loop: ManualLoop
) -> None:
    calls.began(LEG, opening())
    loop.move_on(1.5)
    calls.began(OTHER_LEG, opening())
    calls.publish(OTHER_LEG, final("item_9", "hello", 500, 900))
    calls.publish(LEG, ENDED)
    loop.move_on(LEG_GAP * 2)
    assert "call.ended" not in await kinds(calls)
    calls.publish(OTHER_LEG, ENDED)
    loop.move_on(LEG_GAP)
    events = await read(calls)

    spoken = next(event for event in events if event["type"] == "text.final")
    assert (spoken["session_id"], spoken["start"], spoken["end"]) == ("sess_2", 2.0, 2.4)
    sessions = [event["session_id"] for event in events if event["type"] == "session.ended"]
    assert sessions == ["sess_1", "sess_2"]
    assert events[-1]["type"] == "call.ended"


async def test_a_session_shortly_behind_the_last_one_goes_on_with_the_call(
    calls: Calls, loop: ManualLoop
) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, ENDED)
    loop.move_on(LEG_GAP - 0.1)
    calls.began(OTHER_LEG, opening())
    loop.move_on(LEG_GAP)

    assert await kinds(calls) == [
        "call.started",
        "session.started",
        "session.ended",
        "session.started",
    ]


async def test_a_session_long_behind_the_last_one_begins_a_call_of_its_own(
    calls: Calls, loop: ManualLoop
) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, final("item_1", "one"))
    last_read = (await read(calls))[-1]["id"]
    calls.publish(LEG, ENDED)
    loop.move_on(LEG_GAP)
    calls.began(OTHER_LEG, opening())

    assert await kinds(calls) == ["call.started", "session.started"]
    assert await kinds(calls, last_event_id=last_read) == ["call.started", "session.started"]


async def test_a_call_ends_at_once_where_the_server_ends(loop: ManualLoop) -> None:
    calls = calls_of(loop, is_draining=lambda: True)
    calls.began(LEG, opening())
    calls.publish(LEG, ENDED)

    assert (await kinds(calls))[-1] == "call.ended"


async def test_a_follower_waits_for_what_comes_and_is_done_when_the_call_is(
    calls: Calls, loop: ManualLoop
) -> None:
    calls.began(LEG, opening())
    heard: list[str] = []

    async def follow() -> None:
        with calls.follow(None, "call-1") as follower:
            async for events in follower.batches():
                heard.extend(json.loads(event.content)["type"] for event in events)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        for event in (partial("item_1", "o"), partial("item_1", "on"), final("item_1", "one")):
            await asyncio.sleep(0)
            calls.publish(LEG, event)
        calls.publish(LEG, ENDED)
        loop.move_on(LEG_GAP)

    assert heard == [
        "call.started",
        "session.started",
        "text.partial",
        "text.partial",
        "text.final",
        "session.ended",
        "call.ended",
    ]


async def test_only_the_key_that_opened_a_call_can_follow_it(calls: Calls) -> None:
    calls.began(Leg("call-1", "sess_1", "0a0a0a0a"), opening())

    assert is_known(calls, owner="0a0a0a0a")
    assert not is_known(calls, owner="0b0b0b0b")
    assert not is_known(calls)


async def test_callers_with_different_keys_do_not_meet_under_one_call_id(calls: Calls) -> None:
    first, second = Leg("call-1", "sess_1", "0a0a0a0a"), Leg("call-1", "sess_2", "0b0b0b0b")
    calls.began(first, opening())
    calls.began(second, opening())
    calls.publish(second, final("item_1", "hello"))

    assert await kinds(calls, owner="0a0a0a0a") == ["call.started", "session.started"]
    assert (await kinds(calls, owner="0b0b0b0b"))[-1] == "text.final"


async def test_ended_calls_are_forgotten_after_a_while(calls: Calls, loop: ManualLoop) -> None:
    calls.began(LEG, opening())
    calls.publish(LEG, ENDED)
    loop.move_on(LEG_GAP + 599.0)
    assert is_known(calls)
    loop.move_on(1.1)

    assert repr(calls) == "<Calls 0 open, 0 ended>"
    assert not is_known(calls)
    assert loop.planned == 0


async def test_an_open_call_is_never_forgotten(calls: Calls, loop: ManualLoop) -> None:
    calls.began(LEG, opening())
    loop.move_on(7200.0)

    assert await kinds(calls) == ["call.started", "session.started"]


async def test_the_oldest_of_many_ended_calls_are_forgotten_first(loop: ManualLoop) -> None:
    calls = calls_of(loop, is_draining=lambda: True)
    for number in range(MOST_ENDED_CALLS + 2):
        leg = Leg(f"call-{number}", f"sess_{number}", None)
        calls.began(leg, opening(leg.call_id))
        calls.publish(leg, ENDED)

    assert repr(calls) == f"<Calls 0 open, {MOST_ENDED_CALLS} ended>"
    assert not is_known(calls, "call-1")
    assert is_known(calls, "call-2")


async def test_ended_calls_together_take_no_more_than_their_share_of_memory(
    loop: ManualLoop,
) -> None:
    calls = calls_of(loop, is_draining=lambda: True, ended_bytes=10_000)
    for number in range(10):
        leg = Leg(f"call-{number}", f"sess_{number}", None)
        calls.began(leg, opening(leg.call_id))
        calls.publish(leg, final("item_1", "x" * 2500))
        calls.publish(leg, ENDED)

    assert [number for number in range(10) if is_known(calls, f"call-{number}")] == [8, 9]


async def test_a_call_has_room_for_so_many_followers(calls: Calls) -> None:
    calls.began(LEG, opening())
    followers = [calls.follow(None, "call-1") for _ in range(MOST_FOLLOWERS)]
    for follower in followers:
        follower.__enter__()

    with pytest.raises(Unavailable) as refused, calls.follow(None, "call-1"):
        pass
    assert refused.value.code == "queue_full"
    followers[0].__exit__(None, None, None)
    assert is_known(calls)


def test_a_session_that_ended_before_it_began_is_no_call(calls: Calls) -> None:
    calls.publish(LEG, ENDED)

    assert not is_known(calls)
    assert repr(calls) == "<Calls 0 open, 0 ended>"
