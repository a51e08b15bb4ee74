"""Messages of the work link about live sessions. docs/protocol.md rules.

A session is one audio stream of one or two channels. Its audio goes up as packets, what is heard
comes down as events; neither side asks the other anything in the middle. Positions are frames: one
sample of every channel, at the stream's own rate, counted from the session's first.

Every event says two positions. `acknowledged`: nothing before it will be needed again, should this
engine die. `heard`: how far the engine has listened; the gateway sends at most LIVE_WINDOW_SECONDS
beyond it.
"""

from dataclasses import dataclass
from enum import StrEnum

from protocol.failures import FailureCode
from protocol.transcription import Segment, Token


class Encoding(StrEnum):
    """How a sample is written."""

    PCM16 = "pcm16"
    """Signed, 16 bits, the low byte first."""
    MULAW = "mulaw"
    """ITU-T G.711 µ-law."""
    ALAW = "alaw"
    """ITU-T G.711 A-law."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of one channel."""
        return 2 if self is Encoding.PCM16 else 1


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What the bytes of a stream mean; fixed for a session."""

    encoding: Encoding
    sample_rate: int
    """8,000 to 48,000."""
    channels: int
    """1 or 2, interleaved; each is heard and answered by itself."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.encoding.sample_bytes * self.channels

    @property
    def bytes_per_second(self) -> int:
        """Of all channels."""
        return self.frame_bytes * self.sample_rate


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Utterances begin and end where voice activity detection hears it."""

    threshold: float
    """Probability of speech from which on somebody speaks: 0 to 1."""
    prefix_padding_ms: int
    """Audio before the first speech that belongs to the utterance."""
    silence_duration_ms: int
    """Silence that ends an utterance."""


class Strategy(StrEnum):
    """How the text of a growing utterance is brought up to date."""

    VERIFY = "verify"
    """Each text is what all audio so far says; the text before is a draft that is checked."""
    ROLLBACK = "rollback"
    """The official package's: all but the newest tokens of the text before are kept unchecked."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a session is transcribed; may change between utterances."""

    language: str | None
    """English name, as protocol.languages knows it; None asks the model to detect it."""
    languages: tuple[str, ...]
    """English names of the only languages to expect, where none is given; empty: any."""
    prompt: str
    keywords: tuple[str, ...]
    turn_detection: TurnDetection | None
    """None: utterances end by Commit alone."""
    wants_partials: bool
    wants_logprobs: bool
    strategy: Strategy = Strategy.VERIFY
    step_seconds: float = 0.5
    """Audio between two texts of a growing utterance; more passes under load."""
    unfixed_steps: int = 2
    """ROLLBACK: the first steps keep nothing of the text before."""
    unfixed_tokens: int = 5
    """ROLLBACK: so many of the newest tokens are written anew."""
    max_new_tokens: int = 32
    """ROLLBACK: at most so many tokens a step."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Gateway -> engine: opens a session. Ends in exactly one SessionClosed or SessionFailed."""

    session_id: str
    attempt: int
    """1 for the first engine that gets the session; every event repeats it."""
    format: StreamFormat
    options: LiveOptions
    start: int
    """Frame with which the first packet begins: what lies before is of no use any more."""
    taken: tuple[int, ...] = ()
    """For each channel, the frame at which its last answered utterance ended: what lies before is
    heard once more, but not told. Empty for a new session."""


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """Gateway -> engine: whole frames, in order and without holes; at most LIVE_PACKET_BYTES."""

    session_id: str
    start: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """Gateway -> engine: the client ends an utterance here. Answered by an UtteranceEnded with the
    reason COMMIT, whether somebody spoke or not."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Gateway -> engine: forget the audio since the last utterance, and the one that is open. What
    has ended is still answered."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Gateway -> engine: from the next utterance on, transcribe so."""

    session_id: str
    options: LiveOptions


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Gateway -> engine: nothing more comes. An open utterance ends here; then SessionClosed."""

    session_id: str


class EndReason(StrEnum):
    """Why an utterance ended."""

    SILENCE = "silence"
    FORCED = "forced"
    """It was as long as an utterance may be; the next begins at this very frame."""
    COMMIT = "commit"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Engine -> gateway: somebody speaks. Utterances of a channel are in order."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int
    utterance: int
    """Counted from 0 over all channels of a session, anew for every attempt."""
    channel: int
    start: int
    """Padding included."""


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """Engine -> gateway: an utterance is complete; its text follows as UtteranceDone or
    UtteranceFailed. Without SpeechStarted before it where only a Commit made it one."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int
    utterance: int
    channel: int
    start: int
    end: int
    """Where that was decided: the silence that ended it included. Behind the start, always."""
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Engine -> gateway: the text of an utterance so far."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int
    utterance: int
    channel: int
    language: str | None
    stable: str
    """What will not change by what the engine knows: each holds the one before as its beginning.
    """
    tail: str
    """What follows, and may still change."""
    covers: int
    """Frame up to which it tells what was said."""
    lag_seconds: float
    """From the arrival of that frame to this message."""


@dataclass(frozen=True, slots=True)
class UtteranceDone:
    """Engine -> gateway: the text of an utterance, which replaces every hypothesis."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int
    utterance: int
    channel: int
    start: int
    end: int
    """Of what was transcribed; behind the start, always."""
    language: str | None
    """English name; None where no speech was heard."""
    text: str
    segments: tuple[Segment, ...]
    """Their positions are samples at 16 kHz from the session's first frame."""
    tokens: tuple[Token, ...]
    """Where logprobs were wanted and the text is the model's own, unrepaired."""
    prompt_tokens: int
    audio_tokens: int
    output_tokens: int
    contradicts_stable: bool
    """Whether the text does not begin with the last stable text that was told."""
    lag_seconds: float
    """From the decision that the utterance had ended to this message."""


@dataclass(frozen=True, slots=True)
class UtteranceFailed:
    """Engine -> gateway: an utterance that could not be transcribed; the session goes on."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int
    utterance: int
    channel: int
    code: FailureCode
    message: str
    """For the caller: what to do."""


@dataclass(frozen=True, slots=True)
class Listened:
    """Engine -> gateway: nothing but positions; where nothing else was said for a while."""

    session_id: str
    attempt: int
    acknowledged: int
    heard: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """Engine -> gateway: closes a session; everything in it is answered."""

    session_id: str
    attempt: int
    heard: int


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """Engine -> gateway: closes a session that cannot go on in this engine."""

    session_id: str
    attempt: int
    code: FailureCode
    message: str


LiveEvent = (
    SpeechStarted
    | UtteranceEnded
    | Hypothesis
    | UtteranceDone
    | UtteranceFailed
    | Listened
    | SessionClosed
    | SessionFailed
)
"""What an engine says about a session."""
