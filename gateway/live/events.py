"""What a live session tells its dialect, and what a dialect asks of its session.

A dialect is how one kind of client speaks: it turns that client's messages into requests and the
session's events into messages. Milliseconds count from the first byte of audio of the session.
"""

from dataclasses import dataclass
from typing import Protocol

from protocol.live import LiveOptions, StreamFormat
from protocol.transcription import Segment, Token

# --- what a session tells -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineWarming:
    """No engine is there yet; audio is kept until one is. At most once before each EngineReady."""


@dataclass(frozen=True, slots=True)
class EngineReady:
    """An engine listens."""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """Somebody speaks: the item of this id will be committed later."""

    item_id: str
    channel: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class TurnStopped:
    """They were silent long enough. Not told of turns that the client commits."""

    item_id: str
    channel: int
    end_ms: int
    """Behind start_ms, always; the silence that ended the turn is included."""


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The item's audio is complete; exactly one TurnCompleted or TurnFailed follows."""

    item_id: str
    channel: int
    previous_item_id: str | None
    """The item committed before this one, of whatever channel."""
    by_client: bool


@dataclass(frozen=True, slots=True)
class TextChanged:
    """The text of an item so far. Never after its TurnCompleted."""

    item_id: str
    channel: int
    language: str | None
    delta: str
    """What to append to the deltas before; all of them are `stable`. May be empty."""
    stable: str
    """What was told for good; never shorter than before."""
    tail: str
    """What follows for now and may change."""
    lag_ms: int
    """From the arrival of the audio it covers."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an item cost."""

    prompt_tokens: int
    audio_tokens: int
    output_tokens: int
    audio_ms: int


@dataclass(frozen=True, slots=True)
class TurnCompleted:
    """The text of an item. Where it does not begin with the deltas told, it is the truth."""

    item_id: str
    channel: int
    transcript: str
    delta: str
    """The rest of the transcript behind the deltas told; empty where it contradicts them."""
    language: str | None
    """English name; None where nobody spoke."""
    start_ms: int
    end_ms: int
    segments: tuple[Segment, ...]
    tokens: tuple[Token, ...]
    usage: Usage
    lag_ms: int
    """From the end of the utterance being decided, where no engine was lost since."""


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """An item without text; the session goes on."""

    item_id: str
    channel: int
    code: str
    """A FailureCode."""
    message: str


@dataclass(frozen=True, slots=True)
class AudioCleared:
    """What was not committed is forgotten."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The options hold from the next utterance on."""

    options: LiveOptions


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """Too little audio since the last item to commit: less than LEAST_COMMIT_MS."""

    buffered_ms: int


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The last event. Without a code where the client closed and everything is answered."""

    code: str | None
    """A FailureCode."""
    message: str


SessionEvent = (
    EngineWarming
    | EngineReady
    | TurnStarted
    | TurnStopped
    | TurnCommitted
    | TextChanged
    | TurnCompleted
    | TurnFailed
    | AudioCleared
    | Reconfigured
    | CommitRefused
    | SessionEnded
)

LEAST_COMMIT_MS = 100
"""Audio that a commit needs, as with OpenAI."""

# --- what a dialect asks --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this text to the client. Those that may be dropped are for clients that read slowly."""

    text: str
    may_drop: bool = False


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio of the client, in whatever pieces it came."""

    content: bytes


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """The client ends a turn here: answered by TurnCommitted, or by CommitRefused where there is
    too little audio and `even_if_empty` is not set."""

    even_if_empty: bool = False


@dataclass(frozen=True, slots=True)
class ClearAudio:
    """Forget what is not committed."""


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Use these options from the next utterance on; the format only before the first audio."""

    options: LiveOptions
    format: StreamFormat | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The client sends nothing more: end what is open, answer it, then SessionEnded."""


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the connection with this code, at once."""

    code: int
    reason: str
    """At most 123 bytes of UTF-8."""


Request = Reply | Audio | CommitTurn | ClearAudio | Reconfigure | Finish | Hangup


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session begins, as read from its handshake."""

    format: StreamFormat
    options: LiveOptions
    call_id: str
    """Under which others may follow it: given by the client, or made for it."""


class Dialect(Protocol):
    """One connection's side of one dialect. Pure: no socket, clock or task; time does not matter.

    Constructed from the handshake (see the dialect's own module); `opening` is asked first.
    """

    @property
    def opening(self) -> Opening:
        """Format and options to begin with."""
        ...

    def greeting(self, *, is_ready: bool) -> list[Request]:
        """What the client gets unasked; is_ready: whether an engine listens already."""
        ...

    def text_received(self, text: str) -> list[Request]:
        """A text frame of the client."""
        ...

    def bytes_received(self, content: bytes) -> list[Request]:
        """A binary frame of the client."""
        ...

    def event(self, event: SessionEvent) -> list[Request]:
        """The session tells something: what the client is told of it."""
        ...
