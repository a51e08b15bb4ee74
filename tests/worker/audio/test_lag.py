"""Which channel is late, and by how much."""

import numpy as np
import pytest

from worker.audio.lag import MAX_LAG_SAMPLES, lag_between, shifted


@pytest.mark.parametrize("lag", [0, 1, 333, MAX_LAG_SAMPLES, -1, -500, -MAX_LAG_SAMPLES])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("samples", [4_000, 100_000])
def test_an_echo_is_found_under_noise(lag: int, sign: int, samples: int) -> None:
    rng = np.random.default_rng(1)
    cause = rng.standard_normal(samples).astype(np.float32)
    effect = 0.3 * sign * shifted(cause, 0, samples, lag) + 0.2 * rng.standard_normal(samples)

    assert lag_between(cause, effect.astype(np.float32), 0, samples) == lag


def test_what_comes_later_is_preceded_by_silence() -> None:
    cause = np.arange(1, 6, dtype=np.float32)

    assert shifted(cause, 0, 5, 2).tolist() == [0, 0, 1, 2, 3]
    assert shifted(cause, 1, 4, -2).tolist() == [4, 5, 0]
    assert shifted(cause, 0, 3, 9).tolist() == [0, 0, 0]
    assert shifted(cause, 0, 3, -9).tolist() == [0, 0, 0]
