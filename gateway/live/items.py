"""One item of a session: what was told of it, and what was heard of it so far. Pure."""

from dataclasses import dataclass, field

from gateway.formats.transcripts import joint
from gateway.live.events import TextChanged, TurnCompleted, TurnFailed, Usage
from protocol.failures import FailureCode
from protocol.live import Hypothesis, StreamFormat, UtteranceDone, UtteranceFailed


@dataclass(eq=False)
class Item:
    """A turn under the id the client knows. A turn that the client commits may be of several
    utterances, others are of one."""

    item_id: str
    channel: int
    is_manual: bool
    """The client alone says where it ends."""
    start: int | None = None
    """Frame; None while nothing of it was heard."""
    end: int | None = None
    """Frame where its end was decided."""
    is_started: bool = False
    """Told."""
    is_stopped: bool = False
    is_committed: bool = False
    has_commit_behind: bool = False
    """The client committed when it had begun: no clear takes it back."""
    is_done: bool = False
    stable: str = ""
    """All deltas told."""
    is_contradicted: bool = False
    """What was told is wrong: no more is, until the end."""
    parts: list[UtteranceDone] = field(default_factory=list)
    failure: UtteranceFailed | None = None
    open_utterances: int = 0
    """Of this attempt, without an answer."""
    is_known: bool = False
    """Whether this attempt's engine has an utterance of it."""
    is_ended: bool = False
    """Whether the engine says that nothing more comes."""

    @property
    def text(self) -> str:
        """Of the utterances answered."""
        text = ""
        for part in self.parts:
            text = joined(text, part.text)
        return text

    @property
    def is_complete(self) -> bool:
        """Whether all of it is answered."""
        return self.is_ended and not self.open_utterances and not self.is_done

    @property
    def is_worth_telling(self) -> bool:
        """Whether anything was heard, or said of it to the client."""
        return bool(self.is_committed or self.is_started or self.stable or self.text)

    def begin_attempt(self) -> None:
        """Another engine hears again what is not answered."""
        self.open_utterances = 0
        self.is_known = self.is_ended = False

    def grow(self, hypothesis: Hypothesis) -> TextChanged | None:
        """A newer text; None where the client learns nothing from it."""
        if self.is_contradicted or self.is_done:
            return None
        before = self.text
        stable = joined(before, hypothesis.stable)
        whole = joined(before, hypothesis.stable + hypothesis.tail)
        delta = ""
        if stable.startswith(self.stable):
            delta = stable[len(self.stable) :]
        elif not self.stable.startswith(stable):  # else an engine that has yet to catch up
            self.is_contradicted = True
            return None
        self.stable += delta
        tail = whole[len(self.stable) :] if whole.startswith(self.stable) else ""
        return TextChanged(
            self.item_id,
            self.channel,
            hypothesis.language,
            delta,
            self.stable,
            tail,
            round(hypothesis.lag_seconds * 1000),
        )

    def outcome(self, format: StreamFormat) -> TurnCompleted | TurnFailed:
        """The last word on it. Where no engine heard it again, what was told of it stands."""
        self.is_done = True
        if self.failure is not None:
            return self.failed(self.failure.code, self.failure.message)
        transcript = self.text if self.parts else self.stable
        is_continued = transcript.startswith(self.stable) and not self.is_contradicted
        if not transcript.startswith(self.stable):
            self.is_contradicted = True
        last = self.parts[-1] if self.parts else None
        start = min([part.start for part in self.parts], default=self.start or 0)
        end = max([part.end for part in self.parts], default=self.end or start + 1)
        return TurnCompleted(
            item_id=self.item_id,
            channel=self.channel,
            transcript=transcript,
            delta=transcript[len(self.stable) :] if is_continued else "",
            language=self._language(),
            start_ms=milliseconds(start, format),
            end_ms=max(milliseconds(end, format), milliseconds(start, format) + 1),
            segments=tuple(segment for part in self.parts for segment in part.segments),
            tokens=tuple(token for part in self.parts for token in part.tokens),
            usage=self._usage(format),
            lag_ms=round(last.lag_seconds * 1000) if last else 0,
        )

    def failed(self, code: FailureCode, message: str) -> TurnFailed:
        """The last word on one that will have no text."""
        self.is_done = True
        return TurnFailed(self.item_id, self.channel, str(code), message)

    def _language(self) -> str | None:
        frames: dict[str, int] = {}
        for part in self.parts:
            if part.language is not None and part.text:
                frames[part.language] = frames.get(part.language, 0) + part.end - part.start
        return max(frames, key=lambda name: frames[name]) if frames else None

    def _usage(self, format: StreamFormat) -> Usage:
        return Usage(
            prompt_tokens=sum(part.prompt_tokens for part in self.parts),
            audio_tokens=sum(part.audio_tokens for part in self.parts),
            output_tokens=sum(part.output_tokens for part in self.parts),
            audio_ms=sum(milliseconds(part.end - part.start, format) for part in self.parts),
        )


def milliseconds(frames: int, format: StreamFormat) -> int:
    """Frames of a stream as whole milliseconds."""
    return frames * 1000 // format.sample_rate


def joined(left: str, right: str) -> str:
    """Two texts of one speaker, with the space that belongs between them."""
    return left + joint(left[-1], right[0]) + right if left and right else left or right
