"""Calls followed over real connections; what sessions tell of them is told by the test."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK

from gateway.live import call_events
from gateway.live.call_events import Calls
from gateway.settings import ApiKey
from tests.gateway.harness import (
    DEADLINE,
    RunningServer,
    is_closed,
    read_head,
    read_pieces,
    request,
    running_server,
)
from tests.gateway.live.calls import ENDED, LEG, final, opening, partial, started
from tests.gateway.websockets.servers import client_of, code_of, refusal_of

PATH = "/v1/calls/call-1/events"


@pytest.fixture
async def server(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningServer]:
    """One whose calls end with their last session."""
    monkeypatch.setattr(call_events, "LEG_GAP", 0.0)
    async with running_server(short_folder) as server:
        yield server


def calls_of(server: RunningServer) -> Calls:
    calls = server.gateway.call_events
    assert isinstance(calls, Calls)
    return calls


class Stream:
    """An answer of events, one after another."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._pieces = read_pieces(reader)

    async def next(self) -> tuple[str | None, Any]:
        """Id and fields of the next event; comments are passed over."""
        async for piece in self._pieces:
            lines = piece.decode().splitlines()
            if lines and not lines[0].startswith(":"):
                name = lines[0].removeprefix("id: ") if lines[0].startswith("id: ") else None
                return name, json.loads(lines[-1 if lines[-1] else -2].removeprefix("data: "))
        raise EOFError

    async def kinds(self, count: int) -> list[str]:
        return [(await self.next())[1]["type"] for _ in range(count)]


@asynccontextmanager
async def following(
    server: RunningServer, path: str = PATH, **headers: str
) -> AsyncIterator[Stream]:
    async with server.connection() as (reader, writer):
        writer.write(request("GET", path, headers=headers))
        head = await read_head(reader)
        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream"
        assert head.headers["cache-control"] == "no-cache"
        assert head.headers["x-accel-buffering"] == "no"
        yield Stream(reader)


async def test_a_late_follower_gets_the_call_from_its_start_and_then_what_comes(
    server: RunningServer,
) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    calls.publish(LEG, final("item_1", "one"))
    async with following(server) as stream:
        assert await stream.kinds(3) == ["call.started", "session.started", "text.final"]
        calls.publish(LEG, started("item_2"))
        assert await stream.kinds(1) == ["speech.started"]
        calls.publish(LEG, partial("item_2", "two"))
        assert await stream.kinds(1) == ["text.partial"]
        calls.publish(LEG, final("item_2", "two"))
        calls.publish(LEG, ENDED)

        assert await stream.kinds(3) == ["text.final", "session.ended", "call.ended"]
        with pytest.raises(EOFError):
            await stream.next()


async def test_a_stream_goes_on_behind_the_last_event_its_client_had(
    server: RunningServer,
) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    calls.publish(LEG, final("item_1", "one"))
    async with following(server) as stream:
        for _ in range(3):
            last_id, _ = await stream.next()
        assert last_id is not None
    calls.publish(LEG, final("item_2", "two"))
    async with following(server, Last_Event_ID=last_id) as stream:
        _, event = await stream.next()
        assert event["text"] == "two"
    async with following(server, f"{PATH}?last_event_id={last_id}") as stream:
        _, event = await stream.next()
        assert event["text"] == "two"


async def test_a_browser_that_comes_back_behind_the_end_is_told_to_stay_away(
    server: RunningServer,
) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    calls.publish(LEG, ENDED)
    async with following(server) as stream:
        for _ in range(4):
            last_id, _ = await stream.next()
    assert last_id is not None
    answer = await server.get(PATH, Last_Event_ID=last_id)

    assert (answer.status, answer.body) == (204, b"")


async def test_an_unknown_call_is_not_found(server: RunningServer) -> None:
    answer = await server.get(PATH)

    assert answer.status == 404
    assert answer.error["code"] == "call_not_found"
    refused = await refusal_of(server, PATH)
    assert (refused.status, code_of(refused)) == (404, "call_not_found")


