import numpy as np

from tools.tiny_model.evaluate import Result, cut_at_quiet_points, table


def test_pieces_are_short_enough_and_lose_nothing() -> None:
    samples = np.random.default_rng(1).standard_normal(70 * 16_000).astype(np.float32)

    pieces = cut_at_quiet_points(samples, longest=30)

    assert max(map(len, pieces)) <= 30 * 16_000
    assert np.array_equal(np.concatenate(pieces), samples)


def test_cuts_fall_into_pauses() -> None:
    samples = np.ones(40 * 16_000, np.float32)
    samples[27 * 16_000 : 28 * 16_000] = 0

    first, _ = cut_at_quiet_points(samples, longest=30)

    assert 27 * 16_000 < len(first) < 28 * 16_000


def test_a_short_clip_stays_whole() -> None:
    samples = np.ones(100, np.float32)

    (piece,) = cut_at_quiet_points(samples, longest=30)

    assert piece is samples


def test_a_set_without_words_has_no_word_error_rate() -> None:
    rows = table([Result("speech", 1, 10, 2.5, 90.0), Result("ringing", 3, 0, 0.0, 100.0)])

    assert "| speech | 1 | 10 | 2.50 | 90.0 |" in rows
    assert "| ringing | 3 | 0 | - | 100.0 |" in rows
