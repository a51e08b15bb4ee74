"""Many sessions heard together: order, fairness, holding back, silence that nobody sends."""

from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from protocol.live import (
    AudioPacket,
    Clear,
    CloseSession,
    Commit,
    Configure,
    Encoding,
    EndReason,
    OpenSession,
    StreamFormat,
)
from tests.worker.live.hearing import (
    KEY,
    PADDING,
    SILENCE_STEPS,
    SILENT,
    SPEAKING,
    LoudnessDetector,
    detecting,
    sounding,
)
from tests.worker.live.road import PCM16, Samples, options, pcm16
from worker.audio.vad import STEP_SAMPLES as STEP
from worker.live.listener import (
    IDLE_GRACE,
    MOST_UNANSWERED,
    Answered,
    ForgetAll,
    Listener,
)
from worker.live.news import (
    AllHeard,
    News,
    Position,
    Rejected,
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtteranceGrew,
    UtterancePaused,
)

DEADLINE = 20.0
STEREO = StreamFormat(Encoding.PCM16, 16_000, 2)
SPOKEN = [(SPEAKING, 20), (SILENT, 40)]
"""A whole utterance, 1.9 s."""


class Hall:
    """A listener whose rounds the test turns by hand."""

    def __init__(self, max_seconds: float = 30.0) -> None:
        self.now = 100.0
        self.detector = LoudnessDetector()
        self.made = 0
        self.rounds: list[list[News]] = []
        self.listener = Listener(
            self._new_detector,
            deliver=self._deliver,
            max_seconds=max_seconds,
            clock=lambda: self.now,
        )

    def _new_detector(self) -> LoudnessDetector:
        self.made += 1
        return self.detector

    def _deliver(self, news: Any) -> None:
        self.rounds.append(news)

    def open(
        self, name: str = "call", form: StreamFormat = PCM16, *, attempt: int = 1, **fields: Any
    ) -> None:
        self.listener.take(OpenSession(name, attempt, form, options(**fields), 0))

    def send(self, samples: Samples, name: str = "call", packet: int = 320) -> None:
        """Only sent, in packets of so many samples."""
        for first in range(0, len(samples), packet):
            part = samples[first : first + packet]
            self.listener.take(AudioPacket(name, first, pcm16(part)))

    def settle(self) -> None:
        """Rounds until nothing is left that may be heard."""
        while True:
            self.listener.turn()
            if not self.listener._has_work:
                return

    def say(self, samples: Samples, name: str = "call") -> None:
        self.send(samples, name)
        self.settle()

    @property
    def news(self) -> list[News]:
        return [news for told in self.rounds for news in told]

    def of(self, *kinds: type[Any], name: str | None = None) -> list[Any]:
        return [
            news
            for news in self.news
            if isinstance(news, kinds) and (name is None or news.session[0] == name)
        ]


def test_a_stream_is_heard_to_where_it_came() -> None:
    hall = Hall()
    hall.open()

    hall.say(sounding((SILENT, 31), *SPOKEN))

    assert [type(news) for news in hall.news if not isinstance(news, UtteranceGrew | Position)] == [
        UtteranceBegan,
        UtterancePaused,
        UtteranceComplete,
    ]
    last = hall.of(Position)[-1]
    assert last.heard == 91 * STEP
    assert last.needed_from <= last.heard


def test_the_detector_is_made_for_the_first_session_and_once() -> None:
    hall = Hall()
    assert hall.made == 0

    hall.open("one")
    hall.open("two")

    assert hall.made == 1


def test_channels_are_heard_apart_and_number_their_utterances_together() -> None:
    hall = Hall()
    hall.open(form=STEREO)
    left = sounding((SPEAKING, 20), (SILENT, 80))
    right = sounding((SILENT, 50), (SPEAKING, 20), (SILENT, 30))

    both = np.stack([left, right], axis=1).reshape(-1)
    hall.send(both, packet=640)
    hall.settle()

    begun = [(news.number, news.channel) for news in hall.of(UtteranceBegan)]
    assert begun == [(0, 0), (1, 1)]
    assert [news.number for news in hall.of(UtteranceComplete)] == [0, 1]
    assert [news.start for news in hall.of(UtteranceBegan)] == [0, 50 * STEP - PADDING]