async def test_head_answers_without_a_stream(server: RunningServer) -> None:
    calls_of(server).began(LEG, opening())
    async with server.connection() as (reader, writer):
        writer.write(request("HEAD", PATH, headers={"Connection": "close"}))
        head = await read_head(reader)

        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        assert await is_closed(reader)


async def test_a_call_can_be_followed_with_the_key_that_opened_it_alone(
    short_folder: Path,
) -> None:
    keys = (ApiKey.of("first"), ApiKey.of("second"))
    async with running_server(short_folder, api_keys=keys) as server:
        leg = type(LEG)(LEG.call_id, LEG.session_id, keys[0].key_id)
        calls_of(server).began(leg, opening())
        async with following(server, Authorization="Bearer first") as stream:
            assert await stream.kinds(1) == ["call.started"]

        assert (await server.get(PATH, Authorization="Bearer second")).status == 404
        assert (await server.get(PATH)).status == 401


async def test_a_follower_that_leaves_makes_room_for_another(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_events, "MOST_FOLLOWERS", 1)
    calls_of(server).began(LEG, opening())
    async with following(server) as stream:
        assert await stream.kinds(1) == ["call.started"]
        refused = await server.get(PATH)
        assert (refused.status, refused.error["code"]) == (503, "queue_full")
        assert "retry-after" in refused.headers
    async with asyncio.timeout(DEADLINE):
        while await first_status(server) != 200:
            pass  # until the server has noticed


async def first_status(server: RunningServer) -> int:
    async with server.connection() as (reader, writer):
        writer.write(request("GET", PATH))
        return (await read_head(reader)).status


async def test_a_websocket_gets_the_same_events_and_closes_with_the_call(
    server: RunningServer,
) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    calls.publish(LEG, final("item_1", "one"))
    async with client_of(server, PATH) as client:
        kinds = [json.loads(await client.recv())["type"] for _ in range(3)]
        await client.send("what a follower says means nothing")
        calls.publish(LEG, partial("item_2", "two"))
        kinds.append(json.loads(await client.recv())["type"])
        calls.publish(LEG, ENDED)
        kinds += [json.loads(await client.recv())["type"] for _ in range(2)]
        with pytest.raises(ConnectionClosedOK):
            await client.recv()

    assert kinds == [
        "call.started",
        "session.started",
        "text.final",
        "text.partial",
        "session.ended",
        "call.ended",
    ]


async def test_a_websocket_goes_on_behind_an_event_too(server: RunningServer) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    async with client_of(server, PATH) as client:
        last_id = [json.loads(await client.recv())["id"] for _ in range(2)][-1]
    calls.publish(LEG, final("item_1", "one"))
    async with client_of(server, f"{PATH}?last_event_id={last_id}") as client:
        assert json.loads(await client.recv())["text"] == "one"


async def test_a_follower_that_does_not_read_holds_nobody_up_and_loses_no_final(
    server: RunningServer,
) -> None:
    calls = calls_of(server)
    calls.began(LEG, opening())
    async with server.connection() as (reader, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        writer.write(request("GET", PATH))
        assert (await read_head(reader)).status == 200
        transport.pause_reading()
        for number in range(200):  # 40 MB, more than the kernel takes
            calls.publish(LEG, partial(f"item_{number}", "x" * 200_000))
            calls.publish(LEG, final(f"item_{number}", "one"))
            await asyncio.sleep(0)
        calls.publish(LEG, ENDED)
        transport.resume_reading()
        stream = Stream(reader)
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "call.ended":
            events.append((await stream.next())[1])

    kinds = [event["type"] for event in events]
    assert kinds.count("text.final") == 200
    assert "history.truncated" not in kinds
    dropped = [event["count"] for event in events if event["type"] == "partials.dropped"]
    assert sum(dropped) + kinds.count("text.partial") == 200
    assert dropped
