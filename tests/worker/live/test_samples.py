"""Samples appended at one end and forgotten at the other, beside a plain array."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.live.road import Samples
from worker.live.samples import GrowingSamples, RecentSamples


def counted(first: int, count: int) -> Samples:
    return np.arange(first, first + count, dtype=np.float32)


lengths = st.lists(st.integers(0, 70_000), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(lengths)
def test_an_utterance_is_what_was_appended(sizes: list[int]) -> None:
    growing = GrowingSamples()
    given_out: list[Samples] = []
    for size in sizes:
        growing.append(counted(len(growing), size))
        given_out.append(growing.first(len(growing)))

    whole = counted(0, sum(sizes))
    assert len(growing) == len(whole)
    assert np.array_equal(growing.first(len(whole) + 1), whole)
    for samples in given_out:  # whatever was appended later
        assert np.array_equal(samples, whole[: len(samples)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**7), lengths, st.data())
def test_recent_samples_are_found_by_their_position(
    start: int, sizes: list[int], data: st.DataObject
) -> None:
    recent = RecentSamples(start)
    whole = counted(0, sum(sizes))
    kept_from = end = start
    for size in sizes:
        recent.append(whole[end - start : end - start + size])
        end += size
        kept_from = max(kept_from, data.draw(st.integers(start, end)))
        recent.forget(kept_from)
        first = data.draw(st.integers(kept_from, end))
        last = data.draw(st.integers(first, end))

        assert (recent.start, recent.end) == (kept_from, end)
        assert np.array_equal(recent.between(first, last), whole[first - start : last - start])


def test_the_end_is_forgotten_at_most() -> None:
    recent = RecentSamples(100)
    recent.append(counted(0, 50))

    recent.forget(10_000)
    recent.append(counted(50, 5))

    assert (recent.start, recent.end) == (150, 155)
    assert np.array_equal(recent.between(150, 155), counted(50, 5))


def test_samples_given_out_are_not_written_over() -> None:
    recent = RecentSamples(0)
    recent.append(counted(0, 1000))
    given_out = recent.between(0, 1000)

    recent.forget(1000)
    for _ in range(200):
        recent.append(counted(7, 1000))
        recent.forget(recent.end)

    assert np.array_equal(given_out, counted(0, 1000))


def test_a_long_stream_of_which_little_is_kept_takes_little_memory() -> None:
    recent = RecentSamples(0)

    for _ in range(5_000):
        recent.append(counted(0, 320))
        recent.forget(recent.end - 16_000)

    assert len(recent._buffer) <= 10 * 16_000
