"""Calls through a real child process to real servers on loopback."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.outbound import client
from gateway.outbound.client import (
    MAX_CALLS,
    Outbound,
    OutboundFailed,
    OutboundRequest,
    child_environment,
)
from gateway.outbound.messages import MAX_BODY_BYTES, Reason
from tests.gateway.harness import DEADLINE
from tests.gateway.web_server import Received, Reply, web_server

NO_PROXIES = {
    name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
}


@contextlib.asynccontextmanager
async def calling(
    environment: dict[str, str] | None = None, **wishes: Any
) -> AsyncIterator[Outbound]:
    outbound = Outbound(NO_PROXIES if environment is None else environment, **wishes)
    async with asyncio.timeout(DEADLINE):
        try:
            yield outbound
        finally:
            await outbound.aclose()


def get(url: str, **wishes: Any) -> OutboundRequest:
    return OutboundRequest("GET", url, **{"timeout": 10.0, **wishes})


async def refused(outbound: Outbound, request: OutboundRequest) -> OutboundFailed:
    with pytest.raises(OutboundFailed) as caught:
        await outbound.send(request)
    return caught.value


def echo(request: Received) -> Reply:
    headers = {"x-method": request.method, "x-key": request.headers.get("authorization", "")}
    return Reply(201, request.body, headers)


async def until_gone(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(process_id, 0)
            await asyncio.sleep(0.005)


async def test_request_and_answer_pass_through_the_child() -> None:
    async with web_server(echo) as server, calling() as outbound:
        answer = await outbound.send(
            OutboundRequest(
                "POST",
                f"{server.url}/v1/chat",
                timeout=10.0,
                headers={"authorization": "Bearer sk-1"},
                body="ça va".encode(),
            )
        )

    assert (answer.status, answer.body) == (201, "ça va".encode())
    assert answer.headers["x-method"] == "POST"
    assert answer.headers["x-key"] == "Bearer sk-1"
    assert server.received[0].target == "/v1/chat"


async def test_calls_share_one_child_and_do_not_wait_for_each_other() -> None:
    all_there = asyncio.Event()

    async def together(request: Received) -> Reply:
        if len(server.received) == MAX_CALLS:
            all_there.set()
        await all_there.wait()
        return Reply(body=request.target.encode())

    async with web_server(together) as server, calling() as outbound:
        paths = [f"/{number}" for number in range(MAX_CALLS)]
        answers = await asyncio.gather(*(outbound.send(get(server.url + path)) for path in paths))
        assert outbound.process_id is not None

    assert [answer.body.decode() for answer in answers] == paths


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    gate, full = asyncio.Event(), asyncio.Event()

    async def held(request: Received) -> Reply:
        if len(server.received) == MAX_CALLS:
            full.set()
        await gate.wait()
        return Reply()

    async with web_server(held) as server, calling() as outbound:
        calls = [
            asyncio.ensure_future(outbound.send(get(server.url))) for _ in range(MAX_CALLS + 5)
        ]
        await full.wait()
        assert f"{MAX_CALLS} calls" in repr(outbound)
        gate.set()
        answers = await asyncio.gather(*calls)

    assert len(answers) == MAX_CALLS + 5


async def test_child_ends_when_idle_and_the_next_call_starts_another() -> None:
    async with web_server(echo) as server, calling(idle_seconds=0.01) as outbound:
        await outbound.send(get(server.url))
        first = outbound.process_id
        assert first is not None
        await until_gone(first)
        assert outbound.process_id is None

        await outbound.send(get(server.url))
        assert outbound.process_id not in (None, first)


async def test_keys_are_neither_in_the_childs_arguments_nor_in_its_environment(
    tmp_path: Path,
) -> None:
    environment = {**NO_PROXIES, "OPENAI_API_KEY": "sk-secret", "API_KEYS": "sk-secret"}
    program = "import os, sys; open(sys.argv[1], 'w').write(f'{sys.argv} {dict(os.environ)}')"
    command = (sys.executable, "-c", program, str(tmp_path / "seen"))

    async with calling(environment, command=command) as outbound:
        request = get("http://127.0.0.1", headers={"authorization": "Bearer sk-secret"})
        await refused(outbound, request)

    seen = (tmp_path / "seen").read_text()
    assert "'PATH'" in seen
    assert "sk-secret" not in seen


def test_of_the_environment_only_what_the_network_needs_is_passed_on() -> None:
    needed = {"PATH": "/bin", "HTTPS_PROXY": "http://p:1", "no_proxy": "lan", "LC_ALL": "C"}

    assert child_environment({**needed, "HF_TOKEN": "t", "AWS_SECRET": "s"}) == needed


async def test_cancelled_call_ends_its_connection() -> None:
    async def never(request: Received) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with web_server(never) as server, calling() as outbound:
        call = asyncio.ensure_future(outbound.send(get(server.url)))
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        await server.was_left.wait()
        assert outbound.process_id is not None


async def test_child_that_dies_fails_its_calls_and_the_next_starts_another() -> None:
    async def never_first(request: Received) -> Reply:
        if len(server.received) == 1:
            await asyncio.Event().wait()
        return Reply(body=b"second")

    async with web_server(never_first) as server, calling() as outbound:
        call = asyncio.ensure_future(outbound.send(get(server.url)))
        await server.arrived.wait()
        assert outbound.process_id is not None
        os.kill(outbound.process_id, signal.SIGKILL)
        with pytest.raises(OutboundFailed) as caught:
            await call

        assert caught.value.reason is Reason.CHILD_ENDED
        assert (await outbound.send(get(server.url))).body == b"second"


async def test_hanging_child_is_killed_and_its_call_told_so() -> None:
    asleep = (sys.executable, "-c", "import time; time.sleep(1000)")

    async with calling(command=asleep, overdue=0.01) as outbound:
        failure = await refused(outbound, get("http://127.0.0.1", timeout=0.01))
        assert failure.reason is Reason.TIMEOUT
        assert outbound.process_id is None


async def test_child_that_does_not_end_with_its_input_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "END_TIMEOUT", 0.01)
    asleep = (sys.executable, "-c", "import time; time.sleep(1000)")

    async with calling(command=asleep) as outbound:
        call = asyncio.ensure_future(outbound.send(get("http://127.0.0.1")))
        while outbound.process_id is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        process_id = outbound.process_id
        await outbound.aclose()
        with pytest.raises(OutboundFailed):
            await call

    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


async def test_child_that_writes_rubbish_is_ended() -> None:
    rubbish = (sys.executable, "-c", "print('hello, world', flush=True); input()")

    async with calling(command=rubbish) as outbound:
        failure = await refused(outbound, get("http://127.0.0.1"))

    assert failure.reason is Reason.CHILD_ENDED


async def test_missing_program_is_told() -> None:
    async with calling(command=("/nonexistent/program",)) as outbound:
        failure = await refused(outbound, get("http://127.0.0.1"))

    assert failure.reason is Reason.CHILD_ENDED
    assert "cannot be started" in str(failure)


async def test_child_ends_when_this_process_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from gateway.outbound.client import Outbound, OutboundRequest
async def main():
    outbound = Outbound()
    try:
        await outbound.send(OutboundRequest("GET", "ftp://x", timeout=10.0))
    except Exception:
        Path({str(tmp_path / "partial")!r}).write_text(str(outbound.process_id))
        Path({str(tmp_path / "partial")!r}).rename({str(tmp_path / "child")!r})
    await asyncio.Event().wait()
asyncio.run(main())
"""
    async with asyncio.timeout(DEADLINE):
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        while not (tmp_path / "child").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        parent.kill()
        await parent.wait()

        await until_gone(int((tmp_path / "child").read_text()))


async def test_closing_fails_what_is_under_way() -> None:
    async def never(request: Received) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with web_server(never) as server, calling() as outbound:
        call = asyncio.ensure_future(outbound.send(get(server.url)))
        await server.arrived.wait()
        await outbound.aclose()
        with pytest.raises(OutboundFailed) as caught:
            await call

    assert caught.value.reason is Reason.CHILD_ENDED


async def test_too_large_request_is_not_sent() -> None:
    async with calling() as outbound:
        failure = await refused(outbound, get("http://127.0.0.1", body=bytes(2 * MAX_BODY_BYTES)))
        assert outbound.process_id is None

    assert failure.reason is Reason.TOO_LARGE
