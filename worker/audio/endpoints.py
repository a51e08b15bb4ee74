"""What ends a live utterance, and what becomes of it. Positions: 16 kHz samples of the stream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """What ends an utterance. Raises ValueError, whose text is for the caller."""

    threshold: float = 0.5
    """Probability from which somebody speaks."""
    prefix_padding_ms: int = 300
    """Kept before the first step of speech; at least 100."""
    silence_duration_ms: int = 500
    """Silence that ends an utterance; in steps of 32, at least one."""
    min_speech_ms: int = 110
    """Less is a click or a tone that begins, and starts no utterance. Each step of 32 counts with
    its probability, so four sure ones are enough, or seven doubtful ones."""
    max_utterance_seconds: float = 30.0
    """Longer utterances are cut where they are quietest."""
    is_manual: bool = False
    """Only ``commit`` and the length end utterances, and each begins where the last one ended."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("threshold", self.threshold, 0.0, 1.0),
            ("prefix_padding_ms", self.prefix_padding_ms, 0, 10_000),
            ("silence_duration_ms", self.silence_duration_ms, 0, 60_000),
            ("min_speech_ms", self.min_speech_ms, 0, 5_000),
            ("max_utterance_seconds", self.max_utterance_seconds, 1.0, 3_600.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}")


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody speaks; ``start`` is a little before the first sound of it."""

    start: int


@dataclass(frozen=True, slots=True)
class Paused:
    """If silence holds, the utterance will have ended at ``end``: its last text can be computed."""

    end: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Silence did not hold: the utterance that had paused goes on."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The utterance is [start, end), and no sample of it will be in another one."""

    start: int
    end: int
    heard_until: int
    """Where the decision fell, behind the silence; ``end`` where it was cut or committed."""
    is_forced: bool
    """It got too long; who spoke on is heard in the next utterance, which starts at ``end``."""
    has_speech: bool
    """False where nobody spoke, as only without detection of speech it may be."""


EndpointEvent = SpeechStarted | Paused | Resumed | SpeechEnded
