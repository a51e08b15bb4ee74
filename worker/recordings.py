"""Progress of one recording: which chunks it has, which are done, what is said to the gateway.

Pure bookkeeping of the engine's main thread: chunks come in from feeding.py, texts from the engine,
messages go out as return values, in the order of the chunks whatever the order of inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocol.codec import packed_bytes
from protocol.limits import MAX_FRAME_BYTES, SAMPLE_RATE
from protocol.transcription import (
    ChunkDone,
    Final,
    Progress,
    Segment,
    Stage,
    Token,
    Transcribe,
)

PROGRESS_INTERVAL = 1.0
"""Seconds between two Progress messages of one request."""


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """A chunk by its position, in samples."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """What inference (or the lack of need for it) gave for one chunk."""

    language: str | None = None
    text: str = ""
    prompt_tokens: int = 0
    audio_tokens: int = 0
    output_tokens: int = 0
    segments: tuple[Segment, ...] = ()
    tokens: tuple[Token, ...] = ()


def context_of(prompt: str, keywords: Sequence[str]) -> str:
    """The caller's words as the model gets them."""
    return "\n".join(part for part in (prompt.strip(), ", ".join(keywords)) if part)


class CutDifferently(Exception):
    """The chunks an earlier engine did do not end where this engine cuts."""


class Recording:
    """One request of the gateway, from Transcribe to its Final."""

    def __init__(self, request: Transcribe) -> None:
        self.request = request
        self._spans: dict[int, ChunkSpan] = {}
        """Chunks cut and not yet reported."""
        self._outcomes: dict[int, ChunkOutcome | None] = {}
        """Chunks finished but not yet reported; None for those an earlier engine reported."""
        self._next_index = 0
        self._samples: int | None = None
        """Length of the recording, known once it is wholly cut."""
        self._decoded_samples = 0
        self._last_progress: float | None = None
        self.total_seconds: float | None = None

    def __repr__(self) -> str:
        return f"<Recording {self.request.request_id} at chunk {self._next_index}>"

    @property
    def context(self) -> str:
        """The caller's prompt and keywords, as the model gets them with every chunk."""
        return context_of(self.request.prompt, self.request.keywords)

    @property
    def next_index(self) -> int:
        """The chunk to be reported next."""
        return self._next_index

    def cut(self, index: int, span: ChunkSpan) -> bool:
        """A chunk was cut; returns whether it needs inference, else it counts as done already.

        Raises CutDifferently.
        """
        done = self.request.done_chunks
        if index == done - 1 and span.end != self.request.done_samples:
            raise CutDifferently
        self._spans[index] = span
        self._decoded_samples = span.end
        if index >= done:
            return True
        self._outcomes[index] = None
        return False

    def cut_all(self, samples: int) -> None:
        """The recording ends at this sample; no chunk follows. Raises CutDifferently."""
        if self._decoded_samples < self.request.done_samples:
            raise CutDifferently
        self._samples = samples

    def finish(self, index: int, outcome: ChunkOutcome) -> None:
        """A chunk's text is there."""
        self._outcomes[index] = outcome

    def reports(self) -> list[ChunkDone | Final]:
        """What can be said now: finished chunks in order and, after the last, the totals."""
        reports: list[ChunkDone | Final] = []
        while self._next_index in self._outcomes:
            outcome = self._outcomes.pop(self._next_index)
            span = self._spans.pop(self._next_index)
            if outcome is not None:
                reports.append(self._chunk_done(span, outcome))
            self._next_index += 1
        if self._samples is not None and not self._spans:
            seconds = self._samples / SAMPLE_RATE
            reports.append(
                Final(self.request.request_id, self.request.attempt, self._next_index, seconds)
            )
        return reports

    def progress(self, stage: Stage, now: float) -> Progress | None:
        """The request moved; a message where the last one is long enough ago."""
        if self._last_progress is not None and now - self._last_progress < PROGRESS_INTERVAL:
            return None
        self._last_progress = now
        return Progress(
            self.request.request_id,
            self.request.attempt,
            stage,
            self._decoded_samples / SAMPLE_RATE,
            self.total_seconds,
        )

    def _chunk_done(self, span: ChunkSpan, outcome: ChunkOutcome) -> ChunkDone:
        done = ChunkDone(
            request_id=self.request.request_id,
            attempt=self.request.attempt,
            index=self._next_index,
            start=span.start,
            end=span.end,
            language=outcome.language,
            text=outcome.text,
            prompt_tokens=outcome.prompt_tokens,
            audio_tokens=outcome.audio_tokens,
            output_tokens=outcome.output_tokens,
            segments=outcome.segments,
            tokens=outcome.tokens,
        )
        return fitting(done)


def fitting(done: ChunkDone) -> ChunkDone:
    """The message without what is too much for one wire frame; its text always fits."""
    wordless = tuple(replace(segment, words=()) for segment in done.segments)
    for smaller in (
        done,
        replace(done, tokens=()),
        replace(done, tokens=(), segments=wordless),
    ):
        if packed_bytes(smaller) <= MAX_FRAME_BYTES:
            return smaller
    return replace(done, tokens=(), segments=())
