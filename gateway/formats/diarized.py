"""diarized_json: who said what, where every speaker has a channel of the recording. Pure."""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import channels_not_apart
from gateway.formats.json_pieces import JsonList, json_object
from gateway.formats.openai_json import language_objects, seconds, usage_by_duration
from gateway.formats.transcripts import TranscriptBuilder, joint, timed_segments
from protocol.limits import SAMPLE_RATE
from protocol.transcription import ChunkDone, Segment

ANNOUNCEMENT_SAMPLES: Final = 90 * SAMPLE_RATE
"""A recording that has told no channels apart by then is no conversation."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One segment of a conversation."""

    segment: Segment
    number: int
    """Counted from 1."""
    speaker: str
    delta: str
    """What it adds to the text of the conversation."""

    @property
    def id(self) -> str:
        """OpenAI's name for it."""
        return f"seg_{self.number:03}"

    def json(self) -> dict[str, object]:
        """OpenAI's segment, in answers and as an event."""
        return {
            "type": "transcript.text.segment",
            "id": self.id,
            "start": seconds(self.segment.start),
            "end": seconds(self.segment.end),
            "text": self.segment.text.strip(),
            "speaker": self.speaker,
        }


class Conversation:
    """Channels become speakers A, B, … by first appearance; each change begins a line.

    What both channels hold, as an announcement before the call, is one more speaker's.
    """

    def __init__(self) -> None:
        self._speakers: dict[int | None, str] = {}
        self._held: list[Segment] = []
        """Of nobody, until a channel shows that this is a conversation."""
        self._is_apart = False
        self._speaking: str | None = None
        self._last = ""
        self._count = 0
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """One line a turn of the conversation: `A: What was said.`"""
        return "".join(self._pieces)

    def add(self, chunk: ChunkDone) -> list[Turn]:
        """The turns of one more chunk, and of those that waited for it.

        Raises BadRequest where channels were not told apart for so long.
        """
        self._held += [segment for segment in timed_segments(chunk) if segment.text.strip()]
        self._is_apart |= any(segment.channel is not None for segment in self._held)
        if self._is_apart:
            held, self._held = self._held, []
            return [self._turn(segment) for segment in held]
        if chunk.end >= ANNOUNCEMENT_SAMPLES:
            self.finish()
        return []

    def finish(self) -> None:
        """No chunk follows. Raises BadRequest where somebody spoke and no channel by itself."""
        if self._held:
            raise channels_not_apart()

    def _turn(self, segment: Segment) -> Turn:
        speaker = self._speakers.setdefault(
            segment.channel, string.ascii_uppercase[len(self._speakers)]
        )
        text = segment.text.strip()
        if speaker == self._speaking:
            delta = joint(self._last, text[0]) + text
        else:
            delta = ("\n" if self._pieces else "") + f"{speaker}: {text}"
        self._speaking, self._last = speaker, text[-1]
        self._count += 1
        self._pieces.append(delta)
        return Turn(segment, self._count, speaker, delta)


class DiarizedJson:
    """A diarized_json answer in the making."""

    media_type = "application/json"
    takes_long = False

    def __init__(self) -> None:
        self._conversation = Conversation()
        self._builder = TranscriptBuilder()
        self._segments = JsonList()

    def add(self, chunk: ChunkDone) -> None:
        """Write one more chunk. Raises BadRequest, see Conversation."""
        self._builder.add(chunk)
        for turn in self._conversation.add(chunk):
            self._segments.add(turn.json())

    def finish(self, audio_seconds: float) -> Iterator[bytes]:
        """The whole answer. Raises BadRequest, see Conversation."""
        self._conversation.finish()
        return json_object(
            {
                "task": "transcribe",
                "duration": round(audio_seconds, 3),
                "text": self._conversation.text,
                "languages": language_objects(self._builder.transcript().languages),
                "segments": self._segments,
                "usage": usage_by_duration(audio_seconds),
            }
        )
