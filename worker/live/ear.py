"""One channel of a live session: its samples, whether somebody speaks, where utterances end.

Positions are samples at 16 kHz from the session's first frame.
"""

from collections.abc import Iterator
from typing import Final

from protocol.live import EndReason, LiveOptions
from worker.audio.endpointing import CUT_SEARCH_SAMPLES, Endpointer
from worker.audio.endpoints import (
    EndpointEvent,
    EndpointRules,
    Paused,
    Resumed,
    SpeechEnded,
    SpeechStarted,
)
from worker.audio.live_vad import JudgedSteps, LiveVoiceActivity
from worker.audio.speech_spans import SpanFinder, spans_within
from worker.audio.vad import STEP_SAMPLES
from worker.live.news import (
    News,
    Samples,
    SessionKey,
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtteranceGrew,
    UtterancePaused,
    UtteranceResumed,
)
from worker.live.samples import RecentSamples
from worker.segments import SpeechSpan

LEAST_PADDING_MS: Final = 500
"""Before the first speech of an utterance, whatever the client wants: with 0.3 s the embedded model
makes 1.9 % errors in 300 strings of a speaker it does not know, with 0.5 s 1.3 %."""

_UNSURE: Final = 0.5
_CUT_REACH: Final = CUT_SEARCH_SAMPLES + STEP_SAMPLES


def rules_of(options: LiveOptions, max_seconds: float) -> EndpointRules:
    """The rules for utterances of at most so many seconds; wishes out of range are bounded."""
    turns = options.turn_detection
    if turns is None:
        return EndpointRules(is_manual=True, max_utterance_seconds=max_seconds)
    return EndpointRules(
        threshold=min(max(turns.threshold, 0.0), 1.0),
        prefix_padding_ms=min(max(turns.prefix_padding_ms, LEAST_PADDING_MS), 10_000),
        silence_duration_ms=min(turns.silence_duration_ms, 60_000),
        max_utterance_seconds=max_seconds,
    )


