"""Where a recording is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.chunking import FAINT_PEAK, SILENT_PEAK, Chunk, Chunker, is_faint, is_silent
from worker.audio.vad import STEP_SAMPLES

Samples = NDArray[np.float32]


def speech(seconds: float, level: float = 0.3, seed: int = 0) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * noise / 4).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def cut(chunker: Chunker, samples: Samples, block: int = 160_000) -> list[Chunk]:
    chunks = [
        chunk
        for start in range(0, len(samples), block)
        for chunk in chunker.push(samples[start : start + block])
    ]
    return chunks + chunker.finish()


def ends(chunks: list[Chunk]) -> list[float]:
    return [chunk.end / SAMPLE_RATE for chunk in chunks]


class LoudIsSpeech:
    """A detector that takes any noise for speech; keeps its steps apart as the real one does."""

    def __init__(self) -> None:
        self._rest = silence(0)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        heard = np.concatenate([self._rest, samples])
        steps = len(heard) // STEP_SAMPLES
        self._rest = heard[steps * STEP_SAMPLES :]
        loud = np.abs(heard[: steps * STEP_SAMPLES]).reshape(-1, STEP_SAMPLES).max(axis=1) > 0.01
        return np.where(loud, 0.9, 0.05).astype(np.float32)

    def finish(self) -> NDArray[np.float32]:
        return self.push(silence(-len(self._rest) % STEP_SAMPLES / SAMPLE_RATE))


def listening(target: float = 30, longest: float = 60) -> Chunker:
    return Chunker(target, longest, LoudIsSpeech)


def hiss(seconds: float) -> Samples:
    """Heard, but no speech to LoudIsSpeech."""
    return speech(seconds, level=0.004, seed=9)


@st.composite
def recordings(draw: st.DrawFn) -> Samples:
    """Up to some 20 s of louder and softer stretches, hums and silences."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    stretches = draw(
        st.lists(
            st.tuples(st.floats(0.001, 4.0), st.sampled_from([0.0, 1e-4, 0.01, 0.1, 1.0])),
            max_size=10,
        )
    )
    parts = [
        level * generator.uniform(-1, 1, round(seconds * SAMPLE_RATE))
        for seconds, level in stretches
    ]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def test_a_short_recording_stays_whole() -> None:
    chunks = cut(Chunker(30, 60), speech(12.0))

    assert [(chunk.index, chunk.start, chunk.end) for chunk in chunks] == [(0, 0, 12 * SAMPLE_RATE)]


def test_no_samples_give_no_chunk() -> None:
    assert cut(Chunker(), silence(0)) == []


def test_a_cut_falls_into_the_pause_near_the_target() -> None:
    samples = np.concatenate([speech(28.0), silence(0.4), speech(40.0, seed=1)])

    first = cut(Chunker(30, 60), samples)[0]

    assert 28.0 < first.end / SAMPLE_RATE < 28.4


def test_between_equal_pauses_the_one_nearer_the_target_is_taken() -> None:
    samples = np.concatenate(
        [
            speech(20.0),
            silence(0.4),
            speech(8.0),
            silence(0.4),
            speech(8.0),
            silence(0.4),
            speech(60),
        ]
    )

    assert 28.4 < ends(cut(Chunker(30, 60), samples))[0] < 28.8


def test_the_end_of_a_sentence_beats_a_short_gap_closer_to_the_target() -> None:
    samples = np.concatenate(
        [speech(26.0), silence(0.8), speech(3.0), silence(0.09), speech(60.0, seed=1)]
    )

    assert 26.0 < ends(cut(Chunker(30, 60), samples))[0] < 26.8


def test_a_cut_goes_a_long_way_to_spare_a_word() -> None:
    samples = np.concatenate([speech(55.0), silence(0.2), speech(40.0, seed=1)])

    assert 55.0 < ends(cut(Chunker(30, 60), samples))[0] < 55.2


def test_a_pause_is_found_in_noise_and_above_an_offset() -> None:
    hiss = speech(75.0, level=0.02, seed=5)
    samples = np.concatenate([speech(33.0), silence(0.3), speech(41.7, seed=1)]) + hiss + 0.2

    assert 33.0 < ends(cut(Chunker(30, 60), samples.astype(np.float32)))[0] < 33.3


