"""Hand-written fakes shared by tests: each keeps its real counterpart's promises, from a script."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from gateway.worker_client import outcomes
from gateway.worker_client.interface import (
    ClientSnapshot,
    TranscriptionRequest,
    WorkerSnapshot,
)
from protocol.transcription import (
    ChunkDone,
    Final,
    Nats,
    Partial,
    Progress,
    Segment,
    Token,
    Word,
)

ScriptedMessage = ChunkDone | Partial | Progress | Final | Exception | asyncio.Event
"""Messages are told, exceptions raised, events waited for."""


def chunk_done(
    text: str,
    *,
    language: str | None = "English",
    index: int = 0,
    start: int = 0,
    end: int = 16_000,
    request_id: str = "req_1",
    segments: Sequence[Segment] = (),
    tokens: Sequence[Token] = (),
) -> ChunkDone:
    """A finished chunk of one second with plausible token counts."""
    return ChunkDone(
        request_id,
        1,
        index,
        start,
        end,
        language,
        text,
        20,
        13,
        5,
        segments=tuple(segments),
        tokens=tuple(tokens),
    )


def segment(
    text: str, start: float, end: float, *, channel: int | None = None, is_estimated: bool = False
) -> Segment:
    """A segment between two times in seconds, whose words share it evenly."""
    texts = text.split()
    step = (end - start) / len(texts)
    words = tuple(
        Word(
            round((start + number * step) * 16_000),
            round((start + (number + 1) * step) * 16_000),
            word,
            is_estimated,
        )
        for number, word in enumerate(texts)
    )
    return Segment(
        start=round(start * 16_000),
        end=round(end * 16_000),
        text=text,
        words=words,
        channel=channel,
        token_ids=tuple(range(100, 100 + len(texts))),
        avg_logprob=Nats(-0.25),
        no_speech=0.125,
    )


def tokens_of(*contents: bytes, logprob: float = -0.5) -> tuple[Token, ...]:
    """The tokens of a chunk's text."""
    return tuple(Token(content, Nats(logprob)) for content in contents)


def partial(
    text: str,
    *,
    index: int = 0,
    attempt: int = 1,
    language: str | None = "English",
    request_id: str = "req_1",
) -> Partial:
    """The beginning of a chunk's text."""
    return Partial(request_id, attempt, index, language, text)


def final(*, chunks: int = 1, audio_seconds: float = 1.0, request_id: str = "req_1") -> Final:
    """The end of a request that went well."""
    return Final(request_id, 1, chunks, audio_seconds)


def worker_snapshot(state: str = "ready", *, failure: str | None = None) -> WorkerSnapshot:
    """One worker as health answers see it."""
    return WorkerSnapshot("worker-1", state, "", 0, None, failure, None, 0)


def client_snapshot(
    *states: str, waiting_requests: int = 0, reason: str | None = None
) -> ClientSnapshot:
    """Workers in these states; a reason means that none can serve."""
    workers = tuple(worker_snapshot(state) for state in states)
    return ClientSnapshot(workers, waiting_requests, reason is None, reason)


class FakeWorkerClient:
    """A WorkerClient that plays a script to every request, as soon as `gate` is open."""

    def __init__(self, *script: ScriptedMessage) -> None:
        self.script: Sequence[ScriptedMessage] = script or (chunk_done("one two"), final())
        self.state = client_snapshot("stopped")
        self.requests: list[TranscriptionRequest] = []
        self.contents: list[bytes] = []
        """What lay on the spool when each request came."""
        self.growth: list[tuple[str, int, bool]] = []
        """What was told of uploads that were not whole: request, bytes, whether they are now."""
        self.cancelled: list[str] = []
        """Requests whose caller went before their end."""
        self.ended = False
        """Whether end_all was called: every open request has failed, or will."""
        self.told = 0
        """Messages that callers have taken, or are about to."""
        self.expected = 0
        """Requests that are expected or under way."""
        self.was_expecting = asyncio.Event()
        self.warmed: list[float] = []
        """For how long an engine was wanted, each time."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def transcribe(
        self, request: TranscriptionRequest
    ) -> AsyncGenerator[ChunkDone | Partial | Progress | Final, None]:
        self.requests.append(request)
        self.contents.append(request.upload_path.read_bytes())
        self.arrived.set()
        try:
            await self.gate.wait()
            if self.ended:
                raise outcomes.shutting_down()
            for message in self.script:
                if isinstance(message, Exception):
                    raise message
                if isinstance(message, asyncio.Event):
                    await message.wait()
                    continue
                self.told += 1
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.request_id)
            self.was_cancelled.set()
            raise

    def end_all(self) -> None:
        """As WorkerLink.end_all."""
        self.ended = True
        self.gate.set()

    def upload_grew(self, request_id: str, upload_bytes: int, *, is_whole: bool) -> None:
        self.growth.append((request_id, upload_bytes, is_whole))

    def warm(self, seconds: float) -> None:
        self.warmed.append(seconds)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        self.expected += 1
        self.was_expecting.set()
        try:
            yield
        finally:
            self.expected -= 1

    def snapshot(self) -> ClientSnapshot:
        return self.state
