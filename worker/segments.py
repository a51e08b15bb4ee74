"""The text of a chunk -> segments and words with times. Pure.

Positions are samples at 16 kHz of the recording.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from protocol.limits import SAMPLE_RATE
from protocol.transcription import Nats, Segment, Word
from worker.text import scripts
from worker.text.alignment import Alignment, TimedText, timed_words
from worker.text.word_times import Piece, estimated_words, pieces_of

SEGMENT_PAUSE_SAMPLES: Final = 3 * SAMPLE_RATE // 10
"""A pause that ends a segment: half a second of silence, less the padding of spans around it."""

LONG_SEGMENT_SAMPLES: Final = 10 * SAMPLE_RATE
"""A segment takes another sentence, said without such a pause, while it stays shorter."""


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
    alignment: Alignment | None = None,
) -> tuple[Segment, ...]:
    """What of a chunk's text was said when; empty for an empty text.

    `spans`: the chunk's, in order, inside [start, end), which is the chunk itself and holds the
    text where no speech was found. The segments' texts are the text but for the spaces between
    them: joined as chunks are, they are the text. `tokens`: those of the text, where wanted. If
    they do not make up the text, because it was repaired, every segment has their mean and no ids.
    `alignment`: measured times, used where they are of this text and make sense.
    """
    heard = spans or (SpeechSpan(start, end, 0.0),)
    timed = TimedText((), ())
    if alignment is not None and alignment.text == text:
        timed = timed_words(alignment, language, start=start, end=end)
    pieces = timed.pieces or pieces_of(text, language)
    words = timed.words or estimated_words(text, language, heard)
    runs = list(_runs(words))
    shares = _shares(text, [pieces[last - 1].end for _, last in runs], tokens)
    return tuple(
        Segment(
            start=words[first].start,
            end=words[last - 1].end,
            text=_text(text, pieces[first:last]),
            words=words[first:last],
            channel=channel,
            token_ids=share.ids,
            avg_logprob=share.avg_logprob,
            no_speech=1 - _probability(heard, words[first].start, words[last - 1].end),
        )
        for (first, last), share in zip(runs, shares, strict=True)
    )


def _runs(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """[first, last) words of each segment."""
    first = 0
    ends = list(_sentence_ends(words))
    for last, following in zip(ends, [*ends[1:], None], strict=False):
        if (
            following is None
            or words[last].start - words[last - 1].end >= SEGMENT_PAUSE_SAMPLES
            or words[following - 1].end - words[first].start > LONG_SEGMENT_SAMPLES
        ):
            yield first, last
            first = last


def _sentence_ends(words: Sequence[Word]) -> Iterator[int]:
    """How many words stand before each end of a sentence or pause; the last: all."""
    for count, (word, following) in enumerate(pairwise(words), start=1):
        is_pause = following.start - word.end >= SEGMENT_PAUSE_SAMPLES
        if is_pause or scripts.ends_sentence(word.text):
            yield count
    if words:
        yield len(words)


def _text(text: str, pieces: Sequence[Piece]) -> str:
    return text[pieces[0].start : pieces[-1].end]


@dataclass(frozen=True, slots=True)
class _Share:
    """A segment's tokens."""

    ids: tuple[int, ...]
    avg_logprob: Nats | None


def _shares(text: str, ends: Sequence[int], tokens: Sequence[TextToken]) -> list[_Share]:
    """One for each segment; `ends` are where they end in the text."""
    content = b"".join(token.content for token in tokens).decode(errors="replace")
    if content.strip() != text.strip():
        return [_Share((), _mean(tokens))] * len(ends)
    offset = _leading_space_bytes(content) - _leading_space_bytes(text)
    byte_ends = [offset + len(text[:end].encode()) for end in ends]
    shares: list[list[TextToken]] = [[] for _ in ends]
    position, number = 0, 0
    for token in tokens:
        position += len(token.content)
        # By its last byte, as a space belongs to the word behind it.
        while number < len(ends) - 1 and position > byte_ends[number]:
            number += 1
        if shares:
            shares[number].append(token)
    return [_Share(tuple(token.id for token in share), _mean(share)) for share in shares]


def _leading_space_bytes(text: str) -> int:
    return len(text.encode()) - len(text.lstrip().encode())


def _mean(tokens: Sequence[TextToken]) -> Nats | None:
    if not tokens:
        return None
    return Nats(min(0.0, sum(token.logprob for token in tokens) / len(tokens)))


def _probability(spans: Sequence[SpeechSpan], start: int, end: int) -> float:
    """Mean probability of speech over the parts of spans in [start, end); 0 outside of all."""
    parts = [
        (min(span.end, end) - max(span.start, start), span.probability)
        for span in spans
        if span.start < end and span.end > start
    ]
    if not parts:  # a measured word where voice activity detection heard nothing
        return 0.0
    mean = sum(length * each for length, each in parts) / sum(length for length, _ in parts)
    return min(1.0, max(0.0, mean))
