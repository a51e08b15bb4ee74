"""What of a chunk's text was said when."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transcription import Segment
from tests.worker.text.test_word_times import Span, span_lists, texts
from worker.segments import LONG_SEGMENT_SAMPLES, SpeechSpan, segments_of
from worker.text.alignment import Alignment, TimedUnit, units_of
from worker.text.word_times import words_of

SECOND = 16_000


@dataclass(frozen=True)
class Token:
    id: int
    content: bytes
    logprob: float


def spans(*edges: float, probability: float = 0.9) -> list[SpeechSpan]:
    """start, end, start, end, ... in seconds."""
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [SpeechSpan(round(a * SECOND), round(b * SECOND), probability) for a, b in pairs]


def segmented(
    text: str, found: list[SpeechSpan], tokens: list[Token] | None = None
) -> tuple[Segment, ...]:
    return segments_of(text, None, found, start=0, end=30 * SECOND, tokens=tokens or [])


def test_pauses_part_segments_and_each_lies_inside_its_speech() -> None:
    first, second = segmented("One two three. Four five six.", spans(1, 3, 5, 7))

    assert (first.text, first.start, first.end) == ("One two three.", SECOND, 3 * SECOND)
    assert (second.text, second.start, second.end) == ("Four five six.", 5 * SECOND, 7 * SECOND)
    assert [word.text for word in second.words] == ["Four", "five", "six."]


def aligned(text: str, *edges: float) -> Alignment:
    """Each word with its start and end in seconds."""
    times = zip(edges[::2], edges[1::2], strict=True)
    return Alignment(
        text,
        tuple(
            TimedUnit(unit, round(a * SECOND), round(b * SECOND))
            for unit, (a, b) in zip(units_of(text), times, strict=True)
        ),
    )


def test_measured_times_part_segments_where_the_speaker_paused() -> None:
    text = "One two. Three four."
    alignment = aligned(text, 0.4, 0.8, 0.8, 1.2, 2, 2.4, 2.4, 2.8)

    first, second = segments_of(
        text, "English", spans(0, 3), start=0, end=30 * SECOND, alignment=alignment
    )

    assert (first.text, first.start, first.end) == ("One two.", 0.4 * SECOND, 1.2 * SECOND)
    assert (second.text, second.start, second.end) == ("Three four.", 2 * SECOND, 2.8 * SECOND)
    assert not any(word.is_estimated for word in first.words + second.words)


def test_measured_times_of_another_text_are_not_used() -> None:
    alignment = aligned("One two two two.", 0.4, 0.8, 0.8, 1.2, 2, 2.4, 2.4, 2.8)

    (only,) = segments_of(
        "One two.", "English", spans(1, 3), start=0, end=30 * SECOND, alignment=alignment
    )

    assert (only.start, only.end) == (SECOND, 3 * SECOND)
    assert all(word.is_estimated for word in only.words)


def test_words_measured_where_no_speech_was_detected_say_so() -> None:
    alignment = aligned("One.", 5, 5.4)

    (only,) = segments_of(
        "One.", "English", spans(1, 3), start=0, end=30 * SECOND, alignment=alignment
    )

    assert (only.start, only.no_speech) == (5 * SECOND, 1.0)


def test_a_short_pause_parts_nothing() -> None:
    (only,) = segmented("One two three, four five six", spans(1, 3, 3.2, 5))

    assert (only.start, only.end) == (SECOND, 5 * SECOND)


def test_a_long_stretch_is_parted_between_sentences() -> None:
    sentence = "We shall go on to the very end of it. "

    found = segmented(sentence * 6, spans(0, 24))

    assert [each.text for each in found] == [(sentence * 2).strip()] * 3
    assert all(each.end - each.start <= LONG_SEGMENT_SAMPLES for each in found)


def test_short_sentences_without_a_pause_stay_together() -> None:
    assert len(segmented("Yes. No. Why? Well!", spans(0, 3))) == 1


def test_no_speech_is_what_voice_activity_leaves() -> None:
    low, high = segmented(
        "One two three. Four five six.",
        [*spans(0, 2, probability=0.6), *spans(4, 6, probability=0.9)],
    )

    assert (low.no_speech, high.no_speech) == pytest.approx((0.4, 0.1))


def test_text_without_speech_lies_in_the_whole_chunk() -> None:
    (only,) = segments_of("Hello there", "English", (), start=SECOND, end=3 * SECOND, channel=1)

    assert (only.start, only.end, only.no_speech) == (SECOND, 3 * SECOND, 1.0)
    assert only.channel == 1


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_has_no_segment(text: str) -> None:
    assert segmented(text, spans(0, 1)) == ()


def test_tokens_go_to_the_segment_whose_text_they_are() -> None:
    tokens = [
        Token(number, content.encode(), -number / 10)
        for number, content in enumerate(["Um", " zwei", ".", " Für", " drei", "."])
    ]

    first, second = segmented("Um zwei. Für drei.", spans(0, 2, 4, 6), tokens)

    assert (first.token_ids, second.token_ids) == ((0, 1, 2), (3, 4, 5))
    assert first.avg_logprob == pytest.approx(-0.1)
    assert second.avg_logprob == pytest.approx(-0.4)


def test_tokens_may_break_characters_and_bring_spaces_of_their_own() -> None:
    content = " 你好。 再见。".encode()
    tokens = [Token(number, content[number : number + 2], -1.0) for number in range(0, 20, 2)]
    assert b"".join(token.content for token in tokens) == content

    first, second = segmented("你好。 再见。", spans(0, 2, 4, 6), tokens)

    assert [*first.token_ids, *second.token_ids] == [token.id for token in tokens]
    assert first.text == "你好。"
    assert b"".join(token.content for token in tokens if token.id in second.token_ids).endswith(
        "见。".encode()
    )


def test_tokens_of_a_repaired_text_give_their_mean_alone() -> None:
    tokens = [Token(1, b"One one one", -0.2), Token(2, b" one one", -0.4)]

    (only,) = segmented("One", spans(0, 2), tokens)

    assert only.token_ids == ()
    assert only.avg_logprob == pytest.approx(-0.3)


def test_without_tokens_nothing_is_said_of_them() -> None:
    (only,) = segmented("One", spans(0, 2))

    assert (only.token_ids, only.avg_logprob) == ((), None)


@given(text=texts(), found=span_lists(), size=st.integers(1, 5))
def test_segments_hold_all_words_and_tokens_in_order_inside_the_speech(
    text: str, found: list[Span], size: int
) -> None:
    heard = [SpeechSpan(span.start, span.end, 0.8) for span in found]
    content = text.encode()
    tokens = [
        Token(number, content[number : number + size], -0.5)
        for number in range(0, len(content), size)
    ]

    segments = segments_of(text, None, heard, start=0, end=10**7, tokens=tokens)

    words = [word for segment in segments for word in segment.words]
    assert [word.text for word in words] == words_of(text, None)
    assert "".join("".join(each.text.split()) for each in segments) == "".join(text.split())
    if segments:
        assert [i for each in segments for i in each.token_ids] == [each.id for each in tokens]
    for segment in segments:
        assert heard[0].start <= segment.start < segment.end <= heard[-1].end
        assert segment.start == segment.words[0].start
        assert segment.end == segment.words[-1].end
        assert 0 <= segment.no_speech <= 1
    if min(span.end - span.start for span in heard) >= len(words):
        assert all(left.end <= right.start for left, right in pairwise(segments))
