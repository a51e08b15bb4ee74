"""An engine process's end of the work link that hears letters in live sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from protocol import live
from protocol.live import LiveEvent, OpenSession, SessionFailed
from tests.gateway.live.letter_engine import LetterEngine
from tests.gateway.worker_client.fake_peers import FakeEngine

UPLINK = (
    live.OpenSession,
    live.AudioPacket,
    live.Commit,
    live.Clear,
    live.Configure,
    live.CloseSession,
)


class FakeLiveEngine(FakeEngine):
    """Answers at once, unless it is `dumb`."""

    is_dumb = False

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.sessions: dict[str, LetterEngine] = {}
        self.changed = asyncio.Event()
        """Something came."""

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            try:
                message: object = await self.receive(UPLINK)
            except TimeoutError:
                continue
            await self._take(message)
            self.changed.set()

    async def _take(self, message: object) -> None:
        session_id = getattr(message, "session_id", "")
        if isinstance(message, OpenSession):
            self.sessions[session_id] = LetterEngine(message)
            return
        session = self.sessions.get(session_id)
        if session is None:
            return
        session.receive(message)
        if not self.is_dumb:
            await self.speak(session)

    async def speak(self, session: LetterEngine) -> None:
        """Everything that is to be said of a session."""
        session.guess()
        while session.answer():
            pass
        told: list[LiveEvent]
        told, session.told = session.told, []
        for event in told:
            await self.send(event)

    async def give_back(self, failed: SessionFailed) -> None:
        """End a session in this engine."""
        del self.sessions[failed.session_id]
        await self.send(failed)

    async def until_received(self, frames: int) -> LetterEngine:
        """The one session, as soon as it has so many frames from its beginning here."""
        async with asyncio.timeout(10):
            while True:
                for session in self.sessions.values():
                    if len(session.received) >= frames:
                        return session
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def live_engine(
    address: str, worker_id: str = "one", epoch: int = 1, *, is_dumb: bool = False
) -> AsyncIterator[FakeLiveEngine]:
    """One that has joined and serves."""
    async with FakeLiveEngine(address) as engine:
        engine.is_dumb = is_dumb
        await engine.join(worker_id, epoch)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(engine.serve())
            try:
                yield engine
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving
