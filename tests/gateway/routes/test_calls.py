"""Having an engine started before a call, and the description of what followers are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.live.events import AudioCleared, EngineReady, EngineWarming
from gateway.routes.calls import MAX_WARM_BODY, MOST_WARM_SECONDS, WARM_SECONDS, parse_warm
from gateway.settings import ApiKey
from tests.fakes import FakeWorkerClient, client_snapshot
from tests.gateway.harness import Answer, RunningServer, request, running_server
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
from tests.gateway.test_openapi_answers import assert_fits
from tools.openapi.calls import KINDS


async def warm(server: RunningServer, body: bytes = b"", **headers: str) -> Answer:
    return await server.send(request("POST", "/v1/warm", headers=headers, body=body))


@pytest.mark.parametrize(
    ("state", "engine"), [("stopped", "starting"), ("starting", "starting"), ("ready", "ready")]
)
async def test_an_engine_is_wanted_and_the_caller_hears_how_it_stands(
    short_folder: Path, state: str, engine: str
) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot(state)
    async with running_server(short_folder, client) as server:
        answer = await warm(server, b'{"seconds": 30}')

    assert (answer.status, answer.json) == (202, {"engine": engine, "seconds": 30.0})
    assert client.warmed == [30.0]
    assert_fits("Warming", answer.json)


async def test_a_caller_that_says_nothing_gets_the_usual_time(short_folder: Path) -> None:
    async with running_server(short_folder) as server:
        answer = await warm(server)

    assert answer.json["seconds"] == WARM_SECONDS
    assert server.client.warmed == [WARM_SECONDS]


async def test_a_caller_hears_why_no_engine_can_be_started(short_folder: Path) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot(reason="no worker is connected")
    async with running_server(short_folder, client) as server:
        answer = await warm(server)

    assert (answer.status, answer.error["code"]) == (503, "worker_unavailable")
    assert "no worker is connected" in answer.error["message"]
    assert "retry-after" in answer.headers


async def test_warming_needs_a_key_where_there_are_keys(short_folder: Path) -> None:
    async with running_server(short_folder, api_keys=(ApiKey.of("first"),)) as server:
        assert (await warm(server)).status == 401
        assert (await warm(server, Authorization="Bearer first")).status == 202

    assert len(server.client.warmed) == 1


async def test_a_server_that_ends_starts_no_engine(short_folder: Path) -> None:
    async with running_server(short_folder) as server:
        server.gateway.is_draining = True
        answer = await warm(server)

    assert (answer.status, answer.error["code"]) == (503, "shutting_down")
    assert server.client.warmed == []


async def test_a_body_that_is_too_large_is_refused(short_folder: Path) -> None:
    async with running_server(short_folder) as server:
        answer = await warm(server, b" " * (MAX_WARM_BODY + 1))

    assert answer.status == 413


async def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever(short_folder: Path) -> None:
    async with running_server(short_folder, body_timeout=0.05) as server:
        answer = await server.send(
            b"POST /v1/warm HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
        )

    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"seconds": null}', b'{"other": 1}'])
def test_what_says_no_time_is_taken_for_the_usual_one(body: bytes) -> None:
    assert parse_warm(body) == WARM_SECONDS


@pytest.mark.parametrize("seconds", ["0", "0.9", "3600.1", "-5", "true", '"60"', "1e999", "[]"])
def test_a_time_out_of_range_is_refused(seconds: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_warm(b'{"seconds": %s}' % seconds.encode())

    assert refused.value.param == "seconds"


@pytest.mark.parametrize("body", [b"[]", b"5", b"{", b"\xff", b"[" * 4000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_warm(body)


def test_the_longest_time_is_taken() -> None:
    assert parse_warm(b'{"seconds": %d}' % MOST_WARM_SECONDS) == MOST_WARM_SECONDS


async def test_followers_are_told_what_is_described_and_nothing_else() -> None:
    loop = ManualLoop()
    calls = calls_of(loop, is_draining=lambda: True, history_bytes=4000)
    events: list[Any] = []
    calls.began(LEG, opening())
    with calls.follow(None, LEG.call_id) as follower:
        batches = follower.batches()
        told = [EngineWarming(), EngineReady(), started("item_1"), partial("item_1", "o", "n")]
        for event in (*told, stopped("item_1"), failed("item_1"), AudioCleared()):
            calls.publish(LEG, event)
            events += [json.loads(each.content) for each in await anext(batches)]
        for number in range(70):
            calls.publish(LEG, partial("item_2", str(number)))
            calls.publish(LEG, final("item_2", "one"))
        calls.publish(LEG, ENDED)
        async for batch in batches:
            events += [json.loads(each.content) for each in batch]

    for event in events:
        assert_fits("CallEvent", event)
    assert {event["type"] for event in events} == set(KINDS)
