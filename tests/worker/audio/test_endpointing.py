"""When an utterance starts, pauses and ends: rules on judged steps, without sound or clock."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.audio.endpointing import (
    MIN_PADDING_SAMPLES,
    TRAILING_SAMPLES,
    WARM_UP_SAMPLES,
    Endpointer,
)
from worker.audio.endpoints import (
    EndpointEvent,
    EndpointRules,
    Paused,
    Resumed,
    SpeechEnded,
    SpeechStarted,
)
from worker.audio.vad import STEP_SAMPLES as STEP

RULES = EndpointRules()
SPEAKING, DOUBTFUL, SILENT = 0.9, 0.4, 0.1


class Listener:
    """An endpointer and what it said."""

    def __init__(self, rules: EndpointRules = RULES, endpointer: Endpointer | None = None) -> None:
        self.endpointer = endpointer or Endpointer(rules)
        self.events: list[EndpointEvent] = []

    def hear(self, probability: float, steps: int, level: float = -30.0) -> list[EndpointEvent]:
        found = self.endpointer.push([probability] * steps, [level] * steps)
        self.events += found
        return found

    @property
    def ended(self) -> list[SpeechEnded]:
        return [event for event in self.events if isinstance(event, SpeechEnded)]

    @property
    def started(self) -> list[int]:
        return [event.start for event in self.events if isinstance(event, SpeechStarted)]


def speaking(rules: EndpointRules = RULES, steps: int = 20) -> Listener:
    """Somebody who has spoken for so many steps, after a second (31 steps) of silence."""
    listener = Listener(rules)
    listener.hear(SILENT, 31)
    listener.hear(SPEAKING, steps)
    return listener


def test_an_utterance_starts_before_its_speech_and_ends_behind_it() -> None:
    listener = speaking(steps=20)
    listener.hear(SILENT, 40)

    spoken_from, spoken_to = 31 * STEP, 51 * STEP
    assert listener.events == [
        SpeechStarted(spoken_from - 4_800),
        Paused(spoken_to + TRAILING_SAMPLES),
        SpeechEnded(
            spoken_from - 4_800,
            spoken_to + TRAILING_SAMPLES,
            heard_until=spoken_to + 16 * STEP,  # 500 ms, to the next step
            is_forced=False,
            has_speech=True,
        ),
    ]


def test_speech_is_announced_once_it_is_long_enough() -> None:
    listener = Listener()

    assert listener.hear(SPEAKING, 3) == []
    assert listener.hear(SPEAKING, 1) == [SpeechStarted(0)]


def test_a_click_starts_nothing() -> None:
    listener = speaking(steps=3)
    listener.hear(SILENT, 40)

    assert listener.events == []


def test_doubtful_speech_has_to_last_longer() -> None:
    listener = Listener()

    assert listener.hear(0.55, 6) == []
    assert listener.hear(0.55, 1) == [SpeechStarted(0)]


def test_syllables_with_a_short_gap_add_up() -> None:
    listener = speaking(steps=3)
    listener.hear(SILENT, 2)
    listener.hear(SPEAKING, 1)

    assert listener.started == [31 * STEP - 4_800]


def test_speech_below_the_threshold_goes_on_but_does_not_begin() -> None:
    doubtful = Listener()
    doubtful.hear(DOUBTFUL, 100)
    begun = speaking()
    begun.hear(DOUBTFUL, 100)

    assert doubtful.events == []
    assert begun.ended == []


def test_doubt_within_a_pause_does_not_end_it_nor_take_it_back() -> None:
    listener = speaking()
    listener.hear(SILENT, 10)

    assert listener.hear(DOUBTFUL, 20) == []
    (ended,) = listener.hear(SILENT, 1)
    assert ended == SpeechEnded(
        31 * STEP - 4_800, 51 * STEP + TRAILING_SAMPLES, 82 * STEP, False, True
    )


def test_speech_in_a_pause_takes_it_back() -> None:
    listener = speaking()

    assert listener.hear(SILENT, 8) == [Paused(51 * STEP + TRAILING_SAMPLES)]
    assert listener.hear(SPEAKING, 1) == [Resumed()]
    assert listener.hear(SILENT, 7) == [Paused(60 * STEP + TRAILING_SAMPLES)]


def test_a_pause_that_nobody_heard_of_is_not_taken_back() -> None:
    listener = speaking()

    assert listener.hear(SILENT, 6) == []
    assert listener.hear(SPEAKING, 1) == []


def test_an_utterance_begins_neither_before_the_stream_nor_in_the_one_before() -> None:
    rules = EndpointRules(prefix_padding_ms=600, silence_duration_ms=200)
    listener = Listener(rules)
    listener.hear(SPEAKING, 10)
    listener.hear(SILENT, 7)
    listener.hear(SPEAKING, 10)

    assert listener.started == [0, listener.ended[0].end]


def test_short_padding_and_silence_are_kept_long_enough_to_be_understood() -> None:
    listener = speaking(EndpointRules(prefix_padding_ms=0, silence_duration_ms=25))
    listener.hear(SILENT, 1)

    assert listener.started == [31 * STEP - MIN_PADDING_SAMPLES]
    assert [(event.end, event.heard_until) for event in listener.ended] == [(52 * STEP, 52 * STEP)]


def test_speech_that_does_not_pause_is_cut_where_it_is_quietest() -> None:
    listener = Listener(EndpointRules(max_utterance_seconds=10))
    listener.hear(SPEAKING, 250)
    listener.hear(SPEAKING, 2, level=-45)
    listener.hear(SPEAKING, 100)

    cut = 251 * STEP
    assert listener.events == [
        SpeechStarted(0),
        SpeechEnded(0, cut, heard_until=cut, is_forced=True, has_speech=True),
        SpeechStarted(cut),
    ]


def test_a_cut_prefers_the_last_of_equal_places_and_is_not_caught_by_a_lost_packet() -> None:
    listener = Listener(EndpointRules(max_utterance_seconds=10))
    listener.hear(SPEAKING, 240)
    listener.hear(SPEAKING, 2, level=-70)
    listener.hear(SPEAKING, 20)
    listener.hear(SPEAKING, 2, level=-100)
    listener.hear(SPEAKING, 10)
    listener.hear(SPEAKING, 2, level=-71)
    listener.hear(SPEAKING, 100)

    assert [event.end for event in listener.ended] == [275 * STEP]


def test_who_is_silent_when_an_utterance_gets_too_long_starts_no_other_one() -> None:
    listener = Listener(EndpointRules(max_utterance_seconds=10, silence_duration_ms=2_000))
    listener.hear(SPEAKING, 290)
    listener.hear(SILENT, 100)

    end = 290 * STEP + TRAILING_SAMPLES
    assert listener.events == [
        SpeechStarted(0),
        Paused(end),
        SpeechEnded(0, end, heard_until=end, is_forced=True, has_speech=True),
    ]


def test_a_cut_in_a_short_pause_waits_for_speech_to_begin_again() -> None:
    listener = Listener(EndpointRules(max_utterance_seconds=10))
    listener.hear(SPEAKING, 308)
    listener.hear(SILENT, 4, level=-60)
    assert [event.is_forced for event in listener.ended] == [True]
    assert listener.endpointer.open_from is None

    listener.hear(SPEAKING, 10)

    assert listener.started == [0, listener.ended[0].end]


def test_a_shorter_maximum_cuts_an_open_utterance_as_often_as_needed() -> None:
    listener = Listener()
    listener.hear(SPEAKING, 800)
    listener.endpointer.reconfigure(EndpointRules(max_utterance_seconds=5))
    listener.hear(SPEAKING, 1)

    assert len(listener.ended) >= 5
    assert all(event.end - event.start <= 80_000 for event in listener.ended)
    assert listener.started[1:] == [event.end for event in listener.ended]


def test_packets_that_stop_coming_end_an_utterance_like_silence() -> None:
    listener = speaking()
    endpointer = listener.endpointer
    spoken_to = 51 * STEP

    assert endpointer.next_idle == pytest.approx(0.224)
    assert endpointer.idle(0.1) == []
    assert endpointer.idle(0.224) == [Paused(spoken_to)]
    assert endpointer.idle(0.3) == []
    assert endpointer.next_idle == pytest.approx(0.5)
    assert endpointer.idle(0.5) == [
        SpeechEnded(31 * STEP - 4_800, spoken_to, spoken_to, is_forced=False, has_speech=True)
    ]
    assert endpointer.idle(5.0) == []
    assert endpointer.next_idle is None


def test_silence_that_was_heard_counts_before_packets_stop() -> None:
    listener = speaking()
    listener.hear(SILENT, 10)

    assert listener.endpointer.next_idle == pytest.approx(0.18)
    (ended,) = listener.endpointer.idle(0.18)
    assert ended == SpeechEnded(
        31 * STEP - 4_800, 51 * STEP + TRAILING_SAMPLES, 61 * STEP, False, True
    )


def test_packets_that_come_again_go_on_where_the_last_one_ended() -> None:
    listener = speaking()
    listener.events += listener.endpointer.idle(0.6)
    listener.hear(SPEAKING, 10)

    assert listener.started == [31 * STEP - 4_800, 51 * STEP]


def test_packets_that_were_only_late_take_a_pause_back() -> None:
    listener = speaking()

    assert listener.endpointer.idle(0.3) == [Paused(51 * STEP)]
    assert listener.hear(SILENT, 1) == [Resumed()]
    assert listener.hear(SILENT, 6) == [Paused(51 * STEP + TRAILING_SAMPLES)]


def test_a_click_before_a_hole_does_not_add_to_what_comes_after() -> None:
    listener = speaking(steps=3)
    listener.endpointer.idle(1.0)

    assert listener.hear(SPEAKING, 3) == []


def test_a_commit_closes_what_is_open_up_to_the_last_sample_received() -> None:
    listener = speaking()
    endpointer = listener.endpointer
    received = endpointer.position + 300

    assert endpointer.commit(received) == SpeechEnded(
        31 * STEP - 4_800, received, received, is_forced=False, has_speech=True
    )
    assert endpointer.open_from is None
    assert endpointer.commit(received) is None

    listener.hear(SPEAKING, 10)
    assert listener.started[-1] == received


def test_a_commit_takes_what_was_kept_although_nobody_spoke() -> None:
    listener = Listener()
    listener.hear(SILENT, 100)

    ended = listener.endpointer.commit(100 * STEP)

    assert ended is not None
    assert not ended.has_speech
    assert listener.endpointer.needed_from <= ended.start <= 100 * STEP - 4_800


def test_a_commit_takes_a_word_too_short_to_be_announced() -> None:
    listener = speaking(steps=3)

    ended = listener.endpointer.commit(listener.endpointer.position)

    assert ended is not None
    assert ended.has_speech
    assert ended.start == 31 * STEP - 4_800


def test_what_is_cleared_is_in_no_utterance() -> None:
    listener = speaking()
    listener.endpointer.clear(51 * STEP + 100)
    listener.hear(SILENT, 40)
    assert listener.ended == []

    listener.hear(SPEAKING, 10)
    assert listener.started[-1] == 91 * STEP - 4_800


def test_by_hand_all_since_the_last_commit_is_one_utterance() -> None:
    listener = Listener(EndpointRules(is_manual=True))
    listener.hear(SILENT, 100)
    listener.hear(SPEAKING, 10)
    listener.hear(SILENT, 200)
    assert listener.events == [SpeechStarted(0)]
    assert listener.endpointer.needed_from == 0
    assert listener.endpointer.idle(60.0) == []

    end = 310 * STEP
    assert listener.endpointer.commit(end) == SpeechEnded(0, end, end, False, True)
    listener.hear(SILENT, 10)
    assert listener.endpointer.commit(320 * STEP) == SpeechEnded(
        end, 320 * STEP, 320 * STEP, False, has_speech=False
    )


def test_by_hand_too_an_utterance_is_cut_when_it_gets_too_long() -> None:
    listener = Listener(EndpointRules(is_manual=True, max_utterance_seconds=10))
    listener.hear(SILENT, 400)
    listener.hear(SPEAKING, 600)

    first, *others = listener.ended
    assert (first.start, first.has_speech, first.is_forced) == (0, False, True)
    assert all(event.is_forced and event.has_speech for event in others[1:])
    edges = [(event.start, event.end) for event in listener.ended]
    assert all(end == start for (_, end), (start, _) in pairwise(edges))


def test_a_stream_turned_to_commits_keeps_what_is_open() -> None:
    listener = speaking()
    listener.endpointer.reconfigure(EndpointRules(is_manual=True))
    listener.hear(SILENT, 100)

    assert listener.ended == []
    ended = listener.endpointer.commit(151 * STEP)
    assert ended is not None
    assert ended.start == 31 * STEP - 4_800


def test_a_stream_turned_to_commits_in_silence_begins_with_what_is_kept() -> None:
    listener = Listener()
    listener.hear(SILENT, 1_000)
    needed = listener.endpointer.needed_from
    listener.endpointer.reconfigure(EndpointRules(is_manual=True))

    ended = listener.endpointer.commit(1_000 * STEP)
    assert ended is not None
    assert ended.start >= needed


def test_a_lost_endpointers_utterance_goes_on_in_the_next() -> None:
    old = speaking()
    assert old.endpointer.needed_from == old.endpointer.open_from == 31 * STEP - 4_800
    start = old.endpointer.needed_from
    new = Listener(endpointer=Endpointer(RULES, position=start, open_from=start))
    new.hear(SILENT, 9)
    new.hear(SPEAKING, 20)
    new.hear(SILENT, 30)

    assert new.started == []
    assert [event.start for event in new.ended] == [start]


def test_what_a_replay_repeats_of_an_earlier_utterance_is_not_heard_again() -> None:
    old = speaking()
    old.hear(SILENT, 20)
    end = old.ended[0].end
    position = end - WARM_UP_SAMPLES
    new = Listener(endpointer=Endpointer(RULES, position=position, taken_until=end))
    new.hear(SPEAKING, 32)
    new.hear(SILENT, 20)
    assert new.events == []

    new.hear(SPEAKING, 5)
    assert new.started == [position + 52 * STEP - 4_800]


def test_an_open_utterance_needs_its_sound_again() -> None:
    with pytest.raises(ValueError, match="given again"):
        Endpointer(RULES, position=10_000, open_from=9_000)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("threshold", {"threshold": 1.5}),
        ("prefix_padding_ms", {"prefix_padding_ms": -1}),
        ("silence_duration_ms", {"silence_duration_ms": 100_000}),
        ("min_speech_ms", {"min_speech_ms": -5}),
        ("max_utterance_seconds", {"max_utterance_seconds": 0.5}),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(name: str, rules: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=name):
        EndpointRules(**rules)  # type: ignore[arg-type]


STRETCHES = st.lists(
    st.tuples(
        st.sampled_from([SPEAKING, DOUBTFUL, SILENT]),
        st.integers(1, 60),
        st.floats(-80, -10),
    ),
    min_size=1,
    max_size=25,
)
SOME_RULES = st.builds(
    EndpointRules,
    threshold=st.sampled_from([0.3, 0.5, 0.8]),
    prefix_padding_ms=st.integers(0, 1_500),
    silence_duration_ms=st.integers(0, 2_500),
    min_speech_ms=st.integers(0, 300),
    max_utterance_seconds=st.floats(1, 8),
    is_manual=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(rules=SOME_RULES, stretches=STRETCHES, packets=st.lists(st.integers(1, 50), min_size=1))
def test_events_do_not_depend_on_how_many_steps_come_at_once(
    rules: EndpointRules,
    stretches: list[tuple[float, int, float]],
    packets: list[int],
) -> None:
    steps = [(p, level) for p, count, level in stretches for _ in range(count)]
    whole, parts, found, turn, position = Endpointer(rules), Endpointer(rules), [], 0, 0
    while position < len(steps):
        some = steps[position : position + packets[turn % len(packets)]]
        found += parts.push([p for p, _ in some], [level for _, level in some])
        position, turn = position + len(some), turn + 1

    assert found == whole.push([p for p, _ in steps], [level for _, level in steps])
    assert parts.needed_from == whole.needed_from


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("steps"), STRETCHES.map(tuple)),
        st.tuples(st.just("idle"), st.floats(0, 3)),
        st.tuples(st.just("commit"), st.integers(0, STEP - 1)),
        st.tuples(st.just("clear"), st.integers(0, STEP - 1)),
        st.tuples(st.just("rules"), SOME_RULES),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(rules=SOME_RULES, actions=ACTIONS)
def test_utterances_are_in_order_apart_short_enough_and_of_samples_still_kept(
    rules: EndpointRules, actions: list[tuple[str, object]]
) -> None:
    endpointer = Endpointer(rules)
    book = Book(rules)
    received = 0
    for name, value in actions:
        if name == "steps":
            assert isinstance(value, tuple)
            for probability, count, level in value:
                for _ in range(count):
                    book.read(endpointer.push([probability], [level]), endpointer)
            received = max(received, endpointer.position)
        elif name == "idle":
            assert isinstance(value, float)
            book.read(endpointer.idle(value), endpointer)
        elif name == "rules":
            assert isinstance(value, EndpointRules)
            endpointer.reconfigure(value)
            book.longest = max(book.longest, value.max_utterance_seconds)
        else:
            assert isinstance(value, int)
            received = max(received, endpointer.position + value)
            if name == "commit":
                ended = endpointer.commit(received)
                book.read([ended] if ended else [], endpointer)
                book.taken = max(book.taken, received)
            else:
                endpointer.clear(received)
                book.taken, book.start, book.is_paused = received, None, False
        assert endpointer.open_from == book.start


class Book:
    """Checks what is said against what was said before."""

    def __init__(self, rules: EndpointRules) -> None:
        self.longest = rules.max_utterance_seconds
        self.taken = 0
        self.start: int | None = None
        self.is_paused = False
        self.cut: int | None = None
        self.needed = 0

    def read(self, events: list[EndpointEvent], endpointer: Endpointer) -> None:
        needed = self.needed
        for event in events:
            if isinstance(event, SpeechStarted):
                assert self.start is None
                assert max(self.taken, needed) <= event.start <= endpointer.position
                self.start, self.is_paused = event.start, False
            elif isinstance(event, SpeechEnded):
                assert max(self.taken, needed) <= event.start < event.end <= event.heard_until
                assert self.start in (None, event.start)
                assert event.end - event.start <= (self.longest + 0.001) * 16_000
                self.taken, self.start, self.is_paused = event.end, None, False
            elif isinstance(event, Paused):
                assert self.start is not None
                assert not self.is_paused
                assert self.start < event.end <= endpointer.position
                self.is_paused = True
            else:
                assert self.is_paused
                self.is_paused = False
        assert endpointer.needed_from >= self.needed
        assert self.start is None or endpointer.needed_from <= self.start
        self.needed = endpointer.needed_from


@settings(max_examples=100, deadline=None)
@given(stretches=STRETCHES, silence_ms=st.integers(0, 2_000), seconds=st.floats(1, 8))
def test_no_step_of_speech_is_lost_however_utterances_are_cut(
    stretches: list[tuple[float, int, float]], silence_ms: int, seconds: float
) -> None:
    rules = EndpointRules(
        silence_duration_ms=silence_ms, max_utterance_seconds=seconds, min_speech_ms=0
    )
    listener = Listener(rules)
    for probability, count, level in stretches:
        listener.hear(probability, count, level)
    end = listener.endpointer.position
    last = listener.endpointer.commit(end)
    utterances = [*listener.ended, *([last] if last else [])]

    probabilities = [p for p, count, _ in stretches for _ in range(count)]
    covered = [sample for each in utterances for sample in range(each.start, each.end, 128)]
    assert len(covered) == len(set(covered))
    for index, probability in enumerate(probabilities):
        if probability == SPEAKING:
            assert any(each.start <= index * STEP < each.end for each in utterances), (
                f"step {index} of {len(probabilities)}"
            )
