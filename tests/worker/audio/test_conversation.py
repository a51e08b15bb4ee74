"""Who has his turn when."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.conversation import Conversation, Turn, turns_of
from worker.segments import SpeechSpan

CHUNK = 30 * SAMPLE_RATE


def spans(*edges: tuple[float, float]) -> tuple[SpeechSpan, ...]:
    """In seconds."""
    return tuple(
        SpeechSpan(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE), 0.9)
        for start, end in edges
    )


def turns(left: tuple[SpeechSpan, ...], right: tuple[SpeechSpan, ...]) -> list[tuple[int, int]]:
    """(channel, number of spans) of each turn."""
    return [(turn.channel or 0, len(turn.spans)) for turn in turns_of((left, right), 0, CHUNK)]


def test_an_answer_ends_the_turn() -> None:
    assert turns(spans((1, 2), (3, 4)), spans((2.2, 2.8))) == [(0, 1), (1, 1), (0, 1)]


def test_an_answer_that_overlaps_both_sides_of_its_pause_ends_the_turn_too() -> None:
    assert turns(spans((1, 2), (2.3, 4)), spans((1.8, 2.5))) == [(0, 1), (1, 1), (0, 1)]


def test_a_short_silence_ends_no_turn_and_a_long_one_does() -> None:
    assert turns(spans((1, 2), (2.7, 4), (5, 6)), ()) == [(0, 2), (0, 1)]


def test_what_the_other_says_all_the_while_ends_no_turn() -> None:
    assert turns(spans((1, 2), (2.5, 4)), spans((0.5, 4.5))) == [(1, 1), (0, 2)]


def test_what_the_other_says_beside_a_pause_ends_no_turn() -> None:
    assert turns(spans((1, 2), (2.5, 4)), spans((1.2, 1.8), (3, 3.5))) == [(0, 2), (1, 1), (1, 1)]


def test_a_turn_is_given_to_the_model_with_a_little_of_what_is_around() -> None:
    [turn] = turns_of((spans((1, 2)), ()), 0, CHUNK)

    assert (turn.start, turn.end) == (0.85 * SAMPLE_RATE, 2.15 * SAMPLE_RATE)


def test_turns_of_one_side_share_the_pause_between_them() -> None:
    first, _, second = turns_of((spans((0.1, 2), (2.2, 4)), spans((1.9, 2.3))), 0, 4 * SAMPLE_RATE)

    assert (first.start, second.end) == (0, 4 * SAMPLE_RATE)
    assert first.end == second.start == 2.1 * SAMPLE_RATE


@st.composite
def spoken(draw: st.DrawFn) -> tuple[SpeechSpan, ...]:
    """Speech of one side within CHUNK."""
    edges = draw(st.lists(st.integers(0, CHUNK), max_size=40, unique=True).map(sorted))
    return tuple(
        SpeechSpan(start, end, 0.5) for start, end in zip(edges[::2], edges[1::2], strict=False)
    )


@given(left=spoken(), right=spoken())
def test_turns_hold_all_speech_once_and_those_of_a_side_are_apart(
    left: tuple[SpeechSpan, ...], right: tuple[SpeechSpan, ...]
) -> None:
    found = turns_of((left, right), 0, CHUNK)

    assert list(found) == sorted(found, key=lambda turn: turn.start)
    for channel, said in enumerate((left, right)):
        own = [turn for turn in found if turn.channel == channel]
        assert tuple(span for turn in own for span in turn.spans) == said
        for turn in own:
            assert 0 <= turn.start <= turn.spans[0].start
            assert turn.spans[-1].end <= turn.end <= CHUNK
        assert all(one.end <= following.start for one, following in pairwise(own))


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, CHUNK).astype(np.float32)


def test_one_channel_is_one_turn_with_its_short_pauses() -> None:
    said = spans((1, 2), (3.7, 4))

    _, found = Conversation().parted(noise(1), (said,), 0)

    assert found == (Turn(None, 0, CHUNK, said),)


def test_a_long_pause_parts_a_chunk_of_one_channel() -> None:
    first, second = spans((1, 2), (3.9, 5))

    _, found = Conversation().parted(noise(1), ((first, second),), 0)

    assert [(turn.channel, turn.spans) for turn in found] == [(None, (first,)), (None, (second,))]


def test_the_same_sound_in_both_channels_is_one_turn_of_nobody() -> None:
    both = np.stack([noise(1), noise(1)], axis=1)

    samples, found = Conversation().parted(both, (spans((1, 2)), spans((1, 2.1))), 0)

    assert np.array_equal(samples, noise(1))
    assert found == (Turn(None, 0, CHUNK, spans((1, 2.1))),)


def test_where_nothing_listened_channels_are_inferred_whole() -> None:
    both = np.stack([noise(1), noise(2)], axis=1)

    _, one = Conversation().parted(noise(1), (), 0)
    _, two = Conversation().parted(both, (), 0)

    assert one == (Turn(None, 0, CHUNK, ()),)
    assert two == (Turn(0, 0, CHUNK, ()), Turn(1, 0, CHUNK, ()))
