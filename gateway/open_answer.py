"""200 answers sent piece by piece, each when the client has taken the one before."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping

from starlette.types import Send


class OpenAnswer:
    """An answer that is sent while its work goes on.

    Begins with its first piece; until then an error can still have a status of its own.
    """

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers
        self._lock = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._written_at = self._clock()
        self.has_begun = False
        """Whether the status has been sent."""

    def __repr__(self) -> str:
        return f"<OpenAnswer {'begun' if self.has_begun else 'not begun'}>"

    async def write(self, pieces: bytes | Iterable[bytes]) -> None:
        """Send pieces of the body, made one at a time, with nothing of `keep_awake` in between."""
        async with self._lock:
            for piece in (pieces,) if isinstance(pieces, bytes) else pieces:
                await self._begin()
                await self._send(_body(piece))
                self._written_at = self._clock()

    async def finish(self) -> None:
        """The body is complete."""
        async with self._lock:
            await self._begin()
            await self._send({"type": "http.response.body", "body": b""})

    async def keep_awake(self, piece: bytes, interval: float) -> None:
        """Send `piece` whenever nothing else was sent for so many seconds; until cancelled."""
        while True:
            quiet = self._clock() - self._written_at
            if quiet >= interval:
                await self.write(piece)
            else:
                await asyncio.sleep(interval - quiet)

    async def _begin(self) -> None:
        if not self.has_begun:
            await self._send(_start(self._headers))
            self.has_begun = True


async def send_whole(send: Send, pieces: Iterable[bytes], headers: Mapping[str, str]) -> None:
    """Send an answer whose pieces can all be made now; memory goes with them."""
    left = deque(pieces)
    await send(_start({**headers, "content-length": str(sum(map(len, left)))}))
    while left:
        await send(_body(left.popleft()))
    await send({"type": "http.response.body", "body": b""})


def _start(headers: Mapping[str, str]) -> dict[str, object]:
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": encoded}


def _body(piece: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": piece, "more_body": True}
