"""One connection: a handshake becomes a dialect and a session, and both talk until it is over.

Tasks: one reads the client, one listens to the engine, one waits for the server's end. What they
bring is dealt with at once and without waiting, so the session and its dialect see one thing after
another.
"""

import asyncio
import importlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from gateway.auth import presented_key
from gateway.boundary import RequestRecord, record_of
from gateway.concurrency import first_finished
from gateway.context import Gateway
from gateway.errors import from_failure, shutting_down
from gateway.live.events import (
    Dialect,
    Finish,
    Hangup,
    Reply,
    Request,
    SessionEnded,
    SessionEvent,
)
from gateway.live.handshake import Handshake
from gateway.live.publishing import CallEvents, Leg
from gateway.live.session import LiveSession
from gateway.websockets import frames
from gateway.websockets.socket import client_socket
from gateway.worker_client import outcomes
from gateway.worker_client.interface import TranscriptionFailed
from gateway.worker_client.live_calls import LiveCall
from protocol.failures import FailureCode

logger = logging.getLogger(__name__)

OpenDialect = Callable[[Handshake], Dialect]
CLOSE_CODES = {
    FailureCode.SHUTTING_DOWN: frames.GOING_AWAY,
    FailureCode.WORKER_UNAVAILABLE: frames.TRY_AGAIN_LATER,
    FailureCode.QUEUE_FULL: frames.TRY_AGAIN_LATER,
    FailureCode.STORAGE_FULL: frames.TRY_AGAIN_LATER,
    FailureCode.TIMED_OUT: frames.TRY_AGAIN_LATER,
}
"""Others are closed as INTERNAL_ERROR."""


class Socket(Protocol):
    """What a connection needs of its ClientSocket."""

    draining: asyncio.Event
    dropped: int

    async def receive(self) -> str | bytes | None: ...

    def send(self, text: str, *, may_drop: bool = False) -> bool: ...

    def close(self, code: int = ..., reason: str = ...) -> None: ...


def dialect_of(module: str) -> OpenDialect:
    """The factory of the dialect in this module."""
    factory: OpenDialect = importlib.import_module(module).open_dialect
    return factory


