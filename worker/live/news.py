"""What the listener tells the engine's main thread.

Positions are samples at 16 kHz from the session's first frame, whatever engine hears it.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocol.live import EndReason, LiveOptions
from worker.segments import SpeechSpan

Samples = NDArray[np.float32]

SessionKey = tuple[str, int]
"""Session id and attempt: a session that comes back is another one to whoever lags behind."""


@dataclass(frozen=True, slots=True)
class UtteranceBegan:
    """An utterance is open in a channel; its audio follows."""

    session: SessionKey
    number: int
    """Counted over all channels of the session."""
    channel: int
    start: int
    options: LiveOptions
    is_announced: bool
    """Somebody was heard to begin to speak; else only the client says what an utterance is."""


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceGrew:
    """More audio of an open utterance."""

    session: SessionKey
    number: int
    samples: Samples = field(repr=False)
    arrived: float
    """When its last packet came, by the worker's clock."""


@dataclass(frozen=True, slots=True)
class UtterancePaused:
    """If silence holds, the utterance will have been the audio up to `end`."""

    session: SessionKey
    number: int
    end: int


@dataclass(frozen=True, slots=True)
class UtteranceResumed:
    """It did not: they speak on."""

    session: SessionKey
    number: int


@dataclass(frozen=True, slots=True)
class UtteranceComplete:
    """Nothing more belongs to the utterance."""

    session: SessionKey
    number: int
    end: int
    """Of what is to be transcribed."""
    decided: int
    """Where it was decided; not before `end`."""
    reason: EndReason
    spans: tuple[SpeechSpan, ...]
    """Where somebody speaks in it; empty where nobody does."""


@dataclass(frozen=True, slots=True)
class UtteranceDropped:
    """The client wants nothing of an open utterance."""

    session: SessionKey
    number: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a session was heard."""

    session: SessionKey
    heard: int
    needed_from: int
    """Nothing before is needed by utterances still to come."""


@dataclass(frozen=True, slots=True)
class AllHeard:
    """The gateway closed the session, and everything in it was told."""

    session: SessionKey


@dataclass(frozen=True, slots=True)
class Rejected:
    """The session's format cannot be heard."""

    session: SessionKey
    message: str
    """For the caller."""


News = (
    UtteranceBegan
    | UtteranceGrew
    | UtterancePaused
    | UtteranceResumed
    | UtteranceComplete
    | UtteranceDropped
    | Position
    | AllHeard
    | Rejected
)
