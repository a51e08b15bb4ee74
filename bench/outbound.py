"""What an outgoing call costs: the first one, which starts the child process, and later ones.

    python -m bench.outbound [--calls 200]

Calls a server on loopback, one after the other. MB are 10^6 bytes.
"""

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

from bench.gateway_memory import MB, memory_of
from gateway.outbound.client import Outbound, OutboundRequest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BODY = bytes(4000)
"""About what a batch of lines to translate has."""


@dataclass(frozen=True)
class Measurement:
    """Seconds, and bytes of the child's memory afterwards."""

    first: float
    later: float
    """Median."""
    resident: int
    private: int


async def measure(calls: int) -> Measurement:
    """One first call and so many later ones."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outbound = Outbound({})
        try:
            first = await _timed(outbound, url)
            later = [await _timed(outbound, url) for _ in range(calls)]
            assert outbound.process_id is not None
            memory = memory_of(outbound.process_id)
        finally:
            await outbound.aclose()
    return Measurement(first, statistics.median(later), memory.resident, memory.private)


async def _timed(outbound: Outbound, url: str) -> float:
    started = time.perf_counter()
    answer = await outbound.send(OutboundRequest("POST", url, timeout=30.0, body=BODY))
    assert answer.status == 200
    return time.perf_counter() - started


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(BODY))
            writer.write(ANSWER)
    except asyncio.IncompleteReadError:
        writer.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    found = asyncio.run(measure(parser.parse_args().calls))
    print(f"first call, which starts the child   {found.first * 1000:7.1f} ms")
    print(f"later calls, median                  {found.later * 1000:7.1f} ms")
    print(f"child's RSS                          {found.resident / MB:7.1f} MB")
    print(f"child's USS                          {found.private / MB:7.1f} MB")


if __name__ == "__main__":
    main()
