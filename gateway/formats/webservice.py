"""What whisper-asr-webservice answers besides subtitles: lines of text, a table, JSON. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.formats.documents import PLAIN_TEXT, Document
from gateway.formats.json_pieces import JsonList, cut, json_object
from gateway.formats.openai_json import seconds, word_object
from gateway.formats.transcripts import TranscriptBuilder, joint, timed_segments
from gateway.formats.verbose import verbose_segment
from protocol.languages import NAMES, code_of
from protocol.transcription import ChunkDone, Segment

TABLE_HEAD = "start\tend\ttext\n"
SAMPLES_PER_MS = 16


class Lines:
    """txt: a line for each segment. tsv: with its times in milliseconds before it."""

    media_type = PLAIN_TEXT
    takes_long = False

    def __init__(self, *, with_times: bool) -> None:
        self._with_times = with_times
        self._content = bytearray(TABLE_HEAD.encode() if with_times else b"")

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        for segment in timed_segments(chunk):
            text = " ".join(segment.text.split())
            times = f"{_ms(segment.start)}\t{_ms(segment.end)}\t" if self._with_times else ""
            self._content += f"{times}{text}\n".encode()

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        return cut(self._content)


class WhisperJson:
    """json: text, segments and the language's code, as whisper's own result has them."""

    media_type = PLAIN_TEXT
    takes_long = False

    def __init__(self, asked_language: str | None, *, with_words: bool) -> None:
        self._asked_language = asked_language
        self._with_words = with_words
        self._builder = TranscriptBuilder()
        self._segments = JsonList()
        self._count = 0
        self._last = ""

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        self._builder.add(chunk)
        for segment in timed_segments(chunk):
            self._segments.add(self._object(segment))
            self._count += 1

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer."""
        transcript = self._builder.transcript()
        language = transcript.language or self._asked_language or ""
        return json_object(
            {
                "text": transcript.text,
                "segments": self._segments,
                "language": code_of(language) if language in NAMES else language,
            }
        )

    def _object(self, segment: Segment) -> dict[str, object]:
        text = segment.text.strip()
        spaced = joint(self._last, text[:1] or " ") + text
        self._last = text[-1:] or self._last
        fields = verbose_segment(self._count, segment, spaced, 0.0)
        words = [word_object(word) for word in segment.words]
        return {**fields, "words": words} if self._with_words else fields


class TranslatedSegments:
    """Any of the above in another language, see gateway.formats.translated.Translated."""

    takes_long = False

    def __init__(self, document: Document, language: str) -> None:
        self.media_type = document.media_type
        self._document = document
        self._language = language
        self._languages: set[str] = set()
        self._chunks: list[ChunkDone] = []

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        if chunk.language:
            self._languages.add(chunk.language)
        self._chunks.append(replace(chunk, segments=tuple(timed_segments(chunk))))

    def lines(self, audio_seconds: float) -> Sequence[str]:
        """See Translated."""
        if self._languages == {self._language}:
            return ()
        return [segment.text for chunk in self._chunks for segment in chunk.segments]

    def translate(self, lines: Sequence[str]) -> None:
        """See Translated."""
        left = iter(lines)
        self._chunks = [self._translated(chunk, left) for chunk in self._chunks]

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """See Translated."""
        for chunk in self._chunks:
            self._document.add(chunk)
        return self._document.finish(audio_seconds)

    def _translated(self, chunk: ChunkDone, lines: Iterator[str]) -> ChunkDone:
        segments = tuple(
            replace(segment, text=next(lines), words=(), token_ids=()) for segment in chunk.segments
        )
        text = ""
        for line in filter(None, (segment.text.strip() for segment in segments)):
            text += joint(text[-1:], line[0]) + line
        language = self._language if chunk.language else None
        return replace(chunk, text=text, language=language, segments=segments, tokens=())


class Detection:
    """Which language a recording is in, from its first chunks."""

    def __init__(self, enough_seconds: float) -> None:
        self._enough_seconds = enough_seconds
        self._spoken: dict[str, int] = {}
        """Samples of speech in each language."""

    def __repr__(self) -> str:
        return f"<Detection {self._spoken}>"

    @property
    def is_settled(self) -> bool:
        """Whether enough speech was heard."""
        return seconds(sum(self._spoken.values())) >= self._enough_seconds

    def add(self, chunk: ChunkDone) -> None:
        """Take the next chunk."""
        if chunk.language in NAMES:
            heard = sum(segment.end - segment.start for segment in timed_segments(chunk))
            self._spoken[chunk.language] = self._spoken.get(chunk.language, 0) + heard

    def json(self) -> dict[str, object]:
        """Empty where no language was heard. `confidence`: the share of the speech heard in it."""
        if not sum(self._spoken.values()):
            return {}
        language = max(self._spoken, key=lambda name: self._spoken[name])
        return {
            "detected_language": language.lower(),
            "language_code": code_of(language),
            "confidence": round(self._spoken[language] / sum(self._spoken.values()), 3),
        }


def _ms(samples: int) -> int:
    return round(samples / SAMPLES_PER_MS)
