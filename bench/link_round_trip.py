"""CPU and rate of round trips on an ipc link: our Router against zmq.asyncio, in one run.

    python -m bench.link_round_trip [--messages 20000]

A process echoes 640-byte frames, what 20 ms of 16 kHz audio take; the event loop keeps 32 of them
under way. CPU is that of this process, ZeroMQ's I/O thread included. Rounds of the two alternate.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from gateway.worker_client.router import Router
from protocol import codec
from protocol.limits import QUEUE_MARK
from protocol.transcription import UploadPiece

UNDER_WAY = 32
ROUNDS = 3
MESSAGE = UploadPiece("r" * 36, 0, bytes(560), False)
ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send(sys.argv[2].encode("latin-1"))
while frame := socket.recv():
    socket.send(frame)
"""


def new_socket(context: Any, address: str) -> Any:
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, QUEUE_MARK)
    socket.bind(address)
    return socket


async def by_router(address: str, messages: int) -> None:
    """Round trips through the class the gateway uses, codec included."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    done = asyncio.Event()
    received = 0

    def on_message(peer: bytes, message: Any) -> None:
        nonlocal received
        received += 1
        if received == 1:
            for _ in range(UNDER_WAY):
                router.send(peer, MESSAGE)
        elif received <= messages:
            router.send(peer, message)
        else:
            done.set()

    router = Router(new_socket(context, address), "bench", on_message)
    await done.wait()
    router.close()
    context.term()


async def by_zmq_asyncio(address: str, messages: int) -> None:
    """The same with zmq.asyncio and the same codec."""
    context = zmq.asyncio.Context()
    socket = new_socket(context, address)
    peer, _ = await socket.recv_multipart()
    for _ in range(UNDER_WAY):
        await socket.send_multipart((peer, codec.encode(MESSAGE)))
    for _ in range(messages):
        _, frame = await socket.recv_multipart()
        await socket.send_multipart((peer, codec.encode(codec.decode(frame))))
    socket.close()
    context.term()


def measure(way: Any, messages: int) -> tuple[float, float]:
    """CPU microseconds a round trip, and round trips a second."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder)}/s"
        first = codec.encode(MESSAGE).decode("latin-1").replace("\x00", "\x01")
        echo = subprocess.Popen([sys.executable, "-c", ECHO, address, first])
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            asyncio.run(way(address, messages))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        finally:
            echo.kill()
            echo.wait()
    return cpu / messages * 1e6, messages / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    messages = parser.parse_args().messages
    ways = {"Router": by_router, "zmq.asyncio": by_zmq_asyncio}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            figures[name].append(measure(way, messages))
    for name, rounds in figures.items():
        cpu = statistics.median(figure[0] for figure in rounds)
        rate = statistics.median(figure[1] for figure in rounds)
        print(f"{name:12} {cpu:6.1f} µs CPU a round trip, {rate:8.0f} round trips a second")


if __name__ == "__main__":
    main()
