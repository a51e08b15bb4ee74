"""An engine whose texts come with measured times, by a forced aligner beside it. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from worker.engine.aligner import Aligner
from worker.engine.interface import (
    Cancelled,
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    Engine,
    EngineSettings,
    ReportProgress,
)
from worker.text.alignment import Alignment
from worker.text.repetition import repair_repetitions

Answer = tuple[ChunkKey, ChunkText | ChunkFailure]


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A chunk whose text is known, and its times not yet."""

    chunk: ChunkRequest
    answer: ChunkText
    language: str
    text: str
    """As repaired: what was never said has no times."""


class AligningEngine:
    """See Engine. A step infers a batch of the engine inside, or aligns one chunk; in turn, so
    that whoever waits for the next token waits for one alignment at most."""

    def __init__(
        self,
        aligner: Aligner,
        settings: EngineSettings,
        create: Callable[[EngineSettings], Engine],
    ) -> None:
        """The engine inside is created when the aligner is loaded: its memory is planned in what
        the aligner leaves."""
        self._aligner = aligner
        self._settings = settings
        self._create = create
        self._inner: Engine | None = None
        # Bounded, both, by who submits: chunks_ahead chunks of each open request.
        self._wanting: dict[ChunkKey, ChunkRequest] = {}
        """Chunks the engine inside has and whose words matter."""
        self._heard: dict[ChunkKey, _Heard] = {}
        """Chunks to align, in order of their answers."""
        self._alone: str | None = None
        self._is_turn_to_align = False

    def __repr__(self) -> str:
        return f"<AligningEngine of {self._inner!r}, {len(self._heard)} to align>"

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def max_chunk_seconds(self) -> float | None:
        return self._engine.max_chunk_seconds

    @property
    def chunks_ahead(self) -> int:
        return self._engine.chunks_ahead

    @property
    def has_work(self) -> bool:
        return self._engine.has_work or self._next_to_align() is not None

    def load(self, report: ReportProgress) -> None:
        self._aligner.load(report)
        kept = self._settings.kept_free_bytes + self._aligner.working_bytes
        inner = self._create(replace(self._settings, kept_free_bytes=kept))
        inner.load(report)
        self._inner = inner

    def warm_up(self) -> None:
        self._engine.warm_up()

    def memory(self) -> dict[str, int]:
        return self._engine.memory()

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        if key in self._heard:
            raise ValueError(f"chunk {key} was submitted before and not answered yet")
        self._engine.submit(key, chunk)
        if chunk.wants_words:
            self._wanting[key] = chunk

    def cancel(self, key: ChunkKey) -> None:
        self._wanting.pop(key, None)
        self._heard.pop(key, None)
        self._engine.cancel(key)

    def end_utterance(self, utterance: str) -> None:
        self._engine.end_utterance(utterance)

    def text_so_far(self, key: ChunkKey) -> str | None:
        return None if key in self._heard else self._engine.text_so_far(key)

    def run_alone(self, request_id: str | None) -> None:
        self._alone = request_id
        self._engine.run_alone(request_id)

    def expect_live(self, is_expected: bool) -> None:
        self._engine.expect_live(is_expected)

    def step(self, on_step: Callable[[], None]) -> list[Answer]:
        key = self._next_to_align()
        if key is not None and (self._is_turn_to_align or not self._engine.has_work):
            self._is_turn_to_align = False
            return self._align(key, on_step)
        self._is_turn_to_align = True
        answers = self._engine.step(on_step)
        return [answer for answer in answers if not self._is_kept(*answer)]

    @property
    def _engine(self) -> Engine:
        if self._inner is None:
            raise RuntimeError("load() comes first")
        return self._inner

    def _next_to_align(self) -> ChunkKey | None:
        return next((key for key in self._heard if self._alone in (None, key[0])), None)

    def _is_kept(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> bool:
        """Whether an answer waits for its times; takes note of it."""
        chunk = self._wanting.pop(key, None)
        if chunk is None or isinstance(answer, ChunkFailure):
            return False
        text = repair_repetitions(answer.text, answer.is_cut_off, 0)
        if not text or answer.language is None or not self._aligner.knows(answer.language):
            return False
        self._heard[key] = _Heard(chunk, answer, answer.language, text)
        return True

    def _align(self, key: ChunkKey, on_step: Callable[[], None]) -> list[Answer]:
        heard = self._heard[key]

        def between_steps() -> None:
            on_step()
            if self._heard.get(key) is not heard:
                raise Cancelled

        try:
            units = self._aligner.align(
                heard.chunk.samples, heard.text, heard.language, between_steps
            )
        except Cancelled:
            return []
        if self._heard.get(key) is not heard:
            return []
        del self._heard[key]
        alignment = Alignment(heard.text, units) if units else None
        return [(key, replace(heard.answer, alignment=alignment))]