def test_a_lost_packet_inside_a_word_is_no_better_than_a_pause() -> None:
    breath = speech(0.6, level=0.002, seed=3)
    samples = np.concatenate(
        [speech(27.0), breath, speech(2.9), silence(0.07), speech(60.0, seed=1)]
    )

    assert 27.0 < ends(cut(Chunker(30, 60), samples))[0] < 27.6


def test_very_quiet_speech_is_cut_in_its_pauses_too() -> None:
    scale = 10 ** (-48 / 20)
    samples = np.concatenate([speech(28.0), silence(0.4), speech(40.0, seed=1)]) * scale

    chunks = cut(Chunker(30, 60), samples.astype(np.float32))

    assert 28.0 < chunks[0].end / SAMPLE_RATE < 28.4
    assert not any(chunk.is_silent for chunk in chunks)


def test_sound_without_any_pause_is_cut_at_the_target() -> None:
    hum = np.sin(np.arange(200 * SAMPLE_RATE) * 0.05).astype(np.float32)

    assert ends(cut(Chunker(30, 60), hum))[:3] == pytest.approx([30, 60, 90], abs=0.01)


def test_a_cut_in_a_long_silence_keeps_off_the_words() -> None:
    samples = np.concatenate([speech(29.9), silence(3.0), speech(60.0)])

    assert ends(cut(Chunker(30, 60), samples))[0] == pytest.approx(30.05, abs=0.05)


def test_the_rest_is_shared_out_instead_of_leaving_a_scrap() -> None:
    lengths = [
        (chunk.end - chunk.start) / SAMPLE_RATE for chunk in cut(Chunker(30, 60), speech(46.0))
    ]

    assert lengths == pytest.approx([23, 23], abs=8)


def test_a_little_over_the_target_stays_in_one_piece() -> None:
    assert len(cut(Chunker(30, 60), speech(35.9))) == 1
    assert len(cut(Chunker(30, 60), speech(36.1))) == 2


def test_the_maximum_lowers_the_target() -> None:
    chunks = cut(Chunker(target_seconds=30, max_seconds=8), speech(50.0))

    assert max(chunk.end - chunk.start for chunk in chunks) <= 8 * SAMPLE_RATE


@pytest.mark.parametrize("limits", [(0.5, 60), (30, 0.9), (0, 0)])
def test_limits_too_short_for_a_pause_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shorter than 1 s"):
        Chunker(*limits)


def test_silence_is_kept_and_marked() -> None:
    chunks = cut(Chunker(30, 60), np.concatenate([silence(100.0), speech(20.0)]))

    assert chunks[0].is_silent
    assert not chunks[-1].is_silent
    assert chunks[-1].end == 120 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (silence(1.0), True),
        (silence(0.0), True),
        (silence(1.0) + np.float32(0.25), True),
        (speech(1.0, level=1e-4), True),
        (speech(1.0, level=4 * 10 ** (-48 / 20)), False),
        (np.array([0.0, 2.02 * SILENT_PEAK], np.float32), False),
    ],
)
def test_only_what_cannot_be_heard_is_silent(samples: Samples, expected: bool) -> None:
    assert is_silent(samples) is expected


def test_memory_stays_bounded_however_much_comes_at_once() -> None:
    chunker = Chunker(2, 4)

    chunker.push(speech(300.0))

    assert chunker._pending.nbytes <= 2 * 5 * SAMPLE_RATE * 4


@settings(max_examples=60, deadline=None)
@given(
    samples=recordings(),
    blocks=st.lists(st.integers(1, 60_000), min_size=1, max_size=8),
    limits=st.sampled_from([(1.0, 1.0), (1.0, 2.0), (2.0, 2.5), (3.0, 6.0)]),
)
def test_cuts_do_not_depend_on_how_samples_arrive(
    samples: Samples, blocks: list[int], limits: tuple[float, float]
) -> None:
    at_once = cut(Chunker(*limits), samples, block=max(1, len(samples)))
    chunker, position = Chunker(*limits), 0
    piecemeal: list[list[Chunk]] = []
    while position < len(samples):
        size = blocks[len(piecemeal) % len(blocks)]
        piecemeal.append(chunker.push(samples[position : position + size]))
        position += size
    chunks = [chunk for some in piecemeal for chunk in some] + chunker.finish()

    assert [(c.start, c.end, c.is_silent) for c in chunks] == [
        (c.start, c.end, c.is_silent) for c in at_once
    ]


