"""What the gateway is told of a session: order, positions, ends. The engine answers by hand."""

from typing import Any

import numpy as np
import pytest

from protocol.failures import FailureCode
from protocol.live import (
    Encoding,
    EndReason,
    Hypothesis,
    Listened,
    LiveEvent,
    OpenSession,
    SessionClosed,
    SessionFailed,
    SpeechStarted,
    StreamFormat,
    UtteranceDone,
    UtteranceEnded,
    UtteranceFailed,
)
from tests.worker.live.road import PCM16, options
from worker.engine.interface import ChunkFailure, ChunkKey, ChunkRequest, ChunkText
from worker.live.news import (
    AllHeard,
    Position,
    Rejected,
    SessionKey,
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtteranceGrew,
    UtterancePaused,
)
from worker.live.sessions import LISTENED_INTERVAL, LISTENED_SAMPLES, LiveSessions
from worker.segments import SpeechSpan

KEY = ("call", 1)
SECOND = 16_000
MARGIN = 800
"""Frames of 16 kHz that are kept before what is acknowledged."""
FAILURE = ChunkFailure("inference_failed", "This part could not be transcribed.")


class HandEngine:
    """Keeps what it is given until the test answers it."""

    def __init__(self, name: str = "native") -> None:
        self.name = name
        self.steps: dict[ChunkKey, ChunkRequest] = {}
        self.ended: list[str] = []

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        assert key not in self.steps
        self.steps[key] = chunk

    def cancel(self, key: ChunkKey) -> None:
        self.steps.pop(key, None)

    def end_utterance(self, utterance: str) -> None:
        self.ended.append(utterance)


class Desk:
    """Sessions, told of what is heard and answered by hand."""

    def __init__(self, engine: str = "native") -> None:
        self.now = 100.0
        self.engine = HandEngine(engine)
        self.events: list[LiveEvent] = []
        self.answered: list[SessionKey] = []
        self.sessions = LiveSessions(
            self.engine,
            send=self.events.append,
            answered=self.answered.append,
            clock=lambda: self.now,
        )

    def open(
        self, form: StreamFormat = PCM16, *, attempt: int = 1, start: int = 0, **fields: Any
    ) -> None:
        self.sessions.open(OpenSession("call", attempt, form, options(**fields), start))

    def begin(self, number: int, start: int, *, channel: int = 0, attempt: int = 1) -> None:
        key = ("call", attempt)
        began = UtteranceBegan(key, number, channel, start, options(), is_announced=True)
        self.sessions.heard(began)

    def grow(self, number: int, samples: int) -> None:
        self.sessions.heard(UtteranceGrew(KEY, number, np.zeros(samples, np.float32), self.now))

    def complete(self, number: int, end: int, *, has_speech: bool = True) -> None:
        spans = (SpeechSpan(end - 8_000, end, 0.9),) if has_speech else ()
        self.sessions.heard(
            UtteranceComplete(KEY, number, end, end + 8_000, EndReason.SILENCE, spans)
        )

    def hear_to(self, heard: int, needed_from: int) -> None:
        self.sessions.heard(Position(KEY, heard, needed_from))

    def answer(self, text: str | ChunkFailure, key: ChunkKey | None = None) -> None:
        key = key or next(iter(self.engine.steps))
        del self.engine.steps[key]
        answer = ChunkText("English", text, 20, 13, 3) if isinstance(text, str) else text
        self.sessions.take_answer(key, answer)

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


def spoken(desk: Desk, number: int, start: int, end: int, **fields: Any) -> None:
    desk.begin(number, start, **fields)
    desk.grow(number, end - start)
    desk.complete(number, end)


def test_an_utterance_is_told_from_its_start_to_its_text() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, SECOND)
    desk.grow(0, SECOND)
    desk.answer("one")
    desk.sessions.heard(UtterancePaused(KEY, 0, 2 * SECOND))
    desk.grow(0, 100)
    desk.complete(0, 2 * SECOND + 100)
    desk.answer("one two")

    started, hypothesis, ended, done = desk.events
    assert isinstance(started, SpeechStarted)
    assert started.start == SECOND
    assert isinstance(hypothesis, Hypothesis)
    assert (hypothesis.tail, hypothesis.covers) == ("one", 2 * SECOND)
    assert isinstance(ended, UtteranceEnded)
    assert (ended.start, ended.end, ended.reason) == (
        SECOND,
        2 * SECOND + 8_100,
        EndReason.SILENCE,
    )
    assert isinstance(done, UtteranceDone)
    assert (done.start, done.end, done.text) == (SECOND, 2 * SECOND + 100, "one two")
    assert not done.contradicts_stable
    assert desk.answered == [KEY]


def test_a_final_that_denies_what_was_told_says_so() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    for text in ("one two three", "one two three four"):
        desk.grow(0, SECOND)
        desk.answer(text)
    desk.grow(0, 100)
    desk.complete(0, 2 * SECOND + 100)
    desk.answer("won two three")

    assert desk.of(Hypothesis)[-1].stable == "one two"
    (done,) = desk.of(UtteranceDone)
    assert done.contradicts_stable
    assert done.text == "won two three"


