"""What the rest of the gateway knows of workers: ask for a transcription, look at their state."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from protocol.failures import FailureCode
from protocol.transcription import ChunkDone, Final, Partial, Progress

if TYPE_CHECKING:
    from gateway.worker_client.live_calls import LiveCall


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """One recording on the spool and how to transcribe it."""

    request_id: str
    owner: str | None
    """Id of the API key that sent it; None on an open server."""
    spool_file: str
    """Path inside the spool folder, as the worker gets it."""
    upload_path: Path
    upload_bytes: int
    chunks_path: Path
    """Where finished chunks are kept until the caller has its answer; deleted with the upload."""
    language: str | None = None
    """English name, or None to detect."""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    temperature: float = 0.0
    languages: tuple[str, ...] = ()
    """English names of the only languages to expect; empty: any."""
    wants_partials: bool = False
    wants_logprobs: bool = False
    splits_channels: bool = False
    uses_previous_context: bool = False
    audio_track: int | None = None
    wants_words: bool = False
    is_upload_whole: bool = True
    """Otherwise WorkerClient.upload_grew tells of the rest."""


class TranscriptionFailed(Exception):
    """A request ended without its text."""

    def __init__(
        self, code: FailureCode, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        """For the caller: what to do."""
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, where it does."""


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker as health answers show it."""

    worker_id: str
    state: str
    """An EngineState."""
    stage: str
    done_bytes: int
    total_bytes: int | None
    failure: str | None
    resident_bytes: int | None
    running_requests: int


@dataclass(frozen=True, slots=True)
class LiveTotals:
    """What live sessions came to since the start; all but replays of sessions that have ended."""

    sessions: int = 0
    replays: int = 0
    """Sessions handed to a further engine."""
    utterances: int = 0
    contradictions: int = 0
    """Items whose text did not begin with what was told of it before."""
    partials_dropped: int = 0
    """Messages for which clients read too slowly."""


@dataclass(frozen=True, slots=True)
class ClientSnapshot:
    """What health answers say about transcription as a whole; reading it wakes nothing."""

    workers: tuple[WorkerSnapshot, ...]
    waiting_requests: int
    can_serve: bool
    """Whether a request sent now would be served: a worker is ready or can be started."""
    reason: str | None
    """Why not, in words for the operator."""
    live_sessions: int = 0
    """Those that are open."""
    live_totals: LiveTotals = LiveTotals()


class WorkerClient(Protocol):
    """The gateway's only way to workers."""

    def transcribe(
        self, request: TranscriptionRequest
    ) -> AsyncGenerator[ChunkDone | Partial | Progress | Final, None]:
        """Yield chunks in order (progress in between) and end with exactly one Final.

        Partials are of the chunk that comes next, and only the latest is kept for a slow reader.
        After an engine's death a chunk begins anew: its later texts may differ from earlier ones.

        Starts an engine where none runs. Raises TranscriptionFailed. Closing the generator, or
        cancelling its consumer, cancels the work.
        """
        ...

    def upload_grew(self, request_id: str, upload_bytes: int, *, is_whole: bool) -> None:
        """So much is there by now of an upload that was not whole when `transcribe` began.

        Until it is whole, its request waits behind others, and has no answer for want of an engine.
        """
        ...

    def open_session(self, session_id: str) -> "LiveCall":
        """A place for a live session in whatever engine there is, until LiveCall.close. Starts an
        engine where none runs, and keeps it. Raises TranscriptionFailed where there are too many.
        """
        ...

    def warm(self, seconds: float) -> None:
        """For so long an engine is wanted: one is started where none runs, and kept. Later calls
        extend this, and never shorten it."""
        ...

    def expecting(self) -> AbstractContextManager[None]:
        """For as long as a request is on its way in: it keeps a running engine, and starts none."""
        ...

    def snapshot(self) -> ClientSnapshot:
        """The state of every known worker, from memory."""
        ...
