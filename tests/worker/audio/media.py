"""Recordings made on the spot: tones in every container, and files that lie."""

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

RATE = 44_100

# file ending: (container, codec, sample rate)
FORMATS: dict[str, tuple[str, str, int]] = {
    "wav": ("wav", "pcm_s16le", 44_100),
    "mulaw.wav": ("wav", "pcm_mulaw", 8_000),
    "flac": ("flac", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "m4a": ("ipod", "aac", 44_100),
    "aac": ("adts", "aac", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "mkv": ("matroska", "pcm_s16le", 48_000),
    "ts": ("mpegts", "mp2", 48_000),
    "aiff": ("aiff", "pcm_s16be", 22_050),
    "caf": ("caf", "pcm_s16be", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "ac3": ("ac3", "ac3", 48_000),
}

# file ending: (container, video codec, audio codec)
FILMS: dict[str, tuple[str, str, str]] = {
    "mkv": ("matroska", "libx264", "aac"),
    "mp4": ("mp4", "mpeg4", "aac"),
    "avi": ("avi", "mpeg4", "libmp3lame"),
    "ts": ("mpegts", "mpeg2video", "mp2"),
}


def tone(seconds: float, *, rate: int = RATE, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def write_recording(
    path: Path, samples: NDArray[np.float32], ending: str, *, layout: str = "stereo"
) -> Path:
    """Mono samples at RATE, the same on every channel, in the format of `ending`."""
    container_name, codec, rate = FORMATS[ending]
    with av.open(str(path), "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000
        _mux_samples(container, stream, samples)
    return path


def write_film(path: Path, samples: NDArray[np.float32], ending: str) -> Path:
    """Mono samples at RATE under moving pictures, which are the first stream."""
    container_name, video_codec, audio_codec = FILMS[ending]
    with av.open(str(path), "w", format=container_name) as container:
        video = container.add_stream(video_codec, rate=25, width=64, height=64, pix_fmt="yuv420p")
        audio = container.add_stream(audio_codec, rate=RATE, layout="mono")
        for number in range(round(len(samples) / RATE * 25)):
            picture = np.full((96, 64), number % 256, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(video.encode(None))
        _mux_samples(container, audio, samples)
    return path


def write_tracks(path: Path, tracks: list[NDArray[np.float32]], container_name: str) -> Path:
    """One mono audio track for each samples at RATE."""
    with av.open(str(path), "w", format=container_name) as container:
        streams = [container.add_stream("aac", rate=RATE, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            _mux_samples(container, stream, samples)
    return path


def write_with_cover(path: Path, samples: NDArray[np.float32], ending: str) -> Path:
    """Mono samples at RATE in a music file that carries a picture."""
    container_name, codec, rate = FORMATS[ending]
    if container_name == "ipod":  # FFmpeg's name for M4A, whose writer takes no picture
        container_name = "mp4"
    with av.open(str(path), "w", format=container_name) as container:
        audio = container.add_stream(codec, rate=rate, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        container.mux(cover.encode(None))
        _mux_samples(container, audio, samples)
    return path


def _mux_samples(container: Any, stream: Any, samples: NDArray[np.float32]) -> None:
    resampler = av.AudioResampler(
        format=stream.format.name,
        layout=stream.layout.name,
        rate=stream.rate,
        frame_size=stream.codec_context.frame_size or 1024,
    )
    source = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    source.sample_rate = RATE
    for frame in [*resampler.resample(source), *resampler.resample(None)]:
        frame.pts = None
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def wav_bytes(
    content: bytes,
    *,
    rate: int = 16_000,
    channels: int = 1,
    code: int = 1,
    sample_bytes: int = 2,
    data_size: int | None = None,
) -> bytes:
    """A WAV file written by hand; `data_size` is what its header claims. Code 1 PCM, 3 float."""
    claimed = len(content) if data_size is None else data_size
    frame_bytes = channels * sample_bytes
    layout = (code, channels, rate, rate * frame_bytes, frame_bytes, sample_bytes * 8)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *layout)
    head += b"data" + struct.pack("<I", claimed)
    return b"RIFF" + struct.pack("<I", min(len(head) + claimed, 0xFFFFFFFF)) + head + content


def flac_bytes(*, rate: int, total_samples: int) -> bytes:
    """One constant frame of 65,535 samples, under a header that claims `total_samples`."""
    # RFC 9639, section 8.2 (streaminfo) and 9 (frame).
    block = 65_535
    packed = (rate << 44) | (0 << 41) | (15 << 36) | total_samples
    info = struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    header = bytes([0xFF, 0xF8, 0x70, 0x00, 0x00]) + struct.pack(">H", block - 1)
    header += bytes([_crc(header, 0x07, 8)])
    frame = header + bytes([0x00, 0x00, 0x00])
    frame += struct.pack(">H", _crc(frame, 0x8005, 16))
    return b"fLaC" + bytes([0x80, 0, 0, 34]) + info + frame


def _crc(content: bytes, polynomial: int, width: int) -> int:
    remainder, top = 0, 1 << (width - 1)
    for byte in content:
        remainder ^= byte << (width - 8)
        for _ in range(8):
            shifted = remainder << 1
            remainder = (shifted ^ polynomial if remainder & top else shifted) & ((1 << width) - 1)
    return remainder
