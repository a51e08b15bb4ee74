"""What the decoder's parent and its child process say to each other over one socket pair.

The parent sends one request with the open file; the child answers in frames: a kind, a length,
a payload. Standard library only, because the child pays for every import with start-up time.
"""

import json
import struct
from dataclasses import asdict, dataclass
from typing import Final

BLOCK_SAMPLES: Final = 160_000
"""Samples (16 kHz float32, of all channels) in one block at most: 10 s of mono, 640 kB."""

FRAME_HEADER: Final = struct.Struct("<cI")
MAX_TEXT_BYTES: Final = 4096

READY: Final = b"R"
DESCRIPTION: Final = b"D"
SAMPLES: Final = b"S"
END: Final = b"E"
FAILURE: Final = b"F"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one file may cost. Over any of these the file is refused, wherever it was found."""

    max_seconds: float = 12 * 3600.0
    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000
    max_channels: int = 32
    cpu_seconds: float = 15.0
    """CPU time allowed before any audio came out."""

    cpu_seconds_per_second: float = 0.05
    """CPU time allowed on top for each second of audio that came out."""

    memory_bytes: int = 2 * 1024**3
    """Address space of the child."""

    stall_timeout: float = 60.0
    """Seconds the child may take for one block."""


DEFAULT_LIMITS: Final = DecodeLimits()


@dataclass(frozen=True, slots=True)
class DecodeWish:
    """What of a file is wanted."""

    track: int | None = None
    """Which audio stream, counted from 0; None: the container's best."""

    splits_channels: bool = False
    """Two channels stay apart; one or more than two become one."""

    must_be_whole: bool = False
    """Refuse a container that breaks off, instead of giving what came before."""


@dataclass(frozen=True, slots=True)
class AudioDescription:
    """What the file says of itself."""

    channels: int
    sample_rate: int
    duration: float | None
    """Seconds by the container's own claim; None where it claims nothing. It may be wrong."""
    block_channels: int = 1
    """Channels of the samples that the child sends, interleaved: 1, or 2 where wished."""


def pack_request(limits: DecodeLimits, wish: DecodeWish) -> bytes:
    return json.dumps([asdict(limits), asdict(wish)]).encode()


def unpack_request(message: bytes) -> tuple[DecodeLimits, DecodeWish]:
    limits, wish = json.loads(message)
    return DecodeLimits(**limits), DecodeWish(**wish)
