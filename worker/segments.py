"""The text of a chunk -> segments and words with times. Pure.

Positions are samples at 16 kHz of the recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.transcription import Nats, Segment, Word


@dataclass(frozen=True, slots=True)
class SpeechSpan:
    """Somebody speaks in samples [start, end) of the recording."""

    start: int
    end: int
    probability: float
    """That it is speech, mean over the span, by voice activity detection."""


class TextToken(Protocol):
    """A token of a chunk's text."""

    @property
    def id(self) -> int: ...
    @property
    def content(self) -> bytes: ...
    @property
    def logprob(self) -> float: ...


def segments_of(
    text: str,
    language: str | None,
    spans: Sequence[SpeechSpan],
    *,
    start: int,
    end: int,
    channel: int | None = None,
    tokens: Sequence[TextToken] = (),
) -> tuple[Segment, ...]:
    """What of a chunk's text was said when; empty for an empty text.

    `spans`: the chunk's, in order, inside [start, end), which is the chunk itself and holds the
    text where no speech was found. Joined with single spaces, or none between scripts without
    spaces, the segments' texts are the text. `tokens`: all of the text's, where known.
    """
    stripped = text.strip()
    if not stripped:
        return ()
    begin, finish = (spans[0].start, spans[-1].end) if spans else (start, end)
    probability = sum(span.probability for span in spans) / len(spans) if spans else 0.0
    logprob = sum(token.logprob for token in tokens) / len(tokens) if tokens else None
    return (
        Segment(
            start=begin,
            end=finish,
            text=stripped,
            words=(Word(begin, finish, stripped, is_estimated=True),),
            channel=channel,
            token_ids=tuple(token.id for token in tokens),
            avg_logprob=None if logprob is None else Nats(logprob),
            no_speech=1 - probability,
        ),
    )