def test_all_sessions_are_judged_in_one_call_a_round() -> None:
    hall = Hall()
    for name in ("one", "two", "three"):
        hall.open(name)
        hall.send(sounding((SPEAKING, 5)), name)

    hall.listener.turn()

    assert hall.detector.calls == [3]


def test_who_floods_does_not_hold_up_the_others() -> None:
    hall = Hall()
    hall.open("flood")
    hall.open("call")
    hall.send(sounding((SILENT, 31 * 30)), "flood")
    hall.send(sounding((SPEAKING, 5)), "call")

    hall.listener.turn()

    (flood,) = hall.of(Position, name="flood")
    assert flood.heard <= 17_000  # a second and a packet
    (call,) = hall.of(Position, name="call")
    assert call.heard == 5 * STEP


def test_a_command_counts_where_it_stands_in_the_audio() -> None:
    hall = Hall()
    hall.open(turn_detection=None)
    hall.send(sounding((SPEAKING, 20)))
    hall.listener.take(Commit("call"))
    hall.send(sounding((SPEAKING, 10)))
    hall.listener.take(Commit("call"))

    hall.settle()

    assert [news.end for news in hall.of(UtteranceComplete)] == [20 * STEP, 30 * STEP]


def test_a_commit_of_two_channels_is_answered_on_both() -> None:
    hall = Hall()
    hall.open(form=STEREO)
    hall.send(sounding((SILENT, 20)), packet=640)
    hall.listener.take(Commit("call"))

    hall.settle()

    begun = {news.number: news.channel for news in hall.of(UtteranceBegan)}
    assert sorted(begun[news.number] for news in hall.of(UtteranceComplete)) == [0, 1]
    assert {news.reason for news in hall.of(UtteranceComplete)} == {EndReason.COMMIT}


def test_clearing_drops_what_is_open_and_configuring_changes_what_follows() -> None:
    hall = Hall()
    hall.open()
    hall.say(sounding((SILENT, 31), (SPEAKING, 20)))
    hall.listener.take(Clear("call"))
    hall.listener.take(Configure("call", detecting(silence_duration_ms=1000)))

    hall.say(sounding((SILENT, 31), *SPOKEN))

    assert [news.number for news in hall.of(UtteranceDropped)] == [0]
    begun = hall.of(UtteranceBegan)
    assert begun[1].options == detecting(silence_duration_ms=1000)
    (complete,) = hall.of(UtteranceComplete)
    assert complete.decided - complete.end > 12_000


def test_closing_tells_what_the_resampler_held_back_and_ends_what_is_open() -> None:
    form = StreamFormat(Encoding.PCM16, 8_000, 1)
    hall = Hall()
    hall.open(form=form)
    hall.send(sounding((SPEAKING, 20))[::2])
    hall.settle()
    heard = hall.of(Position)[-1].heard

    hall.listener.take(CloseSession("call"))
    hall.settle()

    (complete,) = hall.of(UtteranceComplete)
    assert complete.reason is EndReason.CLOSE
    assert complete.end == 20 * STEP > heard
    assert isinstance(hall.of(AllHeard, UtteranceComplete)[-1], AllHeard)


def test_packets_behind_the_close_and_of_unknown_sessions_are_nobodys() -> None:
    hall = Hall()
    hall.open()
    hall.listener.take(CloseSession("call"))
    hall.settle()
    count = len(hall.news)

    hall.say(sounding((SPEAKING, 20)))
    hall.say(sounding((SPEAKING, 20)), "stranger")

    assert len(hall.news) == count


# --- silence that nobody sends ------------------------------------------------------------------


def test_packets_that_stay_away_end_an_utterance_after_the_grace() -> None:
    hall = Hall()
    hall.open()
    hall.say(sounding((SILENT, 31), (SPEAKING, 20)))

    hall.now += 51 * STEP / 16_000 + IDLE_GRACE + 0.49
    hall.listener.turn()
    assert hall.of(UtteranceComplete) == []
    hall.now += 0.02
    hall.listener.turn()

    (complete,) = hall.of(UtteranceComplete)
    assert complete.reason is EndReason.SILENCE
    assert complete.end == 51 * STEP


