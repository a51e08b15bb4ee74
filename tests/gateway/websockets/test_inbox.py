import asyncio

import pytest

from gateway.websockets.frames import Close
from gateway.websockets.inbox import PAUSE_ABOVE, RESUME_BELOW, Inbox


@pytest.fixture
def calls() -> list[str]:
    """What the inbox asked of the connection."""
    return []


@pytest.fixture
def inbox(calls: list[str]) -> Inbox:
    return Inbox(pause=lambda: calls.append("pause"), resume=lambda: calls.append("resume"))


async def test_messages_come_before_the_close_and_the_close_for_ever(inbox: Inbox) -> None:
    inbox.put("one")
    inbox.put(b"two")
    inbox.close(Close(1000, ""))
    inbox.close(Close(1006, ""))
    inbox.put("after the close")

    taken = [await inbox.get() for _ in range(4)]

    assert taken == ["one", b"two", Close(1000, ""), Close(1000, "")]


async def test_client_waits_above_the_mark_until_half_is_taken(
    inbox: Inbox, calls: list[str]
) -> None:
    while inbox.held_bytes <= PAUSE_ABOVE:
        assert calls == []
        inbox.put(bytes(10_000))
    inbox.put(b"what was read already")
    assert calls == ["pause"]

    while inbox.held_bytes >= RESUME_BELOW:
        assert calls == ["pause"]
        await inbox.get()
    assert calls == ["pause", "resume"]


async def test_empty_messages_count_too(inbox: Inbox) -> None:
    for _ in range(PAUSE_ABOVE):
        inbox.put(b"")
        if inbox.is_paused:
            break

    assert inbox.is_paused


async def test_who_waits_gets_what_comes(inbox: Inbox) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put("it")

    assert waiting.result() == "it"


async def test_waiting_may_be_given_up_and_begun_again(inbox: Inbox) -> None:
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    inbox.put("it")

    assert await inbox.get() == "it"


async def test_what_is_thrown_away_holds_nobody_up(inbox: Inbox, calls: list[str]) -> None:
    inbox.put(bytes(PAUSE_ABOVE + 1))
    inbox.discard()

    assert inbox.held_bytes == 0
    assert calls == ["pause", "resume"]
