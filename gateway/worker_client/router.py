"""A ROUTER socket on the event loop, read through its file descriptor.

Half the CPU of zmq.asyncio (docs/benchmarks.md). ZMQ_FD is edge-triggered: it is
drained until empty, and looked at again after every send.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import zmq

from gateway.telemetry import event
from protocol import codec
from protocol.control import Refused
from protocol.limits import MAX_PARTS

logger = logging.getLogger(__name__)

MESSAGES_A_TURN = 256
"""Most messages handled before other callbacks of the loop get their turn."""


class Router:
    """One link's gateway end: messages in by callback, messages out by `send`."""

    def __init__(
        self, socket: "zmq.Socket[bytes]", name: str, received: Callable[[bytes, Any], None]
    ) -> None:
        self._socket = socket
        self._name = name
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None
        self.dropped_frames = 0
        """Frames that were no message of this protocol."""
        self._loop.add_reader(socket.FD, self._read)
        self._schedule_read()

    def __repr__(self) -> str:
        return f"<Router {self._name}>"

    def close(self) -> None:
        """Stop reading and close the socket."""
        self._loop.remove_reader(self._socket.FD)
        if self._turn is not None:
            self._turn.cancel()
        self._socket.close()

    def send(self, peer: bytes, message: object) -> bool:
        """Send, or say that the peer is gone or takes no more."""
        try:
            self._socket.send_multipart((peer, codec.encode(message)), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        finally:
            self._schedule_read()
        logger.debug("%s > %s", self._name, type(message).__name__)
        return True

    def _schedule_read(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._read)

    def _read(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        for _ in range(MESSAGES_A_TURN):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(peer, frames)
        self._schedule_read()

    def _take(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            if len(frames) != MAX_PARTS:
                raise codec.BadMessage("wrong number of parts")
            message = codec.decode(frames[0])
        except codec.WrongVersion as error:
            self._note_drop(str(error))
            self.send(peer, Refused("protocol_version", str(error)))
            return
        except codec.BadMessage as error:
            self._note_drop(str(error))
            return
        logger.debug("%s < %s", self._name, type(message).__name__)
        self._received(peer, message)

    def _note_drop(self, reason: str) -> None:
        """Log the 1st, 2nd, 4th, 8th …: a peer that sends nothing else must not fill the disk."""
        self.dropped_frames += 1
        if self.dropped_frames.bit_count() == 1:
            fields = {"link": self._name, "reason": reason, "dropped": self.dropped_frames}
            logger.warning(event("frame was dropped", fields))
