"""The child process that makes the gateway's outgoing calls: `qwen3-asr outbound`.

It alone has TLS and an HTTP library, and the gateway starts it when there is something to ask.
Calls come over standard input, answers leave over standard output; it ends when its input does,
so also when the gateway dies.
"""

import asyncio
import os
import ssl
import sys
from collections.abc import Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2
import setproctitle

from gateway.outbound.messages import Answer, Call, Drop, Failure, Message, Reason, Unpacker, pack
from gateway.version import VERSION

CONNECT_TIMEOUT = 15.0
"""Seconds for the connection alone: an address that does not answer is told soon."""
MAX_REDIRECTS = 3
READ_BYTES = 64 * 1024


def main() -> None:
    """Serve until standard input ends; never returns."""
    setproctitle.setproctitle("qwen3-asr: outgoing calls")
    # What a library might print must not fall between two frames.
    answers = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(_serve(answers))


async def _serve(answers: int) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(answers, "wb", buffering=0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    async with asyncio.TaskGroup() as tasks:
        await _Desk(_new_client(), writer, tasks).work(reader)
        # Nobody reads answers now, and a name that is still being looked up would hold the process.
        os._exit(0)


class _Desk:
    """The calls under way."""

    def __init__(
        self,
        client: httpx2.AsyncClient | Failure,
        writer: asyncio.StreamWriter,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._client = client
        self._writer = writer
        self._tasks = tasks
        self._calls: dict[int, asyncio.Task[None]] = {}
        """Bounded by the gateway, which limits its calls."""

    def __repr__(self) -> str:
        return f"<_Desk {len(self._calls)} calls>"

    async def work(self, reader: asyncio.StreamReader) -> None:
        """Until the gateway closes its end."""
        unpacker = Unpacker()
        while content := await reader.read(READ_BYTES):
            for message in unpacker.feed(content):
                self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Call):
            self._calls[message.number] = self._tasks.create_task(self._answer(message))
        elif isinstance(message, Drop) and message.number in self._calls:
            self._calls[message.number].cancel()

    async def _answer(self, call: Call) -> None:
        try:
            self._writer.write(pack(await self._outcome(call)))
            await self._writer.drain()
        finally:
            del self._calls[call.number]

    async def _outcome(self, call: Call) -> Answer | Failure:
        if isinstance(self._client, Failure):
            return Failure(call.number, self._client.reason, self._client.words)
        try:
            async with asyncio.timeout(call.timeout):
                return await fetch(self._client, call)
        except TimeoutError:
            words = f"no answer within {call.timeout:g} s"
            return Failure(call.number, Reason.TIMEOUT, words)


def _new_client() -> httpx2.AsyncClient | Failure:
    """A client that honours the environment's proxies and certificates, or why there is none."""
    try:
        return httpx2.AsyncClient(
            headers={"user-agent": f"qwen3-asr-server/{VERSION}"},
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none are kept
        )
    except (ValueError, OSError, ImportError, httpx2.InvalidURL):
        words = (
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR cannot be used: a "
            "proxy is http://HOST:PORT, certificates are PEM files"
        )
        return Failure(0, Reason.BAD_ENVIRONMENT, words)


async def fetch(client: httpx2.AsyncClient, call: Call) -> Answer | Failure:
    """Make one call; every way in which the network can fail is a Failure."""
    try:
        return await _fetch(client, call)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        return _failure(call, Reason.BAD_ADDRESS, "the address is neither http:// nor https://")
    except (httpx2.ConnectError, httpx2.ProxyError) as error:
        return _unreachable(call, error)
    except httpx2.TimeoutException:
        words = f"no connection within {CONNECT_TIMEOUT:g} s"
        return _failure(call, Reason.TIMEOUT, words)
    except httpx2.LocalProtocolError:
        words = "the request cannot be written as HTTP: look for line breaks in the key"
        return _failure(call, Reason.BAD_ADDRESS, words)
    except (httpx2.RequestError, OSError):
        words = "the connection ended, or what came over it was not HTTP"
        return _failure(call, Reason.BROKEN_OFF, words)


async def _fetch(client: httpx2.AsyncClient, call: Call) -> Answer | Failure:
    url = httpx2.URL(call.url)
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx2.UnsupportedProtocol("not an address of a web server")
    request = client.build_request(call.method, url, headers=call.headers, content=call.body)
    for _ in range(1 + MAX_REDIRECTS):
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is None:
                return await _answer(response, call)
            if not _stays(request, response.next_request):
                words = "it redirects elsewhere, which is not followed: name the final address"
                return _failure(call, Reason.REDIRECTED, words)
            request = response.next_request
        finally:
            await response.aclose()
    return _failure(call, Reason.REDIRECTED, "it redirects in a circle")


def _stays(before: httpx2.Request, after: httpx2.Request) -> bool:
    """Whether a redirect leads to the same server, with the same method and so the same body."""
    return before.method == after.method and _origin(before.url) == _origin(after.url)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _answer(response: httpx2.Response, call: Call) -> Answer | Failure:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > call.max_answer_bytes:
            words = f"the answer is larger than {call.max_answer_bytes} bytes"
            return _failure(call, Reason.TOO_LARGE, words)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(call.number, response.status_code, headers, bytes(body))


def _unreachable(call: Call, error: Exception) -> Failure:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = (
                f"its certificate was refused ({cause.verify_message}): name the certificate of "
                "its authority with SSL_CERT_FILE"
            )
            return _failure(call, Reason.CERTIFICATE, words)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        words = "no TLS connection came about: does it speak https at this port?"
        return _failure(call, Reason.CERTIFICATE, words)
    if isinstance(error, httpx2.ProxyError):
        return _failure(call, Reason.UNREACHABLE, "the proxy refused the connection")
    number = next((one.errno for one in causes if isinstance(one, OSError) and one.errno), None)
    words = os.strerror(number) if number and number > 0 else "its name is not known"
    return _failure(call, Reason.UNREACHABLE, f"it cannot be reached ({words})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all it came from, those inside groups included."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    if before := error.__cause__ or error.__context__:
        yield from _causes(before)


def _failure(call: Call, reason: Reason, words: str) -> Failure:
    return Failure(call.number, reason, words)
