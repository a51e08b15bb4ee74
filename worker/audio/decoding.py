"""Any recording -> blocks of 16 kHz float32, each file in a child process that can be killed.

FFmpeg reads what strangers send, so it runs where it can do no harm: decode_child.py inside
sandbox.py. Blocks come as fast as they are taken; a full socket holds the child back.
"""

import contextlib
import json
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.decode_messages import (
    DEFAULT_LIMITS,
    DESCRIPTION,
    END,
    FAILURE,
    SAMPLES,
    AudioDescription,
    DecodeLimits,
    DecodeWish,
)
from worker.audio.decoder_process import (
    DecoderProcess,
    ProcessEnded,
    briefed,
    process_command,
    start_process,
)
from worker.audio.errors import DecoderFailed, DecodingClosed, UndecodableAudio, refusal
from worker.audio.growth import GrowingFile

__all__ = [
    "DEFAULT_LIMITS",
    "AudioDecoder",
    "AudioDescription",
    "DecodeLimits",
    "DecodedAudio",
    "DecoderFailed",
    "DecodingClosed",
    "Samples",
    "UndecodableAudio",
]

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]

LOUDEST = 4.0
"""Full scale is 1; encoders overshoot it a little. Beyond this a sample is no sound, and its square
would be infinite in the features."""


