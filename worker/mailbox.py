"""The engine's end of the work link: a socket thread and two queues.

The socket has a thread of its own so that heartbeats and cancels pass while a tensor operation
holds the main thread. The thread also introduces the engine and writes beats to the supervisor.
"""

import dataclasses
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import zmq

from protocol import codec
from protocol.control import Heartbeat, Introduce, Refused, Welcome
from protocol.limits import HEARTBEAT_INTERVAL
from protocol.transcription import Hello, UploadPiece
from worker.clock import Clock, monotonic

logger = logging.getLogger(__name__)

Pieces = SimpleQueue[UploadPiece | None]
"""Pieces of one upload, bounded by the credit given for them."""


class Mailbox:
    """Messages to and from the gateway. Any thread may send; arrivals go to `deliver`."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        hello: Hello,
        spool_folder: Path,
        *,
        deliver: Callable[[Any], None],
        beat: Callable[[], None],
        clock: Clock = monotonic,
    ) -> None:
        """`deliver` gets every message but pieces and greetings, and Introduce when earlier
        requests are void. `beat` is called every HEARTBEAT_INTERVAL, from the socket thread."""
        self._socket = socket
        self._hello = hello
        self._spool_folder = spool_folder
        self._deliver = deliver
        self._beat = beat
        self._clock = clock
        # Bounded by what produces: texts of at most `capacity` recordings, one progress a second
        # each, and credit for pieces.
        self._outgoing: deque[object] = deque()
        self._pieces: dict[str, Pieces] = {}
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closing = False
        self.sees_spool = False
        """Whether the gateway's spool is our own spool folder; known before the first request."""
        self._thread = threading.Thread(target=self._run, name="mailbox", daemon=True)

    def __repr__(self) -> str:
        return f"<Mailbox {len(self._outgoing)} to send>"

    def start(self) -> None:
        """Begin to talk; the first heartbeat makes the gateway ask who is there."""
        self._thread.start()

    def send(self, message: object) -> None:
        """Queue a message for the gateway."""
        self._outgoing.append(message)
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """Send what is queued (as far as the socket takes it at once), then end the thread."""
        self._is_closing = True
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        self._socket.close(linger=1000)
        os.close(self._wakeup)

    def expect_pieces(self, request_id: str) -> Pieces:
        """A new queue, to which this request's upload pieces go from now on."""
        pieces = self._pieces[request_id] = Pieces()
        return pieces

    def forget_pieces(self, request_id: str, pieces: Pieces) -> None:
        """No more pieces are wanted in that queue."""
        if self._pieces.get(request_id) is pieces:
            del self._pieces[request_id]

    # --- socket thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._talk()
        except Exception:
            # Without its mailbox the engine is deaf: better gone and replaced than holding a GPU.
            logger.exception("the mailbox failed")
            os._exit(70)

    def _talk(self) -> None:
        next_beat = self._clock()
        while True:
            self._flush()
            if self._is_closing:
                return
            now = self._clock()
            if now >= next_beat:
                next_beat = now + HEARTBEAT_INTERVAL
                self._beat()
                self._queue_heartbeat()
                self._flush()
            self._wait(max(0.0, next_beat - self._clock()))
            self._receive()

    def _queue_heartbeat(self) -> None:
        """Any message counts as one, so none is needed behind others. The first one waits here
        until the link is up, and leaves as soon as it is."""
        if not self._outgoing:
            self._outgoing.append(Heartbeat())

    def _wait(self, seconds: float) -> None:
        events = zmq.POLLIN | (zmq.POLLOUT if self._outgoing else 0)
        poller = zmq.Poller()
        poller.register(self._socket, events)
        poller.register(self._wakeup, select.POLLIN)
        if self._wakeup in dict(poller.poll(int(seconds * 1000) + 1)):
            os.eventfd_read(self._wakeup)

    def _flush(self) -> None:
        while self._outgoing:
            if not self._try_send(self._outgoing[0]):
                return
            self._outgoing.popleft()

    def _try_send(self, message: object) -> bool:
        try:
            self._socket.send(codec.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        logger.debug("work > %s", type(message).__name__)
        return True

    def _receive(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = codec.decode(frames[0])
            except codec.BadMessage as error:
                logger.error("dropped a frame from the gateway: %s", error)
                continue
            logger.debug("work < %s", type(message).__name__)
            self._take(message)

    def _take(self, message: Any) -> None:
        if isinstance(message, UploadPiece):
            waiting = self._pieces.get(message.request_id)
            if waiting is not None:
                waiting.put(message)
        elif isinstance(message, Introduce):
            self._deliver(message)
            self._outgoing.clear()
            self._try_send(self._introduced(message))
        elif isinstance(message, Refused):
            logger.error("the gateway refused this engine: %s", message.message)
        elif not isinstance(message, Heartbeat | Welcome):
            self._deliver(message)

    def _introduced(self, introduction: Introduce) -> Hello:
        """Our Hello, with the answer to the question whether the gateway's spool is ours."""
        probe = self._spool_folder / introduction.probe_file
        try:
            is_inside = probe.resolve().is_relative_to(self._spool_folder.resolve())
            self.sees_spool = is_inside and probe.read_text() == introduction.probe_text
        except (OSError, UnicodeDecodeError):
            self.sees_spool = False
        return dataclasses.replace(self._hello, sees_spool=self.sees_spool)
