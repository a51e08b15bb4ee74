"""Messages of the work link: gateway and engine process about recordings. docs/protocol.md rules.

Positions in audio are sample counts at 16 kHz from the start of the recording.
"""

from dataclasses import dataclass
from enum import StrEnum

from protocol.failures import FailureCode
from protocol.units import Nats as Nats


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
    languages: tuple[str, ...] = ()
    """English names of the only languages to expect, where none is given; empty: any."""
    wants_partials: bool = False
    """Send Partial while a chunk is being inferred."""
    wants_logprobs: bool = False
    """Send each token of a chunk with its probability."""
    splits_channels: bool = False
    """Transcribe both channels by themselves, where they differ; segments name theirs. Fails with
    channels_missing where there are not two."""
    uses_previous_context: bool = False
    """Give the end of a chunk's text to the next chunk as context, behind prompt and keywords."""
    audio_track: int | None = None
    """Which audio stream of a film, counted from 0; None takes its default one."""
    wants_words: bool = False
    """Times of words matter: measure them, where the engine has a forced aligner."""
    is_upload_whole: bool = True
    """Otherwise upload_bytes are what is there so far, and UploadGrown tells of the rest."""
    reads_forward: bool = False
    """Its container can be decoded front to back, while it arrives: it does not wait for its end.
    """


@dataclass(frozen=True, slots=True)
class UploadGrown:
    """Gateway -> engine: more of an upload is there; one of them says that it is whole."""

    request_id: str
    upload_bytes: int
    """What is there of it by now."""
    is_whole: bool
    """No more will come."""


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
class Word:
    """A word and when it is said; written as it stands in its segment's text."""

    start: int
    end: int
    """Behind the start, always."""
    text: str
    is_estimated: bool
    """Spread over the speech around it, not measured by an aligner."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech and its text. Segments of a channel are in order and do not overlap."""

    start: int
    end: int
    text: str
    words: tuple[Word, ...]
    channel: int | None
    """Counted from 0; None where the channels were not told apart."""
    token_ids: tuple[int, ...]
    """Those of the model's tokens that fall into this segment."""
    avg_logprob: Nats | None
    """Mean over its tokens; None where not wanted or not known."""
    no_speech: float
    """Probability that nobody speaks here, by voice activity detection."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a chunk's text; all of them together are the text in UTF-8."""

    content: bytes
    logprob: Nats


@dataclass(frozen=True, slots=True)
class Partial:
    """Engine -> gateway: the beginning of a chunk's text, settled while the rest is inferred.

    Of the next chunk to be done only. Each holds the one before it as its beginning, and so does
    the text of ChunkDone.
    """

    request_id: str
    attempt: int
    index: int
    language: str | None
    text: str


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
    segments: tuple[Segment, ...] = ()
    """What of the text was said when; empty where nothing was heard."""
    tokens: tuple[Token, ...] = ()
    """Where logprobs were wanted and the text is the model's own, unrepaired."""


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