@settings(max_examples=60, deadline=None)
@given(samples=recordings(), limits=st.sampled_from([(1.0, 1.0), (1.0, 2.0), (2.0, 2.5), (3, 6)]))
def test_chunks_cover_every_sample_once_within_the_limits(
    samples: Samples, limits: tuple[float, float]
) -> None:
    target, longest = limits
    chunks = cut(Chunker(target, longest), samples)

    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.start for chunk in chunks] == [0, *(chunk.end for chunk in chunks)][:-1]
    joined = np.concatenate([silence(0), *(chunk.samples for chunk in chunks)])
    assert np.array_equal(joined, samples)
    for chunk in chunks:
        assert len(chunk.samples) == chunk.end - chunk.start <= longest * SAMPLE_RATE
    for chunk in chunks[:-1]:
        assert chunk.end - chunk.start >= target / 4 * SAMPLE_RATE


@settings(max_examples=60, deadline=None)
@given(samples=recordings())
def test_no_cut_is_louder_than_the_quietest_place_by_much(samples: Samples) -> None:
    """Over 60 ms, in the range where a cut may fall; 40 dB below the loudest all is quiet."""
    target, longest = 2 * SAMPLE_RATE, 4 * SAMPLE_RATE
    rest = samples
    for chunk in cut(Chunker(2, 4), samples)[:-1]:
        if len(rest) >= longest + target // 2:
            levels = np.array(
                [_level(rest, place) for place in range(target // 2, longest + 1, 160)]
            )
            quiet = max(levels.min(), levels.max() - 40)
            assert _level(rest, len(chunk.samples)) <= quiet + 8.01
        rest = rest[len(chunk.samples) :]


def _level(samples: Samples, place: int) -> float:
    around = samples[place - 480 : place + 480].astype(np.float64)
    return float(10 * np.log10(max(around.var(), 1e-12)))


@pytest.mark.parametrize(("swing", "expected"), [(0.9, True), (1.1, False)])
def test_faint_is_what_nothing_can_be_made_out_of(swing: float, expected: bool) -> None:
    samples = np.tile(np.array([1, -1], np.float32), 800) * np.float32(swing * FAINT_PEAK)

    assert is_faint(samples) is expected
    assert is_faint(samples + np.float32(0.25)) is expected  # an offset is not heard
    assert is_faint(samples[:0])


def test_what_is_no_speech_needs_no_inference_however_loud() -> None:
    (chunk,) = cut(listening(), hiss(5.0))

    assert chunk.is_silent
    assert chunk.spans == ()


def test_spans_say_where_somebody_speaks_with_a_margin() -> None:
    (chunk,) = cut(listening(), np.concatenate([hiss(2.0), speech(1.0), hiss(2.0), speech(3.0)]))

    edges = [edge / SAMPLE_RATE for span in chunk.spans for edge in (span.start, span.end)]
    assert edges == pytest.approx([1.9, 3.1, 4.9, 8.0], abs=0.04)
    assert all(span.probability == pytest.approx(0.9) for span in chunk.spans)
    assert tuple(span for turn in chunk.turns for span in turn.spans) == chunk.spans


def test_half_a_second_without_speech_beats_a_nearer_and_deeper_lull() -> None:
    samples = np.concatenate(
        [speech(22.0), hiss(0.8), speech(7.0), silence(0.3), speech(60.0, seed=1)]
    )

    assert 22.2 < ends(cut(listening(), samples))[0] < 22.6


def test_without_a_clear_pause_the_best_lull_is_taken() -> None:
    samples = np.concatenate([speech(28.0), silence(0.4), speech(60.0, seed=1)])

    assert 28.0 < ends(cut(listening(), samples))[0] < 28.4


def test_a_cut_leaves_silence_on_both_sides() -> None:
    samples = np.concatenate([speech(25.0), hiss(10.0), speech(60.0)])
    short = np.concatenate([speech(25.0), hiss(0.6), speech(60.0)])

    assert ends(cut(listening(), samples))[0] == pytest.approx(30.0, abs=0.02)
    assert ends(cut(listening(), short))[0] == pytest.approx(25.3, abs=0.1)


def test_a_chunk_is_handed_over_once_no_later_pause_can_be_nearer() -> None:
    samples = np.concatenate([speech(28.0), hiss(1.0), speech(60.0, seed=1)])
    chunker = listening()

    arrived = [
        second
        for second in range(60)
        if chunker.push(samples[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE])
    ]

    # Six seconds behind the cut are seen, so that what follows is no scrap.
    assert arrived[0] in (34, 35, 36)


def test_a_recording_a_little_longer_than_the_target_is_not_cut_for_a_pause_near_its_end() -> None:
    samples = np.concatenate([speech(30.0), hiss(1.0), speech(4.0)])

    assert len(cut(listening(), samples)) == 1


def test_speech_across_a_cut_lies_in_both_chunks() -> None:
    first, second = cut(listening(2, 2), speech(3.9, seed=3))[:2]

    assert first.spans[-1].end == first.end == second.start == second.spans[0].start


def test_channels_are_cut_together_where_neither_speaks_and_listened_to_apart() -> None:
    left = np.concatenate([speech(20.0), hiss(2.0), speech(8.0), hiss(1.0), speech(30.0)])
    right = np.concatenate([hiss(20.5), speech(1.0, seed=2), hiss(39.5)])
    both = np.stack([left, right], axis=1)

    first = cut(listening(), both)[0]

    assert 30.0 < first.end / SAMPLE_RATE < 31.0
    assert first.samples.shape == (first.end, 2)
    assert np.array_equal(first.samples, both[: first.end])
    before, between, behind = (turn.spans for turn in first.turns)
    assert [turn.channel for turn in first.turns] == [0, 1, 0]
    assert [round(span.start / SAMPLE_RATE) for span in (*before, *behind)] == [0, 22]
    assert [span.start / SAMPLE_RATE for span in between] == pytest.approx([20.4], abs=0.04)
    assert first.spans == (*before, *between, *behind)


def test_channels_are_silent_only_together() -> None:
    one_speaks = np.stack([silence(3.0), speech(3.0)], axis=1)
    constant = np.full((SAMPLE_RATE, 2), (0.0, 0.5), np.float32)

    assert not cut(listening(), one_speaks)[0].is_silent
    assert is_silent(constant)
    assert not is_silent(one_speaks)


@settings(max_examples=60, deadline=None)
@given(
    samples=recordings(),
    blocks=st.lists(st.integers(1, 60_000), min_size=1, max_size=8),
    limits=st.sampled_from([(1.0, 1.0), (1.0, 2.0), (2.0, 2.5), (3.0, 6.0)]),
    channels=st.sampled_from([0, 2]),
)
def test_listening_covers_every_sample_once_whatever_the_delivery(
    samples: Samples, blocks: list[int], limits: tuple[float, float], channels: int
) -> None:
    if channels:
        samples = np.stack([np.roll(samples, number * 20_000) for number in range(channels)], 1)
    chunker, position = listening(*limits), 0
    chunks: list[Chunk] = []
    for turn in range(len(samples)):
        size = blocks[turn % len(blocks)]
        chunks += chunker.push(samples[position : position + size])
        position += size
        if position >= len(samples):
            break
    chunks += chunker.finish()

    at_once = cut(listening(*limits), samples, block=max(1, len(samples)))
    described = [(c.start, c.end, c.is_silent, c.spans, c.turns) for c in chunks]
    assert described == [(c.start, c.end, c.is_silent, c.spans, c.turns) for c in at_once]
    assert [0, *(c.end for c in chunks)] == [*(c.start for c in chunks), len(samples)]
    if not channels:
        assert np.array_equal(np.concatenate([samples[:0], *(c.samples for c in chunks)]), samples)
    for chunk in chunks:
        assert len(chunk.samples) == chunk.end - chunk.start
        assert 0 < chunk.end - chunk.start <= limits[1] * SAMPLE_RATE
        assert chunk.is_silent or (chunk.spans and chunk.turns)
        edges = [chunk.start, *(e for s in chunk.spans for e in (s.start, s.end)), chunk.end]
        assert edges == sorted(edges)
        assert all(span.start < span.end for span in chunk.spans)
    for chunk in chunks[:-1]:
        assert chunk.end - chunk.start >= limits[0] / 4 * SAMPLE_RATE
