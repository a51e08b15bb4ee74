"""Socket kinds, marks, limits and keys of both links, in one place. Torch-free, loop-free.

The gateway binds ROUTER sockets, workers connect DEALER sockets. Addresses are ipc:// inside a
folder only the owner may enter, or tcp:// with CURVE and an allow-list of worker keys.
"""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq
import zmq.utils.z85

from protocol.limits import HEARTBEAT_INTERVAL, HEARTBEATS_MISSED, MAX_FRAME_BYTES, QUEUE_MARK

if TYPE_CHECKING:
    from pathlib import Path

MAX_IPC_PATH_BYTES = 107
"""sun_path of a Unix socket on Linux, less the closing zero byte."""


class LinkError(Exception):
    """The links cannot be set up; the message tells the operator what to change."""


@dataclass(frozen=True, slots=True)
class LinkAddresses:
    """Where the two links live; for tcp the control link takes the port after the work link's."""

    work: str
    control: str


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """One side's keys as 40-character Z85 text. Workers name the gateway's public key too."""

    public: bytes
    secret: bytes
    gateway_public: bytes | None = None


def link_setting(text: str) -> str:
    """Parser of the setting WORKER_LINK; raises ValueError saying what is valid."""
    if text != "ipc":
        _host_and_port(text)
    return text


def link_addresses(worker_link: str, data_folder: "Path") -> LinkAddresses:
    """The addresses WORKER_LINK means: "ipc" (a folder of data_folder) or tcp://HOST:PORT."""
    if worker_link == "ipc":
        folder = data_folder / "run"
        if len(os.fsencode(folder / "control.sock")) > MAX_IPC_PATH_BYTES:
            raise LinkError(
                f"DATA_DIR is too long for sockets inside it (at most {MAX_IPC_PATH_BYTES} bytes "
                "with /run/control.sock): choose a shorter DATA_DIR, or set WORKER_LINK"
            )
        return LinkAddresses(
            work=f"ipc://{folder}/work.sock", control=f"ipc://{folder}/control.sock"
        )
    try:
        host, port = _host_and_port(worker_link)
    except ValueError as error:
        raise LinkError(f"WORKER_LINK {error}") from None
    return LinkAddresses(work=f"tcp://{host}:{port}", control=f"tcp://{host}:{port + 1}")


def _host_and_port(worker_link: str) -> tuple[str, int]:
    scheme, _, rest = worker_link.partition("://")
    host, _, port = rest.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65534
    if scheme != "tcp" or not host or not is_port:
        raise ValueError('must be "ipc" or tcp://HOST:PORT')
    return host, int(port)


def make_link_folder(data_folder: "Path") -> "Path":
    """The folder of lock and ipc sockets, which only its owner may enter."""
    folder = data_folder / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def lock_links(data_folder: "Path") -> int:
    """Take the lock that one gateway per DATA_DIR holds; the descriptor returned keeps it.

    Without it a second gateway would silently take over the first one's ipc sockets. Raises
    LinkError with the holder's process id.
    """
    folder = make_link_folder(data_folder)
    descriptor = os.open(folder / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise LinkError(
            f"DATA_DIR {data_folder} is in use by the gateway with process id {holder}: "
            "stop it, or give this one a DATA_DIR of its own"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def bind_router(
    context: "zmq.Context[zmq.Socket[bytes]]", address: str, keys: CurveKeys | None
) -> "zmq.Socket[bytes]":
    """The gateway's end of one link. Sends to unknown or stalled peers raise at once.

    Raises LinkError where the address cannot be bound, or needs keys.
    """
    _check_keys(address, keys)
    socket = context.socket(zmq.ROUTER)
    _set_limits(socket)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise LinkError(f"cannot listen at {address}: {zmq.strerror(error.errno or 0)}") from error
    return socket


def connect_dealer(
    context: "zmq.Context[zmq.Socket[bytes]]", address: str, keys: CurveKeys | None
) -> "zmq.Socket[bytes]":
    """A worker's end of one link; connects and reconnects by itself.

    Sends raise zmq.Again while no gateway is connected: what was said to nobody is not kept for
    the next gateway, which would take it for news.
    """
    _check_keys(address, keys)
    if keys is not None and keys.gateway_public is None:
        raise LinkError("a worker's keys must name the gateway's public key: gateway.pub")
    socket = context.socket(zmq.DEALER)
    _set_limits(socket)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    if keys is not None and keys.gateway_public is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.gateway_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.connect(address)
    return socket


def _check_keys(address: str, keys: CurveKeys | None) -> None:
    if keys is None and not address.startswith("ipc://"):
        raise LinkError("a tcp link needs keys: see docs/operations.md, workers on other hosts")


def _set_limits(socket: "zmq.Socket[bytes]") -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.SNDHWM, QUEUE_MARK)
    socket.setsockopt(zmq.RCVHWM, QUEUE_MARK)
    interval_ms = int(HEARTBEAT_INTERVAL * 1000)
    socket.setsockopt(zmq.HEARTBEAT_IVL, interval_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, interval_ms * HEARTBEATS_MISSED)


ZAP_ADDRESS = "inproc://zeromq.zap.01"


def bind_zap(context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
    """The socket on which libzmq asks whether a CURVE key may connect; bind it before the links."""
    socket = context.socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(ZAP_ADDRESS)
    return socket


def zap_answer(question: Sequence[bytes], allowed_keys: frozenset[bytes]) -> list[bytes]:
    """The ZAP 1.0 reply (RFC 27 of the ZeroMQ project): allow-listed public keys, nobody else.

    CURVE without this admits any key pair.
    """
    version, request = (*question[:2], b"", b"")[:2]
    is_curve = len(question) == 7 and version == b"1.0" and question[5] == b"CURVE"
    if is_curve and len(question[6]) == 32 and zmq.utils.z85.encode(question[6]) in allowed_keys:
        return [b"1.0", request, b"200", b"OK", b"worker", b""]
    return [b"1.0", request, b"400", b"key not allowed", b"", b""]
