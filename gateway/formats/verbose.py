"""verbose_json: segments with all ten fields that clients check, and words where asked for."""

import zlib
from collections.abc import Iterator

from gateway.formats.json_pieces import JsonList, json_object
from gateway.formats.openai_json import (
    language_objects,
    seconds,
    usage_by_duration,
    word_object,
)
from gateway.formats.transcripts import TranscriptBuilder, joint, timed_segments
from protocol.transcription import ChunkDone, Segment


class TimedLists:
    """The segments and words of a recording as JSON; those not asked for are not kept."""

    def __init__(self, temperature: float, *, with_segments: bool, with_words: bool) -> None:
        self._temperature = temperature
        self._segments = JsonList() if with_segments else None
        self._words = JsonList() if with_words else None
        self._count = 0
        self._last = ""

    def add(self, chunk: ChunkDone) -> None:
        """Write those of one more chunk."""
        for segment in timed_segments(chunk):
            if self._segments is not None:
                self._segments.add(self._segment(segment))
            for word in segment.words if self._words is not None else ():
                assert self._words is not None
                self._words.add(word_object(word))

    def fields(self) -> dict[str, object]:
        """What an answer has of them."""
        lists = {"segments": self._segments, "words": self._words}
        return {name: items for name, items in lists.items() if items is not None}

    def _segment(self, segment: Segment) -> dict[str, object]:
        text = segment.text.strip()
        spaced = joint(self._last, text[:1] or " ") + text
        self._last = text[-1:] or self._last
        self._count += 1
        return verbose_segment(self._count - 1, segment, spaced, self._temperature)


def verbose_segment(
    number: int, segment: Segment, text: str, temperature: float
) -> dict[str, object]:
    """All ten fields, none of them null. A segment whose probability is not known has 0.0."""
    return {
        "id": number,
        "seek": 0,
        "start": seconds(segment.start),
        "end": seconds(segment.end),
        "text": text,
        "tokens": list(segment.token_ids),
        "temperature": temperature,
        "avg_logprob": float(segment.avg_logprob or 0.0),
        "compression_ratio": compression_ratio(text),
        "no_speech_prob": segment.no_speech,
    }


def compression_ratio(text: str) -> float:
    """Bytes of a text by its bytes under zlib: text that repeats itself has a high one."""
    content = text.encode("utf-8")
    return len(content) / len(zlib.compress(content))


class VerboseJson:
    """A verbose_json answer in the making."""

    media_type = "application/json"
    takes_long = False

    def __init__(self, asked_language: str | None, lists: TimedLists) -> None:
        self._asked_language = asked_language
        self._lists = lists
        self._builder = TranscriptBuilder()

    def add(self, chunk: ChunkDone) -> None:
        """Write one more chunk."""
        self._builder.add(chunk)
        self._lists.add(chunk)

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        transcript = self._builder.transcript()
        return json_object(
            {
                "task": "transcribe",
                "language": (transcript.language or self._asked_language or "").lower(),
                "languages": language_objects(transcript.languages),
                "duration": round(audio_seconds, 3),
                "text": transcript.text,
                **self._lists.fields(),
                "usage": usage_by_duration(audio_seconds),
            }
        )
