"""Serves an ASGI app over HTTP/1.1: listens, and ends by letting requests in flight finish.

uvicorn's own server is not used: it polls ten times a second, ends with the signal's status instead
of 0, and stops listening before the app could tell probes that it is ending.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, cast

from starlette.types import ASGIApp
from uvicorn.config import Config

from gateway.concurrency import first_finished
from gateway.connection import Connection, Connections
from gateway.settings import Settings
from gateway.telemetry import event

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 64 * 1024
BACKLOG = 2048
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""Seconds: a caller whose host is gone is noticed after two minutes, also while it waits for its
answer. Connections have it from the socket that listens (Linux)."""
SOCKET_GRACE = 20.0
"""Seconds that live sessions get at most to send their last words, when the server ends."""
CLOSE_TIMEOUT = 1.0
"""Seconds that answers already written get to leave, when the server ends."""


class HttpServer:
    """One listening address and its connections."""

    def __init__(self, app: ASGIApp, settings: Settings, *, overloaded: ASGIApp) -> None:
        self._host, self._port = settings.host, settings.port
        self._connections = Connections(
            max_connections=settings.max_connections,
            header_timeout=settings.header_timeout,
            overloaded=overloaded,
        )
        self._config = _uvicorn_config(app, settings)
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        assert self._listener is not None, "the server was not started"
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def requests_in_flight(self) -> frozenset[asyncio.Task[None]]:
        """One task for each request that is not answered yet."""
        return frozenset(self._connections.tasks)

    @property
    def connections(self) -> frozenset[Connection]:
        """Those that are open."""
        everyone = self._connections.connections
        return frozenset(each for each in everyone if isinstance(each, Connection))

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(self._config, self._connections, {}, loop)

        self._listener = await loop.create_server(
            connection, self._host, self._port, backlog=BACKLOG
        )
        for listening in self._listener.sockets:
            for level, option, value in KEEP_ALIVE:
                listening.setsockopt(level, option, value)

    async def finish(
        self, grace: float, *, hurry: asyncio.Event, end_work: Callable[[], None]
    ) -> None:
        """End: idle connections close at once; requests in flight, uploads included, get `grace`
        seconds, or until there is a hurry. What is left then is answered by `end_work`, or
        cancelled. Live sessions are told, and close by themselves; those that do not are closed
        after SOCKET_GRACE, or `grace` where that is less.

        New connections are served meanwhile, so that the app can refuse them in words.
        """
        in_flight = self.requests_in_flight
        self._connections.draining.set()
        for connection in self.connections:
            connection.shutdown()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(min(grace, SOCKET_GRACE), self._close_sockets)
        if in_flight:
            await first_finished(asyncio.wait(in_flight, timeout=grace), hurry.wait())
        timer.cancel()
        if left := sum(not task.done() for task in in_flight):
            logger.warning(event("requests were left unfinished", {"requests": left}))
        end_work()
        await _settle(in_flight)
        await self.abort()

    async def abort(self) -> None:
        """Close everything; requests in flight are cancelled and may still answer."""
        if self._listener is not None:
            self._listener.close()
        for task in self.requests_in_flight:
            task.cancel()
        await _settle(self.requests_in_flight)
        for connection in list(self._connections.connections):
            connection.shutdown()
        if self._connections.connections:
            await _within(CLOSE_TIMEOUT, self._connections.all_closed.wait())
        for connection in list(self._connections.connections):
            connection.transport.abort()

    def _close_sockets(self) -> None:
        for connection in self._connections.connections - self.connections:
            connection.shutdown()


async def _settle(tasks: Collection[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)


async def _within(seconds: float, waiting: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return


def _uvicorn_config(app: ASGIApp, settings: Settings) -> Config:
    config = Config(
        cast("ASGI3Application", app),
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_timeout,  # type: ignore[arg-type]  # call_later's
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    config.load()
    return config
