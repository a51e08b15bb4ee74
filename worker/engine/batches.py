"""Gives engines that transcribe whole batches the interface of the engine loop. Torch-free.

Chunks wait here in turns; a step is one batch, from its first token to its last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from worker.engine.interface import (
    Cancelled,
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    ReportProgress,
)
from worker.turns import Turns

LONE_BATCH = (4, 16)
"""Least and most chunks of one recording worth having ready for a batch: a minute of samples is
3.8 MB."""


class WholeBatches(Protocol):
    """An engine that answers all chunks of a call together. load and warm_up come first."""

    @property
    def name(self) -> str:
        """See Engine."""

    @property
    def max_chunk_seconds(self) -> float | None:
        """See Engine."""

    @property
    def max_batch(self) -> int:
        """Most chunks per transcribe() call that make sense; known after load, 1 before."""

    def load(self, report: ReportProgress) -> None:
        """See Engine."""

    def warm_up(self) -> None:
        """See Engine."""

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        """One answer per chunk, in order. on_step is called often while inference runs.

        Raises Cancelled as on_step does, and EngineFailure when the device is lost.
        """

    def memory(self) -> dict[str, int]:
        """See Engine."""


class BatchEngine:
    """See Engine. Calls on_step as often as the engine inside does."""

    def __init__(self, engine: WholeBatches) -> None:
        self._engine = engine
        self._turns = Turns()
        # Bounded by who submits: chunks_ahead chunks of each open request.
        self._waiting: dict[ChunkKey, ChunkRequest] = {}
        self._running: dict[ChunkKey, ChunkRequest] = {}
        """Chunks of the batch under way that somebody still waits for."""

    def __repr__(self) -> str:
        return f"<BatchEngine of {self._engine!r}, {len(self._running)} run, {self._turns!r}>"

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def max_chunk_seconds(self) -> float | None:
        return self._engine.max_chunk_seconds

    @property
    def chunks_ahead(self) -> int:
        """A batch, and the next one."""
        return 2 * sorted((*LONE_BATCH, self._engine.max_batch))[1]

    @property
    def has_work(self) -> bool:
        return self._turns.has_work

    def load(self, report: ReportProgress) -> None:
        self._engine.load(report)

    def warm_up(self) -> None:
        self._engine.warm_up()

    def memory(self) -> dict[str, int]:
        return self._engine.memory()

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        if key in self._waiting or key in self._running:
            raise ValueError(f"chunk {key} was submitted before and not answered yet")
        self._waiting[key] = chunk
        self._turns.add(key, chunk.priority)

    def cancel(self, key: ChunkKey) -> None:
        self._running.pop(key, None)
        if self._waiting.pop(key, None) is not None:
            self._turns.remove(key)

    def end_utterance(self, utterance: str) -> None:
        """Nothing is kept between steps here."""

    def text_so_far(self, key: ChunkKey) -> str | None:
        return None

    def run_alone(self, request_id: str | None) -> None:
        self._turns.run_alone(request_id)

    def expect_live(self, is_expected: bool) -> None:
        """A batch is not cut short for it: its parts are long anyway."""

    def step(self, on_step: Callable[[], None]) -> list[tuple[ChunkKey, ChunkText | ChunkFailure]]:
        keys = self._turns.next_batch(self._engine.max_batch)
        if not keys:
            return []
        self._running = {key: self._waiting.pop(key) for key in keys}
        chunks = list(self._running.values())
        try:
            answers = self._engine.transcribe(chunks, lambda: self._between_steps(on_step))
            answered = zip(keys, answers, strict=True)
            return [(key, answer) for key, answer in answered if key in self._running]
        except Cancelled:
            return []
        finally:
            self._running = {}

    def _between_steps(self, on_step: Callable[[], None]) -> None:
        on_step()
        if not self._running:
            raise Cancelled
