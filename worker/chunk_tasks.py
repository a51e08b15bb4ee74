"""What the engine is given of a chunk: one turn of it, which may be all."""

from dataclasses import dataclass

from worker.audio.chunking import Chunk
from worker.audio.conversation import Turn
from worker.engine.interface import ChunkRequest


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTask:
    """One sequence for the engine."""

    number: int
    """The index it has for the engine, in the order of the recording."""
    chunk: Chunk
    turn: Turn
    request: ChunkRequest
    is_faint: bool
    """Too little can be heard to be understood."""
    previous_context: str = ""
    """What of the context is the end of the chunk before."""
    has_failed: bool = False