class AudioDecoder:
    """Opens recordings. Thread-safe; how many are open at a time is the caller's matter.

    Keeps `spare_children` processes started ahead (37 MB each), so that a short clip does not
    wait for one. Close it last: its children die with the thread in it that started them.
    """

    def __init__(self, spare_children: int = 1) -> None:
        self._command = process_command()
        # The kernel takes PDEATHSIG's "parent" to be the thread that started a child. This one
        # thread lives as long as the decoder, whoever calls open().
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")
        self._lock = threading.Lock()
        self._spare_children = spare_children
        self._spares: deque[Future[DecoderProcess]] = deque()
        self._is_closed = False
        self._replenish()

    def open(
        self,
        path: Path,
        limits: DecodeLimits = DEFAULT_LIMITS,
        *,
        track: int | None = None,
        splits_channels: bool = False,
    ) -> "DecodedAudio":
        """Returns when the first samples are decoded; the caller closes the result.

        `track`: which audio stream, counted from 0; None takes the container's best.
        `splits_channels`: keep two channels apart.
        Raises UndecodableAudio, DecoderFailed, or OSError where `path` cannot be opened.
        """
        wish = DecodeWish(track, splits_channels)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            process = self._briefed_process(file, limits, wish)
        finally:
            os.close(file)
        return self._opened(process, limits)

    def open_growing(
        self,
        growing: GrowingFile,
        limits: DecodeLimits = DEFAULT_LIMITS,
        *,
        track: int | None = None,
        splits_channels: bool = False,
    ) -> "DecodedAudio":
        """As `open`, for a file that is still being written: read once, front to back, while it
        grows. The caller closes it after the result.

        Raises UndecodableAudio also for what cannot be read so, now or while iterating, though the
        whole file may be good; and DecodingClosed.
        """
        wish = DecodeWish(track, splits_channels, must_be_whole=True)
        process = self._briefed_process(growing.reader, limits, wish)
        growing.forget_reader()
        process.pour(growing)
        return self._opened(process, limits)

    def _opened(self, process: DecoderProcess, limits: DecodeLimits) -> "DecodedAudio":
        try:
            return DecodedAudio(process, limits)
        except BaseException:
            process.end()
            raise
        finally:
            self._replenish()  # only now, so that it does not compete with the first samples

    def close(self) -> None:
        """End the spare children. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            spares = list(self._spares)
            self._spares.clear()
        for spare in spares:
            with contextlib.suppress(OSError):  # one that did not start needs no end
                spare.result().end()
        self._starter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AudioDecoder {len(self._spares)} spare>"

    def _briefed_process(self, file: int, limits: DecodeLimits, wish: DecodeWish) -> DecoderProcess:
        with self._lock:
            spare = self._spares.popleft() if self._spares else self._start()
        try:
            return briefed(spare.result(), file, limits, wish)
        except (OSError, DecoderFailed):
            logger.warning("decoder child was lost before its work, starting another")
        with self._lock:
            fresh = self._start()
        try:
            return briefed(fresh.result(), file, limits, wish)
        except OSError as error:
            raise DecoderFailed("The decoder process could not be started.") from error

    def _replenish(self) -> None:
        with self._lock:
            while not self._is_closed and len(self._spares) < self._spare_children:
                self._spares.append(self._start())

    def _start(self) -> Future[DecoderProcess]:
        if self._is_closed:
            raise DecoderFailed("The decoder is closed.")
        return self._starter.submit(start_process, self._command)


class DecodedAudio:
    """One recording being decoded: iterate for blocks of samples, close when done.

    Blocks are float32 of at most 10 s, within [-1, 1] but for overshoots of the encoder: (samples,)
    of mono, or (samples, 2) where channels are split. The same file gives the same samples each
    time; all its blocks have one shape. Of a damaged file comes what can be read. Iterating may
    raise UndecodableAudio, DecoderFailed, or DecodingClosed after close() in another thread.
    """

    description: AudioDescription

    def __init__(self, process: DecoderProcess, limits: DecodeLimits) -> None:
        self._process = process
        self._limits = limits
        self._samples = 0
        self._is_finished = False
        self._ready: deque[Samples] = deque()
        self.description = self._read_description()

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        while not self._ready:
            if self._is_finished:
                raise StopIteration
            self._advance()
        return self._ready.popleft()

    def close(self) -> None:
        """Kill and reap the child, whatever it is doing. Any thread may call this, any time."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DecodedAudio {self._samples / SAMPLE_RATE:.1f} s so far, {self.description}>"

    def _advance(self) -> None:
        """One more frame of the child."""
        kind, payload = self._receive()
        if kind == SAMPLES:
            block = self._checked(self._shaped(np.frombuffer(payload, dtype=np.float32)))
            self._ready.append(block)
            return
        self._process.end()
        if kind != END:
            raise self._refusal("crashed", f"frame {kind!r} out of order")
        self._is_finished = True

    def _shaped(self, samples: Samples) -> Samples:
        channels = self.description.block_channels
        if channels == 1:
            return samples
        if len(samples) % channels:
            self._process.end()
            raise self._refusal("crashed", "half a sample")
        return samples.reshape(-1, channels)

    def _read_description(self) -> AudioDescription:
        kind, payload = self._receive()
        if kind != DESCRIPTION:
            raise self._refusal("crashed", f"frame {kind!r} out of order")
        content = self._parsed(payload)
        if not content.get("is_filtered"):
            _warn_unfiltered_once()
        duration = content.get("duration")
        try:
            return AudioDescription(
                channels=int(content["channels"]),
                sample_rate=int(content["sample_rate"]),
                duration=None if duration is None else float(duration),
                block_channels=2 if content["block_channels"] == 2 else 1,
            )
        except (KeyError, TypeError, ValueError):
            raise self._refusal("crashed", "malformed description") from None

    def _parsed(self, payload: bytearray) -> dict[str, Any]:
        try:
            content = json.loads(payload)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self._refusal("crashed", "malformed text frame")
        return content

    def _receive(self) -> tuple[bytes, bytearray]:
        try:
            kind, payload = self._process.receive()
        except TimeoutError:
            self._process.end()
            raise self._refusal("too_costly", "stalled") from None
        except ProcessEnded as ended:
            raise self._failure(ended.status) from None
        if kind == FAILURE:
            self._process.end()
            content = self._parsed(payload)
            reason, detail = str(content.get("reason")), str(content.get("detail"))
            if reason == "failed":
                logger.error("decoder failed detail=%r", detail[:200])
                raise DecoderFailed("The recording could not be decoded this time.")
            raise self._refusal(reason, detail, _count(content.get("audio_tracks")))
        return kind, payload

    def _checked(self, samples: Samples) -> Samples:
        """The child counts too, but a file may have taken it over."""
        self._samples += len(samples)
        if self._samples > self._limits.max_seconds * SAMPLE_RATE + 1:
            self._process.end()
            raise self._refusal("too_long", "counted by the parent")
        if not (np.abs(samples) <= LOUDEST).all():  # float WAV files may hold anything
            np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.clip(samples, -LOUDEST, LOUDEST, out=samples)
        return samples

    def _failure(self, status: int) -> Exception:
        if self._process.is_closed:
            return DecodingClosed("The recording was closed while it was being decoded.")
        if status == -signal.SIGKILL:
            return DecoderFailed("The decoder process was killed from outside.")
        reason = "too_costly" if status == -signal.SIGXCPU else "crashed"
        return self._refusal(reason, f"exit status {status}")

    def _refusal(self, reason: str, detail: str, audio_tracks: int = 0) -> UndecodableAudio:
        logger.info("recording was refused reason=%r detail=%r", reason[:40], detail[:200])
        return refusal(reason, self._limits, audio_tracks)


def _count(content: object) -> int:
    return content if isinstance(content, int) else 0


_has_warned = threading.Event()


def _warn_unfiltered_once() -> None:
    if not _has_warned.is_set():
        _has_warned.set()
        logger.warning("decoding runs without a system-call filter: this machine offers none")
