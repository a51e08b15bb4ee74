"""What one channel's ear tells of the sound it hears: utterances, their samples, their ends."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.live import EndReason
from tests.worker.live.hearing import (
    KEY,
    ONSET_STEPS,
    PADDING,
    SILENCE_STEPS,
    SILENT,
    SPEAKING,
    TRAILING_STEPS,
    Hearing,
    detecting,
    sounding,
)
from tests.worker.live.road import options
from worker.audio.vad import STEP_SAMPLES as STEP
from worker.live.news import (
    UtteranceBegan,
    UtteranceComplete,
    UtteranceDropped,
    UtterancePaused,
    UtteranceResumed,
)
from worker.segments import SpeechSpan

SPOKEN_FROM, SPOKEN_TO = 31 * STEP, 51 * STEP
ONE_UTTERANCE = sounding((SILENT, 31), (SPEAKING, 20), (SILENT, 31))

stretches = st.lists(
    st.tuples(st.sampled_from([0.02, 0.1, 0.4, 0.6, 0.95]), st.integers(1, 60)),
    min_size=1,
    max_size=12,
)


def test_an_utterance_begins_pauses_and_is_complete() -> None:
    hearing = Hearing()

    hearing.hear(ONE_UTTERANCE)

    start, end = SPOKEN_FROM - PADDING, SPOKEN_TO + TRAILING_STEPS * STEP
    decided = SPOKEN_TO + SILENCE_STEPS * STEP
    spans = hearing.complete[0].spans
    assert hearing.events == [
        UtteranceBegan(KEY, 0, 0, start, options(), is_announced=True),
        UtterancePaused(KEY, 0, end),
        UtteranceComplete(KEY, 0, end, decided, EndReason.SILENCE, spans),
    ]
    assert spans == (
        SpeechSpan(SPOKEN_FROM - 1600, SPOKEN_TO + 1600, pytest.approx(SPEAKING)),  # type: ignore[arg-type]
    )
    hearing.check()


def test_who_speaks_on_resumes_the_utterance() -> None:
    hearing = Hearing()

    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20), (SILENT, 10), (SPEAKING, 20), (SILENT, 31)))

    kinds = [type(news) for news in hearing.events]
    assert kinds == [
        UtteranceBegan,
        UtterancePaused,
        UtteranceResumed,
        UtterancePaused,
        UtteranceComplete,
    ]
    assert len(hearing.complete[0].spans) == 2
    hearing.check()


@settings(max_examples=60, deadline=None)
@given(stretches, st.integers(100, 20_000), st.sampled_from([1.0, 2.5, 30.0]), st.booleans())
def test_what_is_heard_does_not_depend_on_packets(
    parts: list[tuple[float, int]], packet: int, max_seconds: float, detects: bool
) -> None:
    fields: dict[str, Any] = {} if detects else {"turn_detection": None}
    samples = sounding(*parts)
    at_once, step_by_step, in_packets = (
        Hearing(max_seconds=max_seconds, **fields) for _ in range(3)
    )

    at_once.hear(samples)
    step_by_step.hear(samples, STEP)
    in_packets.hear(samples, packet)

    assert at_once.events == step_by_step.events == in_packets.events
    for hearing in (at_once, step_by_step, in_packets):
        hearing.check()


def test_two_utterances_in_one_packet_keep_their_samples() -> None:
    """A packet of eight seconds, as a replay of a telephone call has them."""
    spoken = [(SPEAKING, 20), (SILENT, 40)]
    hearing = Hearing()

    hearing.hear(sounding((SILENT, 31), *spoken, *spoken, *spoken, (SPEAKING, 30)))

    assert len(hearing.complete) == 3
    hearing.check()


def test_speech_goes_on_in_the_next_utterance_where_one_was_cut() -> None:
    hearing = Hearing(max_seconds=2.0)

    hearing.hear(sounding((SILENT, 31), (SPEAKING, 30), (0.6, 2), (SPEAKING, 60)), 320)

    (cut,) = hearing.complete
    assert cut.reason is EndReason.FORCED
    begun = [news.start for news in hearing.events if isinstance(news, UtteranceBegan)]
    assert begun == [SPOKEN_FROM - PADDING, cut.end]
    assert cut.end == 62 * STEP  # between the two quieter steps
    hearing.check()


def test_samples_are_told_once_they_are_judged() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))

    hearing.hear(np.full(STEP - 1, SPEAKING, np.float32))
    waiting = len(hearing.told(0))
    hearing.hear(np.full(1, SPEAKING, np.float32))

    assert len(hearing.told(0)) == waiting + STEP


def test_a_commit_ends_the_open_utterance_where_the_stream_has_come_to() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))
    hearing.hear(np.full(100, SPEAKING, np.float32))

    hearing.note(hearing.ear.commit())

    (complete,) = hearing.complete
    assert (complete.end, complete.decided, complete.reason) == (
        SPOKEN_TO + 100,
        SPOKEN_TO + 100,
        EndReason.COMMIT,
    )
    assert len(hearing.told(0)) == complete.end - (SPOKEN_FROM - PADDING)
    hearing.check()


def test_a_commit_amid_silence_makes_an_utterance_without_speech() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 50)))

    hearing.note(hearing.ear.commit())

    (complete,) = hearing.complete
    assert complete.spans == ()
    assert complete.end == 50 * STEP
    assert [news.is_announced for news in hearing.events if isinstance(news, UtteranceBegan)] == [
        False
    ]
    hearing.check()


def test_two_commits_in_a_row_make_an_utterance_of_nothing() -> None:
    hearing = Hearing()
    hearing.hear(ONE_UTTERANCE)
    hearing.note(hearing.ear.commit())

    hearing.note(hearing.ear.commit())

    assert len(hearing.complete) == 3
    assert hearing.complete[-1].end == hearing.complete[-1].decided == len(ONE_UTTERANCE)
    assert len(hearing.told(2)) == 0
    hearing.check()


def test_without_turn_detection_only_commits_end_utterances() -> None:
    hearing = Hearing(turn_detection=None)

    hearing.hear(ONE_UTTERANCE)
    assert hearing.complete == []
    hearing.note(hearing.ear.commit())

    (complete,) = hearing.complete
    assert np.array_equal(hearing.told(0), ONE_UTTERANCE)
    assert len(complete.spans) == 1
    assert not any(news.is_announced for news in hearing.events if isinstance(news, UtteranceBegan))


def test_what_was_cleared_is_in_no_utterance() -> None:
    hearing = Hearing(turn_detection=None)
    hearing.hear(sounding((SILENT, 10), (SPEAKING, 20)))

    hearing.note(hearing.ear.clear())
    hearing.hear(sounding((SPEAKING, 20)))
    hearing.note(hearing.ear.commit())

    assert UtteranceDropped(KEY, 0) in hearing.news
    begun = [news for news in hearing.events if isinstance(news, UtteranceBegan)]
    assert begun[-1].start == 30 * STEP
    hearing.check()


def test_options_count_from_the_next_utterance_on() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))

    hearing.ear.configure(detecting(silence_duration_ms=1000))
    hearing.hear(sounding((SILENT, 31), (SILENT, 31), (SPEAKING, 10)))

    begun = [news for news in hearing.events if isinstance(news, UtteranceBegan)]
    assert begun[0].options == options()
    assert begun[1].options == detecting(silence_duration_ms=1000)
    assert hearing.complete[0].decided == SPOKEN_TO + 32 * STEP  # endpoints follow at once


def test_an_open_utterance_ends_with_the_stream() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))

    hearing.note(hearing.ear.close())

    assert hearing.complete[0].reason is EndReason.CLOSE
    hearing.check()


def test_the_end_of_a_silent_stream_is_no_utterance() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31)))

    assert hearing.note(hearing.ear.close()) == []


def test_absent_packets_pause_and_end_an_utterance_like_silence() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))

    due = hearing.ear.next_idle
    assert due is not None
    paused = hearing.note(hearing.ear.idle(due))
    due = hearing.ear.next_idle
    assert due is not None
    ended = hearing.note(hearing.ear.idle(due))

    assert paused == [UtterancePaused(KEY, 0, SPOKEN_TO)]
    (complete,) = ended
    assert isinstance(complete, UtteranceComplete)
    assert (complete.end, complete.reason) == (SPOKEN_TO, EndReason.SILENCE)
    assert hearing.ear.next_idle is None
    hearing.check()


def test_packets_that_come_again_resume_what_their_absence_paused() -> None:
    hearing = Hearing()
    hearing.hear(sounding((SILENT, 31), (SPEAKING, 20)))
    hearing.note(hearing.ear.idle(0.3))

    hearing.hear(sounding((SPEAKING, 2)))

    assert hearing.events[-1] == UtteranceResumed(KEY, 0)
    hearing.check()


def test_what_was_answered_before_is_heard_but_not_told() -> None:
    taken = 60 * STEP
    hearing = Hearing(start=20 * STEP, taken_until=taken)

    hearing.hear(sounding((SILENT, 11), (SPEAKING, 20), (SILENT, 40), (SPEAKING, 20)))

    (begun,) = [news for news in hearing.events if isinstance(news, UtteranceBegan)]
    assert begun.start == 20 * STEP + 71 * STEP - PADDING
    hearing.check()


@settings(max_examples=60, deadline=None)
@given(stretches, st.floats(0.1, 0.9), st.integers(100, 20_000))
def test_a_stream_can_be_heard_again_from_what_is_still_needed(
    parts: list[tuple[float, int]], share: float, packet: int
) -> None:
    """Where the first ear had told no end, the second tells it, at the same sample."""
    samples = np.concatenate([sounding(*parts), sounding((SILENT, 40))])
    padded = detecting(prefix_padding_ms=512).turn_detection  # both hear the same steps
    cut = round(share * len(samples))
    whole, first = Hearing(turn_detection=padded), Hearing(turn_detection=padded)
    whole.hear(samples, STEP)
    first.hear(samples[:cut], packet)
    ends = [complete.end for complete in first.complete]
    start = first.ear.needed_from

    again = Hearing(start=start, taken_until=max(ends, default=0), turn_detection=padded)
    again.hear(samples[start:], packet)

    assert ends + [each.end for each in again.complete] == [each.end for each in whole.complete]
    again.check()


def test_little_is_kept_while_an_utterance_grows() -> None:
    hearing = Hearing()

    for _ in range(28):
        hearing.hear(sounding((SPEAKING, 31)))

    kept = hearing.ear._recent.end - hearing.ear._recent.start
    assert kept <= 7 * 16_000


def test_an_utterance_needs_some_surely_spoken_steps() -> None:
    hearing = Hearing()

    hearing.hear(sounding((SILENT, 31), (SPEAKING, ONSET_STEPS - 1), (SILENT, 20)))
    assert hearing.news == []
    hearing.hear(sounding((SPEAKING, ONSET_STEPS)))

    assert hearing.news
