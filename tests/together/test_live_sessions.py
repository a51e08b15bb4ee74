"""Live sessions over real sockets: WebSocket, gateway, work link, and engines that hear letters."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.app import all_routes, build_overloaded_app, guarded, live_routes
from gateway.context import Gateway
from gateway.live.events import Opening, SessionEnded, SessionEvent, TurnCompleted
from gateway.live.publishing import Leg
from gateway.server import HttpServer
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.worker_client.link import WorkerLink
from protocol.control import EngineState, StartEngine
from protocol.failures import FailureCode
from protocol.live import SessionFailed
from protocol.sockets import link_addresses
from tests.gateway.live.letter_engine import spoken
from tests.gateway.worker_client.fake_peers import FakeSupervisor
from tests.together.fake_live_engine import FakeLiveEngine, live_engine

GATEWAY_ID = "ab12cd34"
DEADLINE = 15.0
A, B = chr(0x101), chr(0x102)
UTTERANCE = spoken(1, steps=20) + spoken(0, steps=20)


class Followers:
    """CallEvents that remember."""

    def __init__(self) -> None:
        self.events: dict[str, list[SessionEvent]] = {}
        self.changed = asyncio.Event()

    def began(self, leg: Leg, opening: Opening) -> None:
        self.events.setdefault(leg.call_id, [])

    def publish(self, leg: Leg, event: SessionEvent) -> None:
        self.events[leg.call_id].append(event)
        self.changed.set()

    async def until_ended(self, call_id: str = "call_1") -> list[SessionEvent]:
        async with asyncio.timeout(DEADLINE):
            while not any(isinstance(each, SessionEnded) for each in self.events.get(call_id, [])):
                self.changed.clear()
                await self.changed.wait()
        return self.events[call_id]


class Place:
    """A gateway, the workers a test plays, and its clients."""

    def __init__(self, gateway: Gateway, server: HttpServer, stack: AsyncExitStack) -> None:
        self.gateway = gateway
        self.server = server
        self.followers = Followers()
        gateway.__dict__["call_events"] = self.followers
        self._addresses = link_addresses("ipc", gateway.settings.data_dir)
        self._stack = stack

    async def supervisor(self, worker_id: str = "one") -> FakeSupervisor:
        supervisor = await self._stack.enter_async_context(FakeSupervisor(self._addresses.control))
        await supervisor.join(worker_id)
        return supervisor

    async def engine(
        self, worker_id: str = "one", epoch: int = 1, *, is_dumb: bool = False
    ) -> FakeLiveEngine:
        return await self._stack.enter_async_context(
            live_engine(self._addresses.work, worker_id, epoch, is_dumb=is_dumb)
        )

    async def client(self, query: str = "") -> "Client":
        url = f"ws://127.0.0.1:{self.server.port}/plain?{query}"
        # Its close handshake would wait for the server where a test is over.
        socket = await self._stack.enter_async_context(connect(url, close_timeout=0.1, proxy=None))
        return Client(socket)


class Client:
    """One WebSocket of the plain dialect."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: str | bytes) -> None:
        await self.socket.send(message)

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of that type; others are passed over."""
        async with asyncio.timeout(DEADLINE):
            while True:
                event: dict[str, Any] = json.loads(await self.socket.recv())
                if event["type"] == kind:
                    return event

    async def close_code(self) -> int | None:
        """Once the server closes; what it still says is passed over."""
        async with asyncio.timeout(DEADLINE):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed:
                return self.socket.close_code


@asynccontextmanager
async def open_place(folder: Path, **settings: Any) -> AsyncIterator[Place]:
    chosen = Settings(**{"port": 0, "data_dir": folder, "model_id": "model", **settings})
    spool = Spool(folder / "spool", GATEWAY_ID)
    spool.open()
    async with WorkerLink(chosen, spool.folder, GATEWAY_ID) as link:
        gateway = Gateway(chosen, link, spool)
        routes = live_routes(gateway, {"/plain": "tests.together.plain_dialect"})
        app = guarded(gateway, [*all_routes(gateway), *routes])
        server = HttpServer(app, chosen, overloaded=build_overloaded_app(gateway))
        await server.start()
        try:
            async with AsyncExitStack() as stack:
                yield Place(gateway, server, stack)
        finally:
            await server.abort()
            await gateway.outbound.aclose()


@pytest.fixture
async def place(short_folder: Path) -> AsyncIterator[Place]:
    async with open_place(short_folder) as place:
        yield place


async def test_a_cold_server_takes_the_call_at_once_and_loses_no_word(place: Place) -> None:
    supervisor = await place.supervisor()
    started = time.monotonic()
    client = await place.client()
    assert (await client.until("hello"))["is_ready"] is False
    assert time.monotonic() - started < 0.3
    await client.until("EngineWarming")
    await client.send(UTTERANCE)
    await supervisor.receive(StartEngine)
    await place.engine()

    await client.until("EngineReady")
    assert (await client.until("TurnCompleted"))["transcript"] == A


async def test_a_warm_server_is_ready_at_once(place: Place) -> None:
    await place.supervisor()
    await place.engine()
    client = await place.client()

    assert (await client.until("hello"))["is_ready"] is True
    await client.send(UTTERANCE)
    assert (await client.until("TurnCompleted"))["transcript"] == A


async def test_an_engine_that_dies_in_the_middle_of_a_word_costs_no_word(place: Place) -> None:
    supervisor = await place.supervisor()
    first = await place.engine(is_dumb=True)
    client = await place.client()
    await client.send(UTTERANCE + spoken(2, steps=10))
    session = await first.until_received(5000)
    for event in session.told:
        await first.send(event)
    item = (await client.until("TurnStarted"))["item_id"]
    await supervisor.report(EngineState.BACKING_OFF)
    await client.until("EngineWarming")
    await client.send(spoken(2, steps=10) + spoken(0, steps=20))
    await place.engine(epoch=2)

    answers = [await client.until("TurnCompleted") for _ in "ab"]
    assert [each["transcript"] for each in answers] == [A, B]
    assert answers[0]["item_id"] == item
    assert place.gateway.worker_client.snapshot().live_totals.replays == 1


async def test_an_engine_that_answers_nothing_any_more_is_left(place: Place) -> None:
    await place.supervisor("one")
    await place.supervisor("two")
    stuck = await place.engine("one", is_dumb=True)
    client = await place.client()
    await client.send(UTTERANCE)
    await stuck.until_received(4000)
    stuck.fall_silent()
    await place.engine("two")

    assert (await client.until("TurnCompleted"))["transcript"] == A


async def test_an_engine_that_ends_in_good_order_hands_its_sessions_on(place: Place) -> None:
    await place.supervisor("one")
    await place.supervisor("two")
    ending = await place.engine("one", is_dumb=True)
    client = await place.client()
    await client.send(UTTERANCE)
    session = await ending.until_received(4000)
    opening = session.opening
    await place.engine("two")
    await ending.give_back(
        SessionFailed(opening.session_id, opening.attempt, FailureCode.SHUTTING_DOWN, "Ending.")
    )

    assert (await client.until("TurnCompleted"))["transcript"] == A


async def test_sessions_go_to_the_engine_with_the_fewest(place: Place) -> None:
    engines = []
    for name in ("one", "two"):
        await place.supervisor(name)
        engines.append(await place.engine(name))
    clients = [await place.client(f"call_id={number}") for number in range(4)]
    for client in clients:
        await client.send(UTTERANCE)
        await client.until("TurnCompleted")

    assert [len(engine.sessions) for engine in engines] == [2, 2]


async def test_a_session_under_which_engines_die_is_given_up(place: Place) -> None:
    supervisor = await place.supervisor()
    client = await place.client()
    await client.send(spoken(1, steps=20))
    for epoch in (1, 2, 3):
        engine = await place.engine(epoch=epoch, is_dumb=True)
        await engine.until_received(2000)
        await supervisor.report(EngineState.BACKING_OFF, epoch)

    assert (await client.until("SessionEnded"))["code"] == "worker_failed"
    assert await client.close_code() == 1011


async def test_a_worker_that_cannot_start_ends_the_session_in_words(place: Place) -> None:
    supervisor = await place.supervisor()
    client = await place.client()
    await client.send(UTTERANCE)
    await supervisor.report(EngineState.FAILED, failure="no such model")

    assert "no such model" in (await client.until("SessionEnded"))["message"]
    assert await client.close_code() == 1013


async def test_more_sessions_than_the_limit_are_refused_before_the_upgrade(
    short_folder: Path,
) -> None:
    async with open_place(short_folder, max_live_sessions=1) as place:
        await place.client()
        with pytest.raises(InvalidStatus) as refusal:
            await place.client()

        response = refusal.value.response
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert json.loads(response.body)["error"]["code"] == "queue_full"


async def test_a_handshake_that_the_dialect_refuses_opens_no_session(place: Place) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await place.client("refuse=1")

    assert refusal.value.response.status_code == 400
    assert place.gateway.worker_client.snapshot().live_sessions == 0


async def test_a_hang_up_in_the_middle_of_a_word_is_still_answered(place: Place) -> None:
    await place.supervisor()
    engine = await place.engine()
    client = await place.client()
    await client.send(spoken(1, steps=20))
    await engine.until_received(2000)
    client.socket.transport.abort()

    events = await place.followers.until_ended()
    assert [each.transcript for each in events if isinstance(each, TurnCompleted)] == [A]
    assert events[-1] == SessionEnded(None, "")


async def test_a_client_that_finishes_gets_its_text_and_a_normal_end(place: Place) -> None:
    await place.supervisor()
    await place.engine()
    client = await place.client("manual=1")
    await client.send(spoken(1, steps=20))
    await client.send("commit")
    await client.send("finish")

    assert (await client.until("TurnCompleted"))["transcript"] == A
    assert await client.close_code() == 1000
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{place.server.port}") as http:
        health = (await http.get("/health")).json()
    assert health["live_sessions"] == 0
    totals = {"sessions": 1, "replays": 0, "utterances": 2, "contradictions": 0}
    assert health["live_totals"] == {**totals, "partials_dropped": 0}


async def test_a_server_that_ends_sends_the_last_words_first(place: Place) -> None:
    await place.supervisor()
    engine = await place.engine()
    client = await place.client()
    await client.send(spoken(1, steps=20))
    await engine.until_received(2000)
    async with asyncio.TaskGroup() as tasks:
        place.gateway.is_draining = True
        tasks.create_task(place.server.finish(10, hurry=asyncio.Event(), end_work=lambda: None))

        assert (await client.until("TurnCompleted"))["transcript"] == A
        assert await client.close_code() == 1001


async def test_a_flood_waits_in_the_clients_socket_and_nothing_is_lost(short_folder: Path) -> None:
    most = 16 * 1024**2
    async with open_place(short_folder, live_buffer_bytes=most) as place:
        await place.supervisor()
        client = await place.client()
        piece = bytes(1024**2)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100 * len(piece):
                async with asyncio.timeout(1.0):
                    await client.send(piece)
                sent += len(piece)

        assert most <= place.gateway.live.rooms.kept_bytes <= most + len(piece)
        engine = await place.engine()
        await engine.until_received(sent)
        assert place.gateway.live.rooms.kept_bytes < most