async def serve(
    gateway: Gateway, open_dialect: OpenDialect, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one WebSocket from its handshake to its end. Raises ApiError where it is refused."""
    if gateway.is_draining:
        raise shutting_down()
    record = record_of(scope)
    session_id = f"sess_{secrets.token_hex(12)}"
    dialect = open_dialect(read_handshake(gateway, scope, record, session_id))
    try:
        call = gateway.worker_client.open_session(session_id)
    except TranscriptionFailed as failure:
        raise from_failure(failure) from failure
    try:
        leg = Leg(dialect.opening.call_id, session_id, record.owner)
        conversation = Conversation(gateway, dialect, call, leg)
        try:
            async with client_socket(scope, receive, send) as socket:
                await conversation.run(socket)
        finally:
            conversation.close(record)
    finally:
        call.close()


def read_handshake(
    gateway: Gateway, scope: Scope, record: RequestRecord, session_id: str
) -> Handshake:
    """What a dialect needs to know."""
    headers = Headers(scope=scope)
    key = presented_key(headers)
    secret = gateway.client_secrets.find(key)
    return Handshake(
        session_id=session_id,
        path=scope["path"],
        query=QueryParams(scope["query_string"]),
        headers=headers,
        subprotocols=tuple(scope["subprotocols"]),
        key=key,
        owner=record.owner,
        served_model=gateway.settings.served_model,
        settings=gateway.settings,
        client_session=secret.session if secret is not None else None,
    )


class Conversation:
    """One client, its dialect and its session."""

    def __init__(self, gateway: Gateway, dialect: Dialect, call: LiveCall, leg: Leg) -> None:
        self._patience = gateway.settings.request_timeout
        self._events: CallEvents = gateway.call_events
        self._dialect = dialect
        self._call = call
        self._leg = leg
        self._untold: deque[SessionEvent] = deque()
        self._has_begun = False
        self._over = asyncio.Event()
        self._finishing = asyncio.Event()
        self._socket: Socket | None = None
        self._session = LiveSession(
            leg.session_id,
            dialect.opening,
            call,
            room=gateway.live.rooms.enter(),
            new_path=gateway.spool.new_path,
            tell=self._untold.append,
        )

    async def run(self, socket: Socket) -> None:
        """Talk until everything is answered and the client told, or nobody can be."""
        self._socket = socket
        self._events.began(self._leg, self._dialect.opening)
        self._has_begun = True
        self._greet()
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._read(socket), name="session reader"),
                tasks.create_task(self._listen(), name="session listener"),
                tasks.create_task(self._end_with_server(socket), name="session drain"),
            ]
            await first_finished(self._over.wait(), self._finishing.wait())
            await self._see_it_end()
            for helper in helpers:
                helper.cancel()

    def close(self, record: RequestRecord) -> None:
        """Free what is kept; followers hear of the end whatever it was."""
        try:
            self._session.fail(FailureCode.SHUTTING_DOWN, outcomes.shutting_down().message)
            self._settle()
        finally:
            self._session.close()
        dropped = self._socket.dropped if self._socket else 0
        self._call.count(
            utterances=self._session.utterances,
            contradictions=self._session.contradictions,
            partials_dropped=dropped,
        )
        record.details |= {
            "session": self._leg.session_id,
            "utterances": self._session.utterances,
            "contradictions": self._session.contradictions or None,
            "attempts": self._call.attempt,
            "partials_dropped": dropped or None,
        }

    # --- tasks ------------------------------------------------------------------------------

    async def _read(self, socket: Socket) -> None:
        """Give the session what comes, as long as it has room; a client that is gone is finished,
        and what it said is still answered."""
        while not self._over.is_set():
            await self._session.room.wait()
            message = await socket.receive()
            if message is None:
                self._perform((Finish(),))
                return
            if isinstance(message, str):
                self._perform(self._dialect.text_received(message))
            else:
                self._perform(self._dialect.bytes_received(message))

    async def _listen(self) -> None:
        async for news in self._call.news():
            self._session.learn(news)
            self._settle()

    async def _end_with_server(self, socket: Socket) -> None:
        await socket.draining.wait()
        self._perform((Finish(),))

    async def _see_it_end(self) -> None:
        """The client is done: as long as the engine gets on, it may take its time."""
        while not self._over.is_set():
            heard, answered = self._session.heard, self._session.utterances
            try:
                async with asyncio.timeout(self._patience):
                    await self._over.wait()
            except TimeoutError:
                if (heard, answered) == (self._session.heard, self._session.utterances):
                    failure = outcomes.timed_out()
                    self._session.fail(failure.code, failure.message)
                    self._settle()

    # --- between dialect and session --------------------------------------------------------

    def _greet(self) -> None:
        is_ready = self._call.engine is not None
        self._perform(self._dialect.greeting(is_ready=is_ready))
        self._session.warm_up(is_ready=is_ready)
        self._settle()

    def _perform(self, requests: Iterable[Request]) -> None:
        """Do what the dialect asks, one after another with all that follows from each."""
        for request in requests:
            self._do(request)
            self._settle()

    def _do(self, request: Request) -> None:
        assert self._socket is not None
        if isinstance(request, Reply):
            self._socket.send(request.text, may_drop=request.may_drop)
        elif isinstance(request, Hangup):
            self._socket.close(request.code, request.reason)
            self._session.take(Finish())
        else:
            self._session.take(request)
        if self._session.is_finishing:
            self._finishing.set()

    def _settle(self) -> None:
        """Tell what the session had to say to followers and client, one event after another: what
        an event makes the dialect ask is done whole before the next is told."""
        while self._untold:
            event = self._untold.popleft()
            if self._has_begun:
                self._events.publish(self._leg, event)
            if self._socket is not None:
                for request in self._dialect.event(event):
                    self._do(request)
            if isinstance(event, SessionEnded):
                self._hang_up(event)

    def _hang_up(self, event: SessionEnded) -> None:
        self._over.set()
        if self._socket is None:
            return
        if event.code is not None:
            code = CLOSE_CODES.get(FailureCode(event.code), frames.INTERNAL_ERROR)
            self._socket.close(code, event.message)
        elif self._socket.draining.is_set():
            self._socket.close(frames.GOING_AWAY, outcomes.shutting_down().message)
        else:
            self._socket.close(frames.NORMAL)