def test_the_listener_wakes_when_absence_begins_to_mean_something() -> None:
    hall = Hall()
    hall.open()
    assert hall.listener._until_idle() is None
    hall.say(sounding((SILENT, 31), (SPEAKING, 20)))

    until_pause = hall.listener._until_idle()
    assert until_pause is not None
    hall.now += until_pause
    hall.listener.turn()
    assert len(hall.of(UtterancePaused)) == 1
    until_end = hall.listener._until_idle()
    assert until_end is not None
    hall.now += until_end + 0.001
    hall.listener.turn()

    assert len(hall.of(UtteranceComplete)) == 1
    assert hall.listener._until_idle() is None


def test_late_packets_are_no_silence() -> None:
    hall = Hall()
    hall.open()
    hall.say(sounding((SILENT, 31), (SPEAKING, 20)))

    hall.now += 51 * STEP / 16_000
    for _ in range(10):
        hall.now += IDLE_GRACE + 0.1
        hall.listener.turn()
        hall.say(sounding((SPEAKING, 3)))

    assert hall.of(UtteranceComplete, UtterancePaused) == []


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_who_sends_long_packets_is_not_cut_between_them(seconds: float) -> None:
    hall = Hall()
    hall.open()
    size = round(16_000 * seconds)
    for _ in range(4):
        hall.send(np.full(size, SPEAKING, np.float32), packet=size)
        hall.settle()
        hall.now += seconds
        hall.listener.turn()

    assert hall.of(UtteranceComplete, UtterancePaused) == []
    hall.now += IDLE_GRACE + 0.6
    hall.listener.turn()
    assert len(hall.of(UtteranceComplete)) == 1


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_packets_that_come_in_bursts_are_not_cut_between_them(seconds: float) -> None:
    hall = Hall()
    hall.open()
    for _ in range(4):
        hall.send(np.full(round(16_000 * seconds), SPEAKING, np.float32))
        hall.settle()
        hall.now += seconds
        hall.listener.turn()

    assert hall.of(UtteranceComplete, UtterancePaused) == []
    hall.now += IDLE_GRACE + 0.6
    hall.listener.turn()
    assert len(hall.of(UtteranceComplete)) == 1


def test_a_replay_of_long_packets_is_not_waited_for_long() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SPEAKING, 31 * 8)), packet=31 * 8 * STEP)
    hall.settle()

    hall.now += 3.0
    hall.listener.turn()

    assert len(hall.of(UtteranceComplete)) == 1


def test_a_process_that_stood_still_takes_that_for_nobodys_silence() -> None:
    delivered: SimpleQueue[Any] = SimpleQueue()
    now = 100.0

    def stand_still_behind(news: Any) -> None:
        nonlocal now
        if any(isinstance(each, UtteranceBegan) for each in news):
            now += 10.0
        delivered.put(news)

    listener = Listener(
        LoudnessDetector, deliver=stand_still_behind, max_seconds=30.0, clock=lambda: now
    )
    listener.put(OpenSession("call", 1, PCM16, options(), 0))
    listener.put(AudioPacket("call", 0, pcm16(sounding((SPEAKING, 20)))))
    listener.start()
    delivered.get(timeout=DEADLINE)
    listener.end()

    told = []
    while not delivered.empty():
        told += delivered.get()
    assert not any(isinstance(news, UtteranceComplete | UtterancePaused) for news in told)


# --- floods -------------------------------------------------------------------------------------


def test_a_session_is_heard_on_once_its_utterances_are_answered() -> None:
    hall = Hall()
    hall.open()
    hall.say(sounding((SILENT, 31), *(SPOKEN * 8)))
    held_at = hall.of(Position)[-1].heard

    assert len(hall.of(UtteranceComplete)) == MOST_UNANSWERED
    hall.settle()
    assert hall.of(Position)[-1].heard == held_at

    for answered in range(4):
        hall.listener.take(Answered(KEY))
        hall.settle()
        assert len(hall.of(UtteranceComplete)) == MOST_UNANSWERED + answered + 1


