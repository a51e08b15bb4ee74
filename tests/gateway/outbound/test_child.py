"""What the child makes of the network: every fault in words of ours."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.outbound.client import Outbound, OutboundFailed, OutboundRequest
from gateway.outbound.messages import Answer, Reason
from tests.gateway.harness import DEADLINE
from tests.gateway.web_server import Received, Reply, web_server

BARE = {"PATH": os.environ["PATH"]}
CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""Of 127.0.0.1, signed by itself, with its key; openssl req -x509, valid to 2126."""


@pytest_asyncio.fixture
async def outbound() -> AsyncIterator[Outbound]:
    async with asyncio.timeout(DEADLINE):
        outbound = Outbound(BARE)
        yield outbound
        await outbound.aclose()


async def fetch(outbound: Outbound, url: str, method: str = "GET", **wishes: Any) -> Answer:
    return await outbound.send(OutboundRequest(method, url, timeout=10.0, **wishes))


async def failure(
    outbound: Outbound, url: str, method: str = "GET", **wishes: Any
) -> OutboundFailed:
    with pytest.raises(OutboundFailed) as caught:
        await fetch(outbound, url, method, **wishes)
    return caught.value


def elsewhere(location: str, status: int = 307) -> Reply:
    return Reply(status, headers={"location": location})


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "127.0.0.1", "http://", "http://:80", ""]
)
async def test_only_addresses_of_web_servers_are_called(outbound: Outbound, url: str) -> None:
    assert (await failure(outbound, url)).reason is Reason.BAD_ADDRESS


async def test_closed_port_and_unknown_name_are_told(outbound: Outbound) -> None:
    async with web_server(lambda request: Reply()) as server:
        pass

    closed = await failure(outbound, server.url)
    unknown = await failure(outbound, "http://no-such-host.invalid/")

    assert (closed.reason, unknown.reason) == (Reason.UNREACHABLE, Reason.UNREACHABLE)
    assert "refused" in str(closed)


async def test_server_that_thinks_too_long_is_left(outbound: Outbound) -> None:
    async def never(request: Received) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with web_server(never) as server:
        with pytest.raises(OutboundFailed) as caught:
            await outbound.send(OutboundRequest("GET", server.url, timeout=0.05))
        await server.was_left.wait()

    assert caught.value.reason is Reason.TIMEOUT


async def test_answer_beyond_its_bound_is_cut_off(outbound: Outbound) -> None:
    async with web_server(lambda request: Reply(body=bytes(1001))) as server:
        assert len((await fetch(outbound, server.url, max_answer_bytes=1001)).body) == 1001
        assert (await failure(outbound, server.url, max_answer_bytes=1000)).reason is (
            Reason.TOO_LARGE
        )


async def test_what_is_not_http_is_told(outbound: Outbound) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = await failure(outbound, f"http://127.0.0.1:{port}")

    assert told.reason is Reason.BROKEN_OFF


async def test_redirect_on_the_same_server_is_followed_with_its_body(outbound: Outbound) -> None:
    def moved(request: Received) -> Reply:
        if request.target == "/old":
            return elsewhere("/new", 308)
        return Reply(body=request.method.encode() + request.body)

    async with web_server(moved) as server:
        url = f"{server.url}/old"
        answer = await outbound.send(OutboundRequest("POST", url, timeout=10.0, body=b" words"))

    assert answer.body == b"POST words"


async def test_redirect_to_another_server_is_not_followed(outbound: Outbound) -> None:
    async with web_server(lambda request: Reply()) as other:
        async with web_server(lambda request: elsewhere(other.url)) as server:
            told = await failure(outbound, server.url)

    assert told.reason is Reason.REDIRECTED
    assert other.received == []


async def test_redirects_that_would_lose_the_body_or_never_end_are_not_followed(
    outbound: Outbound,
) -> None:
    async with web_server(lambda request: elsewhere("/again", 302)) as server:
        assert (await failure(outbound, server.url, "POST")).reason is Reason.REDIRECTED
        assert len(server.received) == 1
        assert (await failure(outbound, server.url)).reason is Reason.REDIRECTED


async def test_cookies_are_not_kept(outbound: Outbound) -> None:
    cookie = Reply(headers={"set-cookie": "session=1"})
    async with web_server(lambda request: cookie) as server:
        await fetch(outbound, server.url)
        await fetch(outbound, server.url)

    assert [("cookie" in one.headers) for one in server.received] == [False, False]


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_unknown_certificate_is_refused_in_words(outbound: Outbound) -> None:
    async with web_server(lambda request: Reply(), tls=tls_context()) as server:
        told = await failure(outbound, server.url)

    assert told.reason is Reason.CERTIFICATE
    assert "SSL_CERT_FILE" in str(told)
    assert server.received == []


async def test_certificate_that_the_environment_names_is_trusted() -> None:
    outbound = Outbound({**BARE, "SSL_CERT_FILE": str(CERTIFICATE)})
    async with asyncio.timeout(DEADLINE):
        async with web_server(lambda request: Reply(body=b"safe"), tls=tls_context()) as server:
            assert (await fetch(outbound, server.url)).body == b"safe"
            await outbound.aclose()


async def test_plain_http_behind_an_https_address_is_told(outbound: Outbound) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(DEADLINE), await asyncio.start_server(refuse, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        told = await failure(outbound, f"https://127.0.0.1:{port}")

    assert told.reason in (Reason.CERTIFICATE, Reason.BROKEN_OFF)


async def test_proxy_of_the_environment_is_used() -> None:
    async with (
        asyncio.timeout(DEADLINE),
        web_server(lambda request: Reply(body=b"by proxy")) as proxy,
    ):
        outbound = Outbound({**BARE, "HTTP_PROXY": proxy.url})
        answer = await fetch(outbound, "http://no-such-host.invalid/path")
        await outbound.aclose()

    assert answer.body == b"by proxy"
    assert proxy.received[0].target == "http://no-such-host.invalid/path"


@pytest.mark.parametrize(
    "environment",
    [{"HTTPS_PROXY": "socks9://x"}, {"SSL_CERT_FILE": "/nonexistent"}],
)
async def test_environment_that_cannot_be_used_is_told(environment: dict[str, str]) -> None:
    async with asyncio.timeout(DEADLINE):
        outbound = Outbound({**BARE, **environment})
        told = await failure(outbound, "https://127.0.0.1:1/")
        await outbound.aclose()

    assert told.reason is Reason.BAD_ENVIRONMENT


def run(**wishes: Any) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "gateway", "outbound"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **wishes)


def test_it_ends_with_its_input() -> None:
    done = run(input=b"")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_started_by_a_person_it_says_who_starts_it() -> None:
    done = run(stdin=subprocess.DEVNULL)

    assert done.returncode == 1
    assert b"gateway starts" in done.stderr
