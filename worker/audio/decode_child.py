"""The child process that decodes one file for worker.audio.decoding and exits.

Everything about the file is hostile: its name is never seen, its format is recognised by content
among those allowed here, and by the time it is opened this process can reach nothing else.
"""

import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import av
from av.stream import Discard

from worker.audio import SAMPLE_RATE, sandbox
from worker.audio.decode_messages import (
    BLOCK_SAMPLES,
    DESCRIPTION,
    END,
    FAILURE,
    FRAME_HEADER,
    MAX_TEXT_BYTES,
    READY,
    SAMPLES,
    AudioDescription,
    DecodeLimits,
    DecodeWish,
    unpack_request,
)

_FORMATS: Final = (
    "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,ac3,eac3,mov,matroska,avi,flv,mpeg,mpegts,asf,"
    "amr,amrnb,amrwb,wv"
)
_DECODERS: Final = (
    "aac,aac_latm,ac3,eac3,alac,amrnb,amrwb,dca,flac,gsm,gsm_ms,mlp,mp1,mp1float,mp2,mp2float,"
    "mp3,mp3float,nellymoser,opus,speex,truehd,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,"
    "wmavoice,adpcm_g722,adpcm_g726,adpcm_g726le,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,"
    "adpcm_yamaha,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,"
    "pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8"
)
# Streams of bare frames tell no length; FFmpeg guesses one from the bit rate.
_FORMATS_WITH_GUESSED_LENGTH: Final = frozenset({"mp3", "aac", "ac3", "eac3", "mpeg", "mpegts"})
_MICROSECONDS: Final = 1_000_000


