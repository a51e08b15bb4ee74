"""Messages of the work link: gateway and engine process about recordings. docs/protocol.md rules.

Positions in audio are sample counts at 16 kHz from the start of the recording.
"""

from dataclasses import dataclass
from enum import StrEnum

from protocol.failures import FailureCode


@dataclass(frozen=True, slots=True)
class Hello:
    """Engine -> gateway, once ready and after every Introduce: who I am and what I can take."""

    worker_id: str
    epoch: int
    """Which engine process of this worker this is; the supervisor counts them."""
    model_id: str
    capacity: int
    """Recordings this engine works on at the same time."""
    sees_spool: bool
    """Whether the probe of Introduce was read from the shared spool folder."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Gateway -> engine: opens a request. Ends in exactly one Final or Failed."""

    request_id: str
    attempt: int
    """1 for the first engine that gets the request; every answer repeats it."""
    spool_file: str
    """Path inside the spool folder, of hexadecimal digits and one slash."""
    upload_bytes: int
    language: str | None
    """English name, as protocol.languages knows it; None asks the model to detect it."""
    prompt: str
    keywords: tuple[str, ...]
    temperature: float
    runs_alone: bool
    """Suspected of having ended engines: nothing else is inferred until a chunk of it is done."""
    done_chunks: int
    """How many chunks from the start earlier engines finished: they are not inferred again."""
    done_samples: int
    """Where those chunks end. A recording that is cut elsewhere now fails with cut_differently."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Gateway -> engine: nobody waits any more. Answered by Failed(cancelled), or by what was
    already on its way."""

    request_id: str


@dataclass(frozen=True, slots=True)
class PullUpload:
    """Engine -> gateway, where the spool is not shared: send these bytes of the upload."""

    request_id: str
    offset: int
    pieces: int
    """Credit: how many UploadPiece messages may follow, from this offset on."""


@dataclass(frozen=True, slots=True)
class UploadPiece:
    """Gateway -> engine: part of an upload, at most UPLOAD_PIECE_BYTES."""

    request_id: str
    offset: int
    content: bytes
    is_last: bool


class Stage(StrEnum):
    """What a request is busy with."""

    FETCHING = "fetching"
    DECODING = "decoding"
    INFERRING = "inferring"


@dataclass(frozen=True, slots=True)
class Progress:
    """Engine -> gateway: the request moved. At most one a second and request, besides ChunkDone."""

    request_id: str
    attempt: int
    stage: Stage
    decoded_seconds: float
    total_seconds: float | None
    """Length of the recording where its container tells."""


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """Engine -> gateway: the text of one chunk, in order of index."""

    request_id: str
    attempt: int
    index: int
    start: int
    end: int
    language: str | None
    """English name; None where no speech was heard."""
    text: str
    prompt_tokens: int
    audio_tokens: int
    """Those of prompt_tokens that stand for audio."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Final:
    """Engine -> gateway: closes a request with totals; the text travelled in ChunkDone."""

    request_id: str
    attempt: int
    chunks: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Engine -> gateway: closes a request without (all of) its text."""

    request_id: str
    attempt: int
    code: FailureCode
    message: str
    """For the caller to read: what to do. Never a library's words, a path or a trace."""
