"""An engine's end of one live session that hears letters: pure, and the same for every packeting.

Streams are µ-law bytes taken as letters: a step of STEP equal frames is a letter, or 0 for silence.
The text of an utterance is its letters, each run once.
"""

from dataclasses import dataclass, field
from itertools import groupby

from protocol.failures import FailureCode
from protocol.live import (
    AudioPacket,
    Clear,
    CloseSession,
    Commit,
    Configure,
    Encoding,
    EndReason,
    Hypothesis,
    Listened,
    LiveEvent,
    LiveOptions,
    OpenSession,
    SessionClosed,
    SpeechStarted,
    StreamFormat,
    TurnDetection,
    UtteranceDone,
    UtteranceEnded,
    UtteranceFailed,
)

STEP = 100
"""Frames; 12.5 ms at 8 kHz."""
SILENCE_STEPS = 10
LONGEST_STEPS = 100


def stream_format(channels: int = 1) -> StreamFormat:
    """Whose frames are as many bytes as channels."""
    return StreamFormat(Encoding.MULAW, 8000, channels)


def options(*, is_manual: bool = False) -> LiveOptions:
    """Of a session that wants partials."""
    detection = None if is_manual else TurnDetection(0.5, 0, 125)
    return LiveOptions(None, (), "", (), detection, wants_partials=True, wants_logprobs=False)


def spoken(*letters: int, steps: int = 1) -> bytes:
    """So many steps of these letters, one for each channel."""
    return bytes(letters) * (STEP * steps)


@dataclass(eq=False)
class _Heard:
    """An utterance that is open, or ended and not answered."""

    number: int
    channel: int
    start: int
    end: int = 0
    quiet: int = 0
    """Steps of silence at its end."""
    reason: EndReason | None = None


@dataclass(eq=False)
class LetterEngine:
    """One attempt's. `told` has what it says; `answer` gives outstanding texts."""

    opening: OpenSession
    told: list[LiveEvent] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    """Everything from opening.start on."""

    def __post_init__(self) -> None:
        self._heard = self.opening.start
        self._is_manual = self.opening.options.turn_detection is None
        self._channels = self.opening.format.channels
        self._ended_at = [self._heard] * self._channels
        self._open: dict[int, _Heard] = {}
        self._unanswered: list[_Heard] = []
        self._count = 0
        self._is_closing = False
        self._told_acknowledged = self._heard

    def receive(self, message: object) -> None:
        """A message of the gateway."""
        if isinstance(message, AudioPacket):
            frames = len(self.received) // self._channels
            assert message.start == self.opening.start + frames, "a hole in the audio"
            assert not len(message.content) % self._channels, "half a frame"
            self.received += message.content
            self._listen()
        elif isinstance(message, Commit):
            for channel in range(self._channels):
                self._end(channel, EndReason.COMMIT)
        elif isinstance(message, Clear):
            self._open.clear()
            self._ended_at = [self._heard] * self._channels
        elif isinstance(message, Configure):
            self._is_manual = message.options.turn_detection is None
        elif isinstance(message, CloseSession):
            self._is_closing = True
            for channel in range(self._channels):
                if channel in self._open or self._is_manual:
                    self._end(channel, EndReason.CLOSE)
            self._close_if_done()

    def answer(self, *, fails: bool = False) -> bool:
        """The next outstanding text; False where there is none."""
        if not self._unanswered:
            return False
        first = self._unanswered.pop(0)
        if fails:
            code = FailureCode.INFERENCE_FAILED
            self._tell(UtteranceFailed, first.number, first.channel, code, "Try again.")
        else:
            text = self._text(first.channel, first.start, first.end)
            end = first.end - first.quiet * STEP
            self._tell(
                UtteranceDone,
                *(first.number, first.channel, first.start, max(end, first.start + 1)),
                *("English" if text else None, text, (), (), 10, 5, 2, False, 0.1),
            )
        self._close_if_done()
        return True

    def guess(self) -> None:
        """Texts of what is open."""
        for each in self._open.values():
            text = self._text(each.channel, each.start, self._heard)
            language = "English" if text else None
            self._tell(
                *(Hypothesis, each.number, each.channel, language),
                *(text[:-1], text[-1:], self._heard, 0.2),
            )

    def _listen(self) -> None:
        frames = len(self.received) // self._channels + self.opening.start
        while self._heard + STEP <= frames:
            for channel in range(self._channels):
                self._step(channel, self._letter(channel, self._heard))
            self._heard += STEP
            for channel, each in tuple(self._open.items()):
                if each.quiet >= SILENCE_STEPS and not self._is_manual:
                    self._end(channel, EndReason.SILENCE)
                elif self._heard - each.start >= LONGEST_STEPS * STEP:
                    self._end(channel, EndReason.FORCED)
        self._tell(Listened)

    def _step(self, channel: int, letter: int) -> None:
        if channel not in self._open and (letter or self._is_manual):
            start = self._ended_at[channel] if self._is_manual else self._heard
            opened = self._open[channel] = self._new(channel, start)
            if not self._is_manual:
                self._tell(SpeechStarted, opened.number, channel, opened.start)
        if (each := self._open.get(channel)) is not None:
            each.quiet = 0 if letter else each.quiet + 1

    def _end(self, channel: int, reason: EndReason) -> None:
        each = self._open.pop(channel, None) or self._new(channel, self._ended_at[channel])
        each.end, each.reason = max(self._heard, each.start + 1), reason
        self._ended_at[channel] = self._heard
        self._unanswered.append(each)
        self._tell(UtteranceEnded, each.number, channel, each.start, each.end, reason)

    def _new(self, channel: int, start: int) -> _Heard:
        self._count += 1
        return _Heard(self._count - 1, channel, start)

    def _text(self, channel: int, start: int, end: int) -> str:
        first, end = -(-start // STEP) * STEP, end // STEP * STEP
        letters = [self._letter(channel, frame) for frame in range(first, end, STEP)]
        return "".join(chr(0x100 + letter) for letter, _ in groupby(letters) if letter)

    def _letter(self, channel: int, frame: int) -> int:
        return self.received[(frame - self.opening.start) * self._channels + channel]

    def _acknowledged(self) -> int:
        needed = [each.start for each in (*self._open.values(), *self._unanswered)]
        if self._is_manual:
            needed += self._ended_at
        return max(self.opening.start, min([self._heard, *needed]) - STEP)

    def _tell(self, kind: type, *rest: object) -> None:
        ids = (self.opening.session_id, self.opening.attempt)
        # One event late, as where an engine dies just before it says so.
        acknowledged, self._told_acknowledged = self._told_acknowledged, self._acknowledged()
        self.told.append(kind(*ids, acknowledged, self._heard, *rest))

    def _close_if_done(self) -> None:
        if self._is_closing and not self._unanswered:
            session = self.opening
            self.told.append(SessionClosed(session.session_id, session.attempt, self._heard))