class Refused(Exception):
    """The file is not decoded further; the argument is a key of errors._REFUSALS."""

    def __init__(self, reason: str, audio_tracks: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.audio_tracks = audio_tracks


def main() -> None:
    """Answer one request on file descriptor 0, a Unix socket. argv[-1] is the parent's id."""
    parent = socket.socket(fileno=0)
    sandbox.die_with_parent(int(sys.argv[-1]))
    _prepare_decoder()
    _send_text(parent, READY, {})
    message, descriptors, _, _ = socket.recv_fds(parent, MAX_TEXT_BYTES, 1)
    if not message:
        return  # the parent is gone, or needs no child after all
    limits, wish = unpack_request(message)
    sandbox.limit_resources(
        limits.memory_bytes,
        limits.cpu_seconds + limits.cpu_seconds_per_second * limits.max_seconds,
    )
    sandbox.allow_cpu_seconds(limits.cpu_seconds)
    is_filtered = sandbox.filter_system_calls()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody wants the rest
        _decode_file(parent, _Recording(descriptors[0], limits, wish), is_filtered)


def _decode_file(parent: socket.socket, recording: "_Recording", is_filtered: bool) -> None:
    try:
        recording.open()
        blocks = recording.blocks()
        # Held back until sound has come out, so that a file that cannot be read is refused at once.
        first = next(blocks, None)
        described = asdict(recording.description) | {"is_filtered": is_filtered}
        _send_text(parent, DESCRIPTION, described)
        if first is not None:
            _send(parent, SAMPLES, first)
        for block in blocks:
            _send(parent, SAMPLES, block)
        _send_text(parent, END, {})
    except Refused as refusal:
        _send_failure(parent, refusal.reason, refusal.__cause__, refusal.audio_tracks)
    except MemoryError as error:
        _send_failure(parent, "too_costly", error)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (av.FFmpegError, UnicodeError) as error:
        _send_failure(parent, "crashed", error)
    except Exception as error:  # around one request: a fault of ours
        _send_failure(parent, "failed", error)


class _Recording:
    """One file being decoded: FFmpeg's container, one audio stream, and what went by."""

    description: AudioDescription

    def __init__(self, file: int, limits: DecodeLimits, wish: DecodeWish) -> None:
        self._file = file
        self._limits = limits
        self._wish = wish
        self._damaged_packets = 0
        self._sound_packets = 0
        self._samples = 0

    def open(self) -> None:
        """Raises Refused."""
        self._container = _open_container(self._file)
        self._stream = self._wished_stream()
        self._check_stream()
        for stream in self._container.streams:
            if stream.index != self._stream.index:
                stream.discard = Discard.all
        splits_channels = self._wish.splits_channels and self._stream.codec_context.channels == 2
        self.description = AudioDescription(
            channels=self._stream.codec_context.channels,
            sample_rate=self._stream.codec_context.sample_rate,
            duration=self._declared_seconds(),
            block_channels=2 if splits_channels else 1,
        )
        self._check_declared_length()

    def blocks(self) -> Iterator[memoryview]:
        """Float32 samples at 16 kHz, channels interleaved, BLOCK_SAMPLES at most in one block."""
        max_samples = round(self._limits.max_seconds * SAMPLE_RATE)
        for block in self._resampled():
            self._samples += len(block) // (4 * self.description.block_channels)
            if self._samples > max_samples:
                raise Refused("too_long")
            self._check_damage()
            sandbox.allow_cpu_seconds(
                self._limits.cpu_seconds
                + self._limits.cpu_seconds_per_second * self._samples / SAMPLE_RATE
            )
            yield block
        self._check_damage()

    def _resampled(self) -> Iterator[memoryview]:
        resampler: _Resampler | None = None
        for frame in self._frames():
            if resampler is None or not resampler.fits(frame):
                if resampler is not None:
                    yield from resampler.finish()
                self._check_ranges(frame.sample_rate, frame.layout.nb_channels)
                resampler = _Resampler(frame, self.description.block_channels)
            yield from resampler.push(frame)
        if resampler is not None:
            yield from resampler.finish()

    def _frames(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError):
                self._damaged_packets += 1
                continue
            self._sound_packets += bool(frames)
            yield from frames

    def _packets(self) -> Iterator[Any]:
        """A container that breaks off is at its end: what came before is good."""
        try:
            yield from self._container.demux(self._stream)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            if self._wish.must_be_whole:
                raise Refused("broke_off") from error
            self._damaged_packets += 1

    def _wished_stream(self) -> Any:
        tracks, track = self._container.streams.audio, self._wish.track
        if track is None or not tracks:
            best = self._container.streams.best("audio")
            if best is None:
                raise Refused("no_audio")
            return best
        if not 0 <= track < len(tracks):
            raise Refused("no_such_track", len(tracks))
        return tracks[track]

    def _check_damage(self) -> None:
        """Chance syncwords in other data decode to a few frames among many errors."""
        if self._damaged_packets > self._sound_packets:
            raise Refused("not_audio")

    def _check_stream(self) -> None:
        codec = self._stream.codec_context
        if codec is None or codec.name not in _DECODERS.split(","):
            raise Refused("unknown_codec")
        self._check_ranges(codec.sample_rate, codec.channels)
        codec.thread_count = 1

    def _check_ranges(self, sample_rate: int, channels: int) -> None:
        if not self._limits.min_sample_rate <= sample_rate <= self._limits.max_sample_rate:
            raise Refused("sample_rate")
        if not 1 <= channels <= self._limits.max_channels:
            raise Refused("channels")

    def _declared_seconds(self) -> float | None:
        stream = self._stream
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        elif self._container.duration:
            seconds = self._container.duration / _MICROSECONDS
        else:
            return None
        return seconds if seconds > 0 else None

    def _check_declared_length(self) -> None:
        """Refuse early what says it is too long, unless that is only FFmpeg's guess."""
        declared = self.description.duration
        if declared is None or self._container.format.name in _FORMATS_WITH_GUESSED_LENGTH:
            return
        if declared > self._limits.max_seconds:
            raise Refused("too_long")


class _Resampler:
    """Frames of one format -> blocks of 16 kHz float32, mono or two channels interleaved.

    To mono, the channels' weights sum to one, so that mixing cannot clip; known layouts (5.1, ...)
    keep FFmpeg's weights, which favour the centre where speech is. Channels without a known place
    count alike. Two of two channels stay as they are.
    """

    def __init__(self, template: Any, channels: int) -> None:
        self._format = _format_of(template)
        self._sample_bytes = 4 * channels
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "abuffer",
                sample_rate=str(template.sample_rate),
                sample_fmt=template.format.name,
                channel_layout=template.layout.name,
                time_base=f"1/{template.sample_rate}",
            )
        ]
        if pan := _pan(template.layout, channels):
            nodes.append(graph.add("pan", pan))
        nodes += [
            graph.add(
                "aresample",
                out_sample_rate=str(SAMPLE_RATE),
                out_sample_fmt="flt",
                out_chlayout="mono" if channels == 1 else "stereo",
                rematrix_maxval="1.0",
            ),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        graph.set_audio_frame_size(BLOCK_SAMPLES // channels)
        self._graph = graph

    def fits(self, frame: Any) -> bool:
        return _format_of(frame) == self._format

    def push(self, frame: Any) -> Iterator[memoryview]:
        frame.pts = None  # only the samples count; a broken clock must not stretch them
        self._graph.push(frame)
        return self._pull()

    def finish(self) -> Iterator[memoryview]:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Iterator[memoryview]:
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield memoryview(frame.planes[0])[: frame.samples * self._sample_bytes]


def _open_container(file: int) -> Any:
    options = {
        "fd": str(file),
        "protocol_whitelist": "fd",
        "format_whitelist": _FORMATS,
        "codec_whitelist": _DECODERS,
    }
    try:
        return av.open("fd:", container_options=options, metadata_errors="replace")
    except MemoryError:  # av has its own, which is an FFmpegError too
        raise
    except (av.FFmpegError, ValueError) as error:
        raise Refused("not_audio") from error


def _format_of(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _pan(layout: Any, channels: int) -> str | None:
    """FFmpeg's filter ahead of resampling, where its own mixing would not do."""
    given = layout.nb_channels
    if channels == given == 2:
        return "stereo|c0=c0|c1=c1"
    if _has_known_places(layout):
        return None
    gains = "+".join(f"{1 / given:.9f}*c{number}" for number in range(given))
    return f"mono|c0={gains}"


def _has_known_places(layout: Any) -> bool:
    """Stereo, 5.1, ...; FFmpeg names a layout it knows nothing of "4 channels"."""
    return not layout.name.endswith("channels")


def _prepare_decoder() -> None:
    """Decode a moment of silence, so that no module is looked for once files are out of reach."""
    if sys.platform != "linux":
        return
    file = os.memfd_create("silence")
    os.write(file, _silent_wav())
    os.lseek(file, 0, os.SEEK_SET)
    recording = _Recording(file, DecodeLimits(), DecodeWish())
    recording.open()
    for _ in recording.blocks():
        pass
    os.close(file)


def _silent_wav() -> bytes:
    """0.1 s of 44.1 kHz 16-bit stereo: it has to be mixed and resampled."""
    samples = bytes(2 * 2 * 4410)
    header = struct.pack("<HHIIHH", 1, 2, 44_100, 44_100 * 4, 4, 16)
    chunks = b"fmt " + struct.pack("<I", len(header)) + header
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _send(parent: socket.socket, kind: bytes, payload: bytes | memoryview) -> None:
    parent.sendall(FRAME_HEADER.pack(kind, len(payload)))
    parent.sendall(payload)


def _send_failure(
    parent: socket.socket, reason: str, cause: BaseException | None, audio_tracks: int = 0
) -> None:
    content = {"reason": reason, "detail": repr(cause)[:200], "audio_tracks": audio_tracks}
    _send_text(parent, FAILURE, content)


def _send_text(parent: socket.socket, kind: bytes, content: dict[str, Any]) -> None:
    _send(parent, kind, json.dumps(content).encode())