def test_what_holds_a_session_back_does_not_hold_back_others() -> None:
    hall = Hall()
    hall.open()
    hall.say(sounding((SILENT, 31), *(SPOKEN * 8)))
    hall.open("other")

    hall.say(sounding((SILENT, 31), *SPOKEN), "other")

    assert len(hall.of(UtteranceComplete, name="other")) == 1


def test_commands_wait_behind_what_may_not_be_heard_yet() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SILENT, 31), *(SPOKEN * 6)))
    hall.listener.take(CloseSession("call"))
    hall.settle()
    assert hall.of(AllHeard) == []

    for _ in range(6):
        hall.listener.take(Answered(KEY))
        hall.settle()

    assert len(hall.of(UtteranceComplete)) == 6
    assert len(hall.of(AllHeard)) == 1


def test_a_flood_keeps_no_more_than_it_sent() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SPEAKING, 31 * 25)))
    (session,) = hall.listener._sessions.values()

    hall.settle()

    assert not session.waiting
    (ear,) = session.ears
    assert ear._recent.end - ear._recent.start < 8 * 16_000


def test_audio_that_waits_counts_from_when_it_came() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SPEAKING, 40)), packet=40 * STEP)  # more than a round
    hall.now += 5.0
    hall.send(sounding((SPEAKING, 40)), packet=40 * STEP)

    hall.settle()

    arrivals = [(len(news.samples), news.arrived) for news in hall.of(UtteranceGrew)]
    assert arrivals == [(40 * STEP, 100.0), (40 * STEP, 105.0)]


# --- openings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        StreamFormat(Encoding.PCM16, 4_000, 1),
        StreamFormat(Encoding.PCM16, 96_000, 1),
        StreamFormat(Encoding.PCM16, 0, 1),
        StreamFormat(Encoding.MULAW, 8_000, 3),
        StreamFormat(Encoding.MULAW, 8_000, 0),
    ],
)
def test_a_format_that_cannot_be_heard_is_rejected_with_the_reason(form: StreamFormat) -> None:
    hall = Hall()

    hall.open(form=form)

    (rejected,) = hall.of(Rejected)
    assert rejected.session == KEY
    assert rejected.message.startswith("The audio cannot be heard: ")
    assert "sample_rate must be" in rejected.message or "channels must be" in rejected.message
    assert hall.made == 0


def test_a_session_opened_again_begins_anew() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SPEAKING, 20)))

    hall.open(attempt=2)
    hall.say(sounding((SILENT, 31), *SPOKEN))

    assert {news.session for news in hall.news} == {("call", 2)}
    assert [news.number for news in hall.of(UtteranceBegan)] == [0]


def test_answers_of_an_earlier_attempt_do_not_count() -> None:
    hall = Hall()
    hall.open()
    hall.open(attempt=2)
    hall.say(sounding((SILENT, 31), *(SPOKEN * 6)))

    hall.listener.take(Answered(("call", 1)))
    hall.settle()

    assert len(hall.of(UtteranceComplete)) == MOST_UNANSWERED


def test_sessions_that_are_void_are_heard_no_more() -> None:
    hall = Hall()
    hall.open()
    hall.send(sounding((SPEAKING, 20)))

    hall.listener.take(ForgetAll())
    hall.settle()
    hall.say(sounding((SPEAKING, 20)))

    assert hall.news == []


def test_utterances_end_at_the_same_step_whatever_the_packets() -> None:
    ends = []
    for packet in (160, 320, 5_000, 32_000):
        hall = Hall()
        hall.open()
        hall.send(sounding((SILENT, 31), *(SPOKEN * 3)), packet=packet)
        hall.settle()
        ends.append([(news.end, news.decided) for news in hall.of(UtteranceComplete)])

    assert ends[0] == ends[1] == ends[2] == ends[3]
    assert ends[0][0][1] == (51 + SILENCE_STEPS) * STEP
