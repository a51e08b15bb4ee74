"""The gateway's only way to other servers: a child process that makes its calls.

The gateway itself never loads TLS, which its memory cannot carry. The child is started by the
first call and ended when none has come for a while.
"""

import asyncio
import logging
import os
import sys
from asyncio import Future
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from gateway.outbound.messages import (
    MAX_BODY_BYTES,
    Answer,
    BadFrame,
    Call,
    Drop,
    Failure,
    Message,
    Reason,
    Unpacker,
    pack,
)
from gateway.telemetry import event

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "gateway", "outbound")
IDLE_SECONDS = 15.0
"""Without a call for so long, the child ends."""
MAX_CALLS = 16
"""Under way at the same time; further ones wait. Their callers are bounded by MAX_CONNECTIONS."""
OVERDUE = 5.0
"""Seconds that the child may be later than a call's timeout; then it hangs, and is killed."""
END_TIMEOUT = 5.0
"""Seconds in which the child ends once its input has."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PASSED_ON = frozenset(
    (
        *("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
        *("OPENSSL_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *PROXIES,
        *(name.lower() for name in PROXIES),
    )
)
"""What of the environment the child gets, besides LC_* and PYTHON*: no keys, whoever's they are."""


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """One HTTP request to another server."""

    method: str
    url: str
    """http or https."""
    timeout: float
    """Seconds for all of it."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    max_answer_bytes: int = MAX_BODY_BYTES


class OutboundFailed(Exception):
    """No answer came; the message is for the operator's log."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class Outbound:
    """Makes calls. Close it in the end; it may be used again, and starts its child anew."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = COMMAND,
        idle_seconds: float = IDLE_SECONDS,
        overdue: float = OVERDUE,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._command = tuple(command)
        self._idle_seconds = idle_seconds
        self._overdue = overdue
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_CALLS)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._under_way = 0
        self._numbers = 0

    def __repr__(self) -> str:
        return f"<Outbound {self._under_way} calls, child {self.process_id}>"

    @property
    def process_id(self) -> int | None:
        """The child's, while it takes calls."""
        return self._child.process_id if self._child and self._child.takes_calls else None

    async def send(self, request: OutboundRequest) -> Answer:
        """The other server's answer, whatever its status. Raises OutboundFailed; when cancelled,
        the call ends too."""
        async with self._room:
            self._begin()
            try:
                return await self._sent(request)
            finally:
                self._end()

    async def aclose(self) -> None:
        """End the child; calls under way fail."""
        self._stop_timer()
        async with self._starting:
            child, self._child = self._child, None
            if child is not None:
                await child.end()

    async def _sent(self, request: OutboundRequest) -> Answer:
        self._numbers += 1
        call = Call(
            self._numbers,
            request.method,
            request.url,
            dict(request.headers),
            request.body,
            request.timeout,
            min(request.max_answer_bytes, MAX_BODY_BYTES),
        )
        try:
            frame = pack(call)
        except BadFrame:
            raise OutboundFailed(Reason.TOO_LARGE, "the request is too large") from None
        child = await self._running_child()
        try:
            async with asyncio.timeout(request.timeout + self._overdue):
                outcome = await child.ask(call.number, frame)
        except TimeoutError:
            child.kill()
            words = "the process for outgoing calls hung and was ended"
            raise OutboundFailed(Reason.TIMEOUT, words) from None
        if isinstance(outcome, Failure):
            raise OutboundFailed(outcome.reason, outcome.words)
        return outcome

    async def _running_child(self) -> "_Child":
        async with self._starting:
            if self._child is None or not self._child.takes_calls:
                self._child = await self._start()
            return self._child

    async def _start(self) -> "_Child":
        loop = asyncio.get_running_loop()
        try:
            _, child = await loop.subprocess_exec(
                _Child,
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=None,
                env=child_environment(self._environment),
                start_new_session=True,  # Ctrl+C is for the gateway, which lets requests finish
            )
        except OSError as error:
            words = f"the process for outgoing calls cannot be started ({error.strerror})"
            raise OutboundFailed(Reason.CHILD_ENDED, words) from error
        logger.info(event("process for outgoing calls started", {"process_id": child.process_id}))
        return child

    def _begin(self) -> None:
        self._stop_timer()
        self._under_way += 1

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way and self._child is not None:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._idle_seconds, self._let_go)

    def _let_go(self) -> None:
        self._idle_timer = None
        if self._child is not None:
            self._child.take_leave()

    def _stop_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the child gets of the gateway's environment; keys go over its pipe alone."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON or name.startswith(("LC_", "PYTHON"))
    }


class _Child(asyncio.SubprocessProtocol):
    """One child process, and the calls that wait for its answers."""

    def __init__(self) -> None:
        self._unpacker = Unpacker()
        self._waiting: dict[int, Future[Answer | Failure]] = {}
        self._ended = asyncio.Event()
        self._last_patience: asyncio.TimerHandle | None = None
        self.takes_calls = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._input = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self.takes_calls = True

    @property
    def process_id(self) -> int:
        return self._transport.get_pid()

    async def ask(self, number: int, frame: bytes) -> Answer | Failure:
        """What the child answers to this call; when cancelled, the child drops it."""
        if not self.takes_calls:
            return _ended_under(number)
        waiting: Future[Answer | Failure] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._input.write(frame)
        try:
            return await waiting
        finally:
            del self._waiting[number]
            if waiting.cancelled() and self.takes_calls:
                self._input.write(pack(Drop(number)))

    def take_leave(self) -> None:
        """Close its input, at which it ends; one that does not is killed."""
        self.takes_calls = False
        self._input.close()
        if self._last_patience is None and not self._ended.is_set():
            loop = asyncio.get_running_loop()
            self._last_patience = loop.call_later(END_TIMEOUT, self.kill)

    def kill(self) -> None:
        self.takes_calls = False
        if not self._ended.is_set():
            self._transport.kill()

    async def end(self) -> None:
        """Return when the process is gone."""
        self.take_leave()
        await self._ended.wait()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._hear(message)
        except BadFrame:
            logger.error("process for outgoing calls sent what is no message, and was ended")
            self.kill()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.takes_calls = False
        if fd == 1:
            self._fail_all()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone and its pipes are read to their ends."""
        self.takes_calls = False
        self._fail_all()
        self._ended.set()
        if self._last_patience is not None:
            self._last_patience.cancel()
        fields = {"process_id": self.process_id, "status": self._transport.get_returncode()}
        logger.info(event("process for outgoing calls ended", fields))

    def _hear(self, message: Message) -> None:
        if not isinstance(message, Answer | Failure):
            raise BadFrame("not an answer")
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _fail_all(self) -> None:
        for number, waiting in self._waiting.items():
            if not waiting.done():
                waiting.set_result(_ended_under(number))


def _ended_under(number: int) -> Failure:
    words = "the process for outgoing calls ended in the middle of this one"
    return Failure(number, Reason.CHILD_ENDED, words)
