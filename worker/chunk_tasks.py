"""What the engine is given of a chunk: all of it, or one channel."""

from dataclasses import dataclass

from worker.audio.chunking import Chunk
from worker.engine.interface import ChunkRequest
from worker.segments import SpeechSpan


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTask:
    """One sequence for the engine."""

    number: int
    """The index it has for the engine: the chunk's, where channels are not told apart."""
    chunk: Chunk
    channel: int | None
    spans: tuple[SpeechSpan, ...]
    """Where somebody speaks in this channel."""
    request: ChunkRequest
    is_faint: bool
    """Too little can be heard to be understood."""
    previous_context: str = ""
    """What of the context is the end of the chunk before."""
    has_failed: bool = False