class Ear:
    """See the module. What it hears it tells as news, in order."""

    def __init__(
        self,
        session: SessionKey,
        channel: int,
        options: LiveOptions,
        numbers: Iterator[int],
        *,
        start: int,
        taken_until: int,
        max_seconds: float,
    ) -> None:
        """Hears from `start` on; what lies before `taken_until` is in no utterance. `numbers` are
        for the utterances of the session, over all its channels."""
        self.activity = LiveVoiceActivity()
        self._session = session
        self._channel = channel
        self._options = options
        self._numbers = numbers
        self._max_seconds = max_seconds
        rules = rules_of(options, max_seconds)
        self._endpointer = Endpointer(
            rules, position=start, taken_until=max(taken_until, start if rules.is_manual else 0)
        )
        self._finder = SpanFinder(STEP_SAMPLES)
        self._first = start
        self._recent = RecentSamples(start)
        self._open: int | None = None
        """Number of the utterance that was begun."""
        self._told_to = start
        """To where its samples were told."""
        self._arrived = 0.0

    def __repr__(self) -> str:
        return f"<Ear for channel {self._channel}, {self._endpointer!r}>"

    @property
    def received(self) -> int:
        """Where the next sample will lie."""
        return self._recent.end

    @property
    def needed_from(self) -> int:
        """No utterance still to begin needs anything before."""
        return self._endpointer.needed_from

    @property
    def next_idle(self) -> float | None:
        """See Endpointer.next_idle."""
        return self._endpointer.next_idle

    # --- what comes -------------------------------------------------------------------------

    def take(self, samples: Samples, arrived: float) -> None:
        """Keep samples; `judged` is to follow, for what of them completes steps."""
        self._recent.append(samples)
        self._arrived = arrived

    def judged(self, steps: JudgedSteps) -> Iterator[News]:
        """What the samples taken last mean."""
        # Step by step: what an event tells and forgets must not depend on what came along with it.
        for probability, level in zip(steps.probabilities, steps.levels, strict=True):
            self._finder.push((probability,))
            for event in self._endpointer.push((probability,), (level,)):
                yield from self._news_of(event)
        yield from self._grown()
        self._forget()

    def idle(self, seconds: float) -> Iterator[News]:
        """No packet has come for so long."""
        for event in self._endpointer.idle(seconds):
            yield from self._news_of(event)

    def commit(self) -> Iterator[News]:
        """The client ends an utterance here, whatever it holds."""
        ended = self._endpointer.commit(self.received)
        if ended is None:
            start = self.received
            ended = SpeechEnded(start, start, heard_until=start, is_forced=False, has_speech=False)
        yield from self._complete(ended, EndReason.COMMIT)

    def close(self) -> Iterator[News]:
        """Nothing more comes."""
        is_open = self._endpointer.open_from is not None
        ended = self._endpointer.commit(self.received) if is_open else None
        if ended is not None:
            yield from self._complete(ended, EndReason.CLOSE)

    def clear(self) -> Iterator[News]:
        """Nothing that was received and has not ended is wanted."""
        self._endpointer.clear(self.received)
        if self._open is not None:
            yield UtteranceDropped(self._session, self._open)
            self._open = None
        self._forget()

    def configure(self, options: LiveOptions) -> None:
        """From the next utterance on; endpoints follow the new rules at once."""
        self._options = options
        self._endpointer.reconfigure(rules_of(options, self._max_seconds))

    # --- what is told -----------------------------------------------------------------------

    def _news_of(self, event: EndpointEvent) -> Iterator[News]:
        if isinstance(event, SpeechStarted):
            yield self._begun(event.start)
        elif isinstance(event, SpeechEnded):
            reason = EndReason.FORCED if event.is_forced else EndReason.SILENCE
            yield from self._complete(event, reason)
        elif self._open is not None:
            yield from self._grown()
            if isinstance(event, Paused):
                yield UtterancePaused(self._session, self._open, event.end)
            elif isinstance(event, Resumed):
                yield UtteranceResumed(self._session, self._open)

    def _begun(self, start: int, *, is_announced: bool = True) -> UtteranceBegan:
        self._open = next(self._numbers)
        self._told_to = start
        is_announced = is_announced and self._options.turn_detection is not None
        return UtteranceBegan(
            self._session, self._open, self._channel, start, self._options, is_announced
        )

    def _grown(self, until: int | None = None) -> Iterator[News]:
        """Samples are told once they are judged, so that no pause lies before what was told."""
        until = self._endpointer.position if until is None else until
        if self._open is None or self._told_to >= until:
            return
        samples = self._recent.between(self._told_to, until)
        self._told_to = until
        yield UtteranceGrew(self._session, self._open, samples, self._arrived)

    def _complete(self, ended: SpeechEnded, reason: EndReason) -> Iterator[News]:
        if self._open is None:
            yield self._begun(ended.start, is_announced=False)
        assert self._open is not None
        yield from self._grown(max(ended.end, self._endpointer.position))
        number, self._open = self._open, None
        spans = self._spans(ended) if ended.has_speech else ()
        yield UtteranceComplete(self._session, number, ended.end, ended.heard_until, reason, spans)
        self._forget()

    def _spans(self, ended: SpeechEnded) -> tuple[SpeechSpan, ...]:
        found = [
            SpeechSpan(span.start + self._first, span.end + self._first, span.probability)
            for span in self._finder.spans()
        ]
        spans = spans_within(found, ended.start, ended.end)
        return spans or (SpeechSpan(ended.start, ended.end, _UNSURE),)

    def _forget(self) -> None:
        needed = self._endpointer.needed_from
        self._finder.forget(needed - self._first)
        if self._open is not None:  # what was told is needed only where a forced cut falls
            needed = max(needed, min(self._told_to, self.received - _CUT_REACH))
        self._recent.forget(needed)
