"""From a live stream's bytes to samples: G.711, PCM, rates, packets of any size."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.audio.telephony import LiveDecoder

Samples = NDArray[np.float32]

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def decoded(
    content: bytes, encoding: str, rate: int, channels: int = 1, packets: list[int] | None = None
) -> Samples:
    """(channels, samples), fed in packets of these sizes in turn."""
    decoder, parts, position, turn = LiveDecoder(encoding, rate, channels), [], 0, 0
    sizes = packets or [len(content) or 1]
    while position < len(content):
        size = sizes[turn % len(sizes)]
        parts.append(np.stack(decoder.feed(content[position : position + size])))
        position, turn = position + size, turn + 1
    return np.concatenate([*parts, np.stack(decoder.flush())], axis=1)


def tone(hertz: float, rate: int, seconds: float = 1.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def pcm16(samples: NDArray[Any]) -> bytes:
    return bytes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2"))


def signal_to_error_db(samples: NDArray[Any], expected: NDArray[Any]) -> float:
    """Away from the edges, where a filter sees the silence around."""
    inner = slice(200, -200)
    error = np.mean((samples - expected)[inner] ** 2)
    return float(10 * np.log10(np.mean(expected[inner] ** 2) / error))


@pytest.mark.parametrize(
    ("encoding", "code", "linear"),
    [
        ("mulaw", 0x00, -32_124),
        ("mulaw", 0x80, 32_124),
        ("mulaw", 0x7F, 0),
        ("mulaw", 0xFF, 0),
        ("mulaw", 0xFE, 8),
        ("mulaw", 0xE7, 260),
        ("alaw", 0xD5, 8),
        ("alaw", 0x55, -8),
        ("alaw", 0xAA, 32_256),
        ("alaw", 0x2A, -32_256),
        ("alaw", 0xC5, 264),
    ],
)
def test_codes_of_g711_have_the_standards_values(encoding: str, code: int, linear: int) -> None:
    assert decoded(bytes([code]), encoding, 16_000)[0, 0] * 32768 == linear


@pytest.mark.parametrize(("encoding", "function"), [("mulaw", "ulaw2lin"), ("alaw", "alaw2lin")])
def test_all_codes_of_g711_equal_those_of_another_decoder(encoding: str, function: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop: Any = pytest.importorskip("audioop", reason="not in this Python any more")
    codes = bytes(range(256))
    expected = np.frombuffer(getattr(audioop, function)(codes, 2), "<i2") / 32768

    assert np.array_equal(decoded(codes, encoding, 16_000)[0], expected.astype(np.float32))


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_moment_and_its_loudness_at_every_rate(rate: int) -> None:
    samples = decoded(pcm16(tone(1000, rate)), "pcm16", rate)[0]

    assert len(samples) == 16_000
    assert signal_to_error_db(samples, tone(1000, 16_000)) > 80


@pytest.mark.parametrize("rate", [24_000, 32_000, 44_100, 48_000])
def test_what_16_khz_cannot_carry_is_silenced(rate: int) -> None:
    samples = decoded(pcm16(tone(9_000, rate)), "pcm16", rate)[0]

    assert np.abs(samples[200:-200]).max() < 0.5e-3


def test_the_top_of_the_telephone_band_passes_and_has_no_mirror_image() -> None:
    samples = decoded(pcm16(tone(3_400, 8_000)), "pcm16", 8_000)[0]

    assert signal_to_error_db(samples, tone(3_400, 16_000)) > 40


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=3_000),
    encoding=st.sampled_from(["pcm16", "mulaw", "alaw"]),
    rate=st.one_of(st.sampled_from(RATES), st.integers(320, 1_920).map(lambda each: 25 * each)),
    channels=st.integers(1, 2),
    packets=st.lists(st.integers(1, 700), min_size=1, max_size=6),
)
def test_samples_do_not_depend_on_packets(
    content: bytes, encoding: str, rate: int, channels: int, packets: list[int]
) -> None:
    whole = decoded(content, encoding, rate, channels)

    assert np.array_equal(decoded(content, encoding, rate, channels, packets), whole)


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(0, 3_000), rate=st.integers(320, 1_920).map(lambda each: 25 * each))
def test_sound_is_as_long_at_16_khz_as_it_was(frames: int, rate: int) -> None:
    samples = decoded(bytes(2 * frames), "pcm16", rate)[0]

    assert len(samples) == -(-frames * 16_000 // rate)


def test_a_packet_longer_than_the_resamplers_blocks_comes_out_whole() -> None:
    content = pcm16(tone(440, 44_100, seconds=3.0))

    assert np.array_equal(
        decoded(content, "pcm16", 44_100), decoded(content, "pcm16", 44_100, packets=[1_764])
    )


def test_channels_are_told_apart() -> None:
    left, right = tone(300, 8_000), tone(700, 8_000)
    stereo = decoded(pcm16(np.stack([left, right], axis=1)), "pcm16", 8_000, channels=2)

    assert np.array_equal(stereo[0], decoded(pcm16(left), "pcm16", 8_000)[0])
    assert np.array_equal(stereo[1], decoded(pcm16(right), "pcm16", 8_000)[0])


def test_a_sample_cut_in_two_by_packets_is_put_together() -> None:
    decoder = LiveDecoder("pcm16", 16_000)

    assert decoder.feed(b"\x34")[0].tolist() == []
    assert decoder.feed(b"\x12\x00")[0].tolist() == [pytest.approx(0x1234 / 32768)]
    assert decoder.feed(b"")[0].tolist() == []
    assert decoder.flush()[0].tolist() == []


@pytest.mark.parametrize("rate", RATES)
def test_what_is_held_back_is_the_stated_delay(rate: int) -> None:
    decoder = LiveDecoder("pcm16", rate)
    given_out = len(decoder.feed(bytes(2 * rate))[0])

    assert decoder.delay <= 0.004
    assert 16_000 - given_out == pytest.approx(decoder.delay * 16_000, abs=1)


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "said"),
    [
        ("opus", 48_000, 1, "pcm16, mulaw, alaw"),
        ("pcm16", 7_975, 1, "8000 to 48000"),
        ("pcm16", 48_025, 1, "8000 to 48000"),
        ("pcm16", 0, 1, "8000 to 48000"),
        ("mulaw", 8_001, 1, "multiple of 25"),
        ("mulaw", 8_000, 3, "1 or 2"),
        ("mulaw", 8_000, 0, "1 or 2"),
    ],
)
def test_a_format_that_is_not_spoken_is_refused_with_what_is(
    encoding: str, rate: int, channels: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        LiveDecoder(encoding, rate, channels)