def test_nothing_of_an_unanswered_utterance_is_acknowledged() -> None:
    desk = Desk()
    desk.open()
    spoken(desk, 0, 2 * SECOND, 4 * SECOND)
    desk.now += 1
    desk.hear_to(20 * SECOND, needed_from=18 * SECOND)

    assert desk.events[-1].acknowledged == 2 * SECOND - MARGIN  # type: ignore[union-attr]
    desk.answer("one")

    assert desk.events[-1].acknowledged == 18 * SECOND - MARGIN  # type: ignore[union-attr]


def test_the_earliest_unanswered_utterance_counts_whoever_is_answered_first() -> None:
    desk = Desk()
    desk.open(StreamFormat(Encoding.PCM16, 16_000, 2))
    spoken(desk, 0, SECOND, 2 * SECOND, channel=0)
    spoken(desk, 1, 3 * SECOND, 4 * SECOND, channel=1)
    first, second = desk.engine.steps
    desk.hear_to(6 * SECOND, needed_from=5 * SECOND)

    desk.answer("two", second)
    assert desk.of(UtteranceDone)[-1].acknowledged == SECOND - MARGIN
    desk.answer("one", first)

    assert desk.of(UtteranceDone)[-1].acknowledged == 5 * SECOND - MARGIN
    assert [done.channel for done in desk.of(UtteranceDone)] == [1, 0]


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_positions_are_frames_of_the_stream(rate: int) -> None:
    desk = Desk()
    desk.open(StreamFormat(Encoding.PCM16, rate, 1))
    spoken(desk, 0, 2 * SECOND, 4 * SECOND)
    desk.answer("one")
    desk.now += 1
    desk.hear_to(10 * SECOND, needed_from=8 * SECOND)

    (done,) = desk.of(UtteranceDone)
    assert (done.start, done.end) == (2 * rate, 4 * rate)
    (listened,) = desk.of(Listened)
    assert listened.heard == 10 * rate
    assert 8 * rate - rate // 10 < listened.acknowledged < 8 * rate


def test_what_was_heard_is_told_now_and_then() -> None:
    desk = Desk()
    desk.open()
    desk.hear_to(100, 0)

    for packet in range(100):
        desk.now += 0.02
        desk.hear_to(100 + 320 * packet, 0)

    assert 2.0 / LISTENED_INTERVAL - 1 <= len(desk.of(Listened)) <= 2.0 / LISTENED_INTERVAL + 1


def test_a_flood_is_told_so_often_that_the_window_stays_open() -> None:
    desk = Desk()
    desk.open()

    for second in range(1, 121):  # in no time
        desk.hear_to(second * SECOND, 0)

    told = [0, *(event.heard for event in desk.of(Listened))]
    assert max(np.diff([*told, 120 * SECOND])) <= LISTENED_SAMPLES
    assert told == sorted(told)


def test_an_utterance_without_speech_is_answered_at_once() -> None:
    desk = Desk()
    desk.open()
    desk.sessions.heard(UtteranceBegan(KEY, 0, 0, SECOND, options(), is_announced=False))
    desk.complete(0, SECOND, has_speech=False)

    assert [type(event) for event in desk.events] == [UtteranceEnded, UtteranceDone]
    (done,) = desk.of(UtteranceDone)
    assert (done.text, done.language, done.end) == ("", None, SECOND + 1)
    assert not desk.engine.steps


def test_a_dropped_utterance_is_withdrawn_and_not_told_of() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    desk.grow(0, SECOND)

    desk.sessions.heard(UtteranceDropped(KEY, 0))

    assert not desk.engine.steps
    assert desk.engine.ended == ["call/1/0"]
    assert desk.of(UtteranceEnded, UtteranceDone) == []


def test_an_utterance_that_fails_twice_is_failed_and_the_session_goes_on() -> None:
    desk = Desk()
    desk.open()
    spoken(desk, 0, 0, SECOND)
    # Where the partial is as good as the final it was asked for first.
    while desk.engine.steps:
        desk.answer(FAILURE)
    spoken(desk, 1, 2 * SECOND, 3 * SECOND)
    desk.answer("one")

    (failed,) = desk.of(UtteranceFailed)
    assert failed.code is FailureCode.INFERENCE_FAILED
    assert failed.utterance == 0
    assert [done.utterance for done in desk.of(UtteranceDone)] == [1]
    assert desk.answered == [KEY, KEY]


@pytest.mark.parametrize("first_answers", [("one",), (FAILURE, FAILURE)])
def test_utterances_of_a_channel_are_answered_in_order(
    first_answers: tuple[str | ChunkFailure, ...],
) -> None:
    """Else what an engine's death leaves unanswered could lie before what is answered."""
    desk = Desk()
    desk.open()
    spoken(desk, 0, 0, SECOND)
    spoken(desk, 1, 2 * SECOND, 3 * SECOND)
    spoken(desk, 2, 4 * SECOND, 5 * SECOND, channel=1)
    _, second, other = desk.engine.steps

    desk.answer("two", second)
    assert desk.of(UtteranceDone) == []
    desk.answer("three", other)
    assert [done.utterance for done in desk.of(UtteranceDone)] == [2]
    for answer in first_answers:
        desk.answer(answer)

    assert [event.utterance for event in desk.of(UtteranceDone, UtteranceFailed)] == [2, 0, 1]
    assert len(desk.answered) == 3


