import asyncio
import logging
from pathlib import Path

import pytest
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Unavailable
from gateway.settings import ApiKey
from gateway.websockets.socket import ClientSocket
from tests.gateway.harness import is_closed, read_answer, read_head, request, running_server
from tests.gateway.websockets.servers import (
    HANDSHAKE,
    client_of,
    live_server,
    masked,
    raw_client_of,
    refusal_of,
)

KEYS = (ApiKey.of("first-key"),)


async def test_text_and_bytes_come_and_go(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, client_of(server) as client:
        await client.send("wörds")
        await client.send(bytes(70_000))

        assert await client.recv() == "wörds"
        assert await client.recv() == "70000"


async def test_trailing_slash_is_the_same_path(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, client_of(server, "/live/?model=x") as client:
        await client.send("heard")

        assert await client.recv() == "heard"


async def test_compression_is_not_agreed_on(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, client_of(server) as client:
        assert client.response is not None
        assert "sec-websocket-extensions" not in client.response.headers
        assert client.request is not None
        assert "permessage-deflate" in client.request.headers["sec-websocket-extensions"]


async def test_realtime_is_chosen_wherever_it_is_offered(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        async with client_of(server, "/live", "other", "realtime") as offering:
            assert offering.subprotocol == "realtime"
        async with client_of(server, "/live", "other") as another:
            assert another.subprotocol is None


async def test_key_among_the_subprotocols_lets_in_and_is_not_repeated(tmp_path: Path) -> None:
    async with live_server(tmp_path, api_keys=KEYS) as server:
        offered = ("realtime", "openai-insecure-api-key.first-key", "openai-beta.realtime-v1")
        async with client_of(server, "/live", *offered) as client:
            await client.send("in")

            assert await client.recv() == "in"
            assert client.subprotocol == "realtime"


async def test_wrong_or_missing_key_is_a_401_before_the_upgrade(tmp_path: Path) -> None:
    async with live_server(tmp_path, api_keys=KEYS) as server:
        missing = await refusal_of(server)
        wrong = await refusal_of(server, Authorization="Bearer other")
        among = await refusal_of(
            server, Sec_WebSocket_Protocol="realtime, openai-insecure-api-key.other"
        )

    for answer in (missing, wrong, among):
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/json"


async def test_foreign_page_is_a_403_and_a_listed_one_is_let_in(tmp_path: Path) -> None:
    listed = ("https://app.example",)
    async with live_server(tmp_path, allowed_origins=listed) as server:
        foreign = await refusal_of(server, Origin="https://evil.example")
        async with client_of(server, origin="https://app.example") as client:
            await client.send("in")

            assert await client.recv() == "in"
    assert (foreign.status, foreign.error["code"]) == (403, "origin_not_allowed")


async def test_path_without_a_socket_is_a_404_in_words(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        nowhere = await refusal_of(server, "/nowhere")
        plain = await refusal_of(server, "/v1/models")

    assert (nowhere.status, nowhere.error["code"]) == (404, "not_found")
    assert plain.status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": "not base64!"}, 400),
        ({"Sec_WebSocket_Key": "AQIDBAUGBwgJCgsMDQ4="}, 400),
    ],
)
async def test_handshake_that_is_none_is_refused_in_words(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with live_server(tmp_path) as server:
        answer = await refusal_of(server, **headers)

    assert answer.status == status
    assert answer.error["message"]
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"


async def test_request_line_is_taken_up_to_8192_bytes(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        async with client_of(server, "/live?" + "x" * (8192 - len("/live"))) as client:
            await client.send("in")
            assert await client.recv() == "in"
        longer = await refusal_of(server, "/live?" + "x" * (8193 - len("/live")))
        endless = await refusal_of(server, "/live?" + "x" * 100_000)

    assert (longer.status, longer.error["code"]) == (414, "invalid_http")
    assert (endless.status, endless.error["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize("change", [{"Upgrade": "h2c"}, {"Connection": "close"}])
async def test_request_that_asks_for_no_websocket_is_plain_http(
    tmp_path: Path, change: dict[str, str]
) -> None:
    async with live_server(tmp_path) as server:
        answer = await refusal_of(server, "/livez", **change)

    assert answer.status == 200


async def test_post_is_never_upgraded(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        answer = await server.send(request("POST", "/livez", headers=HANDSHAKE))

    assert answer.status == 405


async def test_frames_sent_with_the_handshake_are_not_lost(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        async with raw_client_of(server, early=masked(0x81, b"early")) as client:
            assert await client.frame() == (0x81, b"early")


async def test_handshake_may_follow_requests_on_one_connection(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("GET", "/livez"))
        first = await read_answer(reader)
        writer.write(request("GET", "/live", headers=HANDSHAKE))
        second = await read_status(reader)

    assert (first.status, second) == (200, 101)


async def test_handshake_may_come_right_behind_a_request(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, server.connection() as (reader, writer):
        handshake = request("GET", "/live", headers=HANDSHAKE)
        writer.write(request("GET", "/livez") + handshake + masked(0x81, b"early"))
        first = await read_answer(reader)
        second = await read_status(reader)

        assert (first.status, second) == (200, 101)
        assert await reader.readexactly(7) == b"\x81\x05early"


async def read_status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1])


async def test_http_goes_on_beside_open_sockets(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, client_of(server) as client:
        async with server.connection() as (reader, writer):
            for _ in range(3):
                writer.write(request("GET", "/livez"))
                assert (await read_answer(reader)).status == 200
        await client.send("still here")

        assert await client.recv() == "still here"


async def test_socket_counts_as_a_connection(tmp_path: Path) -> None:
    async with live_server(tmp_path, max_connections=1) as server, client_of(server):
        refused = await refusal_of(server)

    assert (refused.status, refused.error["code"]) == (503, "queue_full")
    assert "retry-after" in refused.headers


async def test_fault_before_the_answer_is_a_500_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret cause")

    async with running_server(tmp_path, routes=[WebSocketRoute("/live", Endpoint(fail))]) as server:
        answer = await refusal_of(server)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "secret" not in answer.body.decode()
    assert "secret cause" in caplog.text


async def test_session_that_is_refused_is_told_when_to_come_again(tmp_path: Path) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise Unavailable("All places for live sessions are taken.", retry_after=7)

    routes = [WebSocketRoute("/live", Endpoint(refuse))]
    async with running_server(tmp_path, routes=routes) as server:
        answer = await refusal_of(server)

    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["x-request-id"].startswith("req_")


async def test_client_that_leaves_during_the_handshake_ends_it(tmp_path: Path) -> None:
    seen: list[str] = []
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_its_end(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        began.set()
        seen.append((await receive())["type"])
        try:
            await send({"type": "websocket.accept"})
        finally:
            ended.set()

    routes = [WebSocketRoute("/live", Endpoint(wait_for_its_end))]
    async with running_server(tmp_path, routes=routes) as server:
        async with server.connection() as (_, writer):
            writer.write(request("GET", "/live", headers=HANDSHAKE))
            await began.wait()
        await ended.wait()

    assert seen == ["websocket.connect", "websocket.disconnect"]


class Endpoint:
    """Starlette takes functions for ones that want its own WebSocket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def test_fault_of_a_session_is_told_without_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(socket: ClientSocket) -> None:
        socket.send("first words")
        raise RuntimeError("secret cause")

    async with live_server(tmp_path, fail) as server, client_of(server) as client:
        assert await client.recv() == "first words"
        await client.wait_closed()

        assert client.close_code == 1011
        assert client.close_reason is not None
        assert client.close_reason.startswith("The server failed on this connection.")
        assert "secret cause" in caplog.text


async def test_one_line_tells_of_a_socket_and_its_id_is_the_clients_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with live_server(tmp_path) as server:
        async with client_of(server, additional_headers={"X-Request-Id": "call-7"}) as client:
            await client.send(bytes(160))
            await client.recv()
            assert client.response is not None
            assert client.response.headers["x-request-id"] == "call-7"

    (line,) = [text for text in caplog.messages if text.startswith("socket finished")]
    assert "client_request_id=call-7 path=/live status=101 close_code=1000" in line
    assert "received_messages=1 received_bytes=160 sent_messages=1" in line


async def test_refused_handshake_has_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with live_server(tmp_path) as server:
        await refusal_of(server, "/nowhere")

    (line,) = [text for text in caplog.messages if text.startswith("socket finished")]
    assert "path=/nowhere status=404 wall_seconds" in line


async def test_refused_client_finds_its_connection_closed(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("GET", "/nowhere", headers=HANDSHAKE))
        head = await read_head(reader)
        await reader.readexactly(int(head.headers["content-length"]))

        assert head.headers["connection"] == "close"
        assert await is_closed(reader)
