"""Packets of a live stream -> float32 samples at 16 kHz, one array for each channel.

G.711 and 16-bit PCM as they come from calls and browsers: packets of any size, cut anywhere.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.audio.resampling import RATE_STEP, Resampler

Samples = NDArray[np.float32]

MIN_RATE: Final = 8_000
MAX_RATE: Final = 48_000


class LiveDecoder:
    """One stream. What comes out depends on the bytes alone, not on their packets."""

    def __init__(self, encoding: str, sample_rate: int, channels: int = 1) -> None:
        """``encoding`` is "pcm16" (signed, little-endian), "mulaw" or "alaw"; one or two channels,
        interleaved. Raises ValueError, whose text is for the caller."""
        if encoding not in _SAMPLE_BYTES:
            raise ValueError(f"encoding must be one of {', '.join(_SAMPLE_BYTES)}")
        if not MIN_RATE <= sample_rate <= MAX_RATE or sample_rate % RATE_STEP:
            raise ValueError(
                f"sample_rate must be from {MIN_RATE} to {MAX_RATE} Hz and a multiple of"
                f" {RATE_STEP} Hz"
            )
        if channels not in (1, 2):
            raise ValueError("channels must be 1 or 2")
        self._encoding = encoding
        self._sample_rate = sample_rate
        self._channels = channels
        self._frame_bytes = channels * _SAMPLE_BYTES[encoding]
        self._resampler = Resampler(sample_rate, channels)
        self._carried = b""
        """The beginning of a frame (one sample of each channel) whose rest is still to come."""

    @property
    def delay(self) -> float:
        """Seconds of sound that ``feed`` holds back: 0 at 16 kHz, 2 ms above, 4 ms at 8 kHz.
        Positions are not shifted by it."""
        return self._resampler.lookahead / self._sample_rate

    def feed(self, content: bytes) -> list[Samples]:
        """A packet of any size -> one array a channel, equally long, perhaps empty."""
        content = self._carried + content
        whole = len(content) // self._frame_bytes * self._frame_bytes
        self._carried = content[whole:]
        return list(self._resampler.push(self._samples(content[:whole])))

    def flush(self) -> list[Samples]:
        """What ``feed`` held back, as if silence followed; half a frame is dropped. Call once,
        when nothing more comes."""
        return list(self._resampler.finish())

    def __repr__(self) -> str:
        return f"<LiveDecoder {self._encoding}, {self._sample_rate} Hz, {self._channels} channels>"

    def _samples(self, content: bytes) -> Samples:
        """(channels, frames), as the channels were interleaved."""
        table = _TABLES.get(self._encoding)
        if table is None:
            linear = np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)
        else:
            linear = table[np.frombuffer(content, np.uint8)]
        return np.ascontiguousarray(linear.reshape(-1, self._channels).T)


def _mulaw_table() -> Samples:
    """ITU-T G.711, table 2: 8 chords of 16 steps, all bits inverted; 14 bits, scaled to 16."""
    codes = ~np.arange(256) & 0xFF
    chord, step = (codes >> 4) & 7, codes & 15
    magnitude = (((step << 3) + 132) << chord) - 132
    return _scaled(np.where(codes & 0x80, -magnitude, magnitude))


def _alaw_table() -> Samples:
    """ITU-T G.711, table 1: the first two chords are one, even bits inverted; 13 bits, to 16."""
    codes = np.arange(256) ^ 0x55
    chord, step = (codes >> 4) & 7, codes & 15
    magnitude = ((step << 4) + 8 + np.where(chord, 256, 0)) << np.maximum(chord - 1, 0)
    return _scaled(np.where(codes & 0x80, magnitude, -magnitude))


def _scaled(linear: NDArray[np.int_]) -> Samples:
    return linear.astype(np.float32) / np.float32(32768)


_SAMPLE_BYTES: Final = {"pcm16": 2, "mulaw": 1, "alaw": 1}
_TABLES: Final = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}