def test_a_session_closes_once_everything_in_it_is_answered() -> None:
    desk = Desk()
    desk.open()
    spoken(desk, 0, 0, SECOND)
    spoken(desk, 1, 2 * SECOND, 3 * SECOND)
    desk.hear_to(4 * SECOND, 4 * SECOND)
    desk.sessions.heard(AllHeard(KEY))
    assert desk.of(SessionClosed) == []

    desk.answer("one")
    assert desk.of(SessionClosed) == []
    desk.answer("two")

    assert desk.events[-1] == SessionClosed("call", 1, 4 * SECOND)
    assert desk.engine.ended == ["call/1/0", "call/1/1"]


def test_a_session_without_utterances_closes_at_once() -> None:
    desk = Desk()
    desk.open()

    desk.sessions.heard(AllHeard(KEY))

    assert desk.events == [SessionClosed("call", 1, 0)]


@pytest.mark.parametrize("rate", [0, 4_000])
def test_a_format_that_cannot_be_heard_fails_the_session(rate: int) -> None:
    desk = Desk()
    desk.open(StreamFormat(Encoding.PCM16, rate, 1), start=3)

    desk.sessions.heard(Rejected(KEY, "The audio cannot be heard: too slow."))

    message = "The audio cannot be heard: too slow."
    assert desk.events == [SessionFailed("call", 1, FailureCode.AUDIO_LIMITS, message)]


def test_an_engine_that_ends_gives_every_session_back() -> None:
    desk = Desk()
    desk.open()
    spoken(desk, 0, 0, SECOND)

    desk.sessions.give_back_all()

    (failed,) = desk.of(SessionFailed)
    assert failed.code is FailureCode.SHUTTING_DOWN
    assert not desk.engine.steps


def test_what_is_void_is_forgotten_without_a_word() -> None:
    desk = Desk()
    desk.open()
    spoken(desk, 0, 0, SECOND)
    count = len(desk.events)

    desk.sessions.forget_all()
    desk.begin(1, 2 * SECOND)
    desk.hear_to(9 * SECOND, 0)

    assert len(desk.events) == count
    assert not desk.engine.steps


def test_news_of_an_earlier_attempt_is_not_told() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    desk.grow(0, SECOND)

    desk.open(attempt=2, start=100)
    assert not desk.engine.steps
    desk.begin(1, 0)
    desk.begin(0, SECOND, attempt=2)

    assert [(event.attempt, event.utterance) for event in desk.of(SpeechStarted)] == [
        (1, 0),
        (2, 0),
    ]
    assert desk.events[-1].acknowledged == 100  # type: ignore[union-attr]


def test_the_final_is_asked_for_in_place_of_the_partial_that_runs() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    desk.grow(0, SECOND)
    desk.grow(0, 100)
    desk.complete(0, SECOND + 100)

    (request,) = desk.engine.steps.values()
    assert len(request.samples) == SECOND + 100


def test_what_is_cut_further_back_begins_anew_in_the_engine() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    desk.grow(0, 20 * SECOND)
    desk.complete(0, 16 * SECOND)

    assert desk.engine.ended == ["call/1/0"]
    (request,) = desk.engine.steps.values()
    assert len(request.samples) == 16 * SECOND


def test_lag_counts_from_arrival_for_partials_and_from_the_end_for_finals() -> None:
    desk = Desk()
    desk.open()
    desk.begin(0, 0)
    desk.grow(0, SECOND)
    desk.now += 0.25
    desk.answer("one")
    desk.grow(0, 100)
    desk.complete(0, SECOND + 100)
    desk.now += 0.5
    desk.answer("one two")

    assert desk.of(Hypothesis)[0].lag_seconds == pytest.approx(0.25)
    assert desk.of(UtteranceDone)[0].lag_seconds == pytest.approx(0.5)


def test_an_engine_that_cannot_verify_gets_no_drafts() -> None:
    desk = Desk("official-transformers")
    desk.open()
    desk.begin(0, 0)
    for text in ("one", "one two", "one two three"):
        desk.grow(0, SECOND)
        (request,) = desk.engine.steps.values()
        assert request.draft == ()
        assert request.most_new_tokens == options().max_new_tokens
        desk.answer(text)


def test_somebody_speaks_while_an_utterance_is_open_or_unanswered() -> None:
    desk = Desk()
    desk.open()
    assert not desk.sessions.is_speech_open

    spoken(desk, 0, 0, SECOND)
    assert desk.sessions.is_speech_open
    desk.answer("one")

    assert not desk.sessions.is_speech_open
