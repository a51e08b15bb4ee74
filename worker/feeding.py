"""One recording on its way in: fetched where needed, decoded, cut into chunks, in its own thread.

Knows nothing of inference: it hands over chunks as fast as they are finished, a few ahead.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protocol.failures import FailureCode
from protocol.transcription import Stage
from worker.audio.chunking import Chunk, Chunker
from worker.audio.decoding import (
    AudioDecoder,
    DecodedAudio,
    DecodeLimits,
    DecoderFailed,
    DecodingClosed,
    UndecodableAudio,
)
from worker.audio.growth import GrowingFile, Growth
from worker.chunks_ahead import ChunksAhead
from worker.decoder_places import DecoderPlaces
from worker.fetching import Fetch, UploadLost, fetched_upload
from worker.mailbox import Mailbox, Pieces
from worker.recordings import CutDifferently, Recording

logger = logging.getLogger(__name__)

SPOOL_FILE = re.compile(r"[0-9a-f]{1,64}/[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True, eq=False)
class ChunkCut:
    """A chunk waits for inference."""

    recording: Recording
    chunk: Chunk


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """The upload is being fetched, or decoded and its length known where its container tells."""

    recording: Recording
    stage: Stage
    total_seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CutAll:
    """No chunk follows."""

    recording: Recording
    samples: int


@dataclass(frozen=True, slots=True, eq=False)
class FeedingFailed:
    """The recording cannot be read (on)."""

    recording: Recording
    code: FailureCode
    message: str


FeedEvent = ChunkCut | Moved | CutAll | FeedingFailed


class ChannelsMissing(Exception):
    """Channels were to be transcribed apart, and the recording does not have two."""


class MakesWay(Exception):
    """The recording is longer than a brief place is for."""


@dataclass(frozen=True, slots=True)
class FeedingTools:
    """What all feeders of one engine share."""

    decoder: AudioDecoder
    decoder_places: DecoderPlaces
    decoding_slots: threading.Semaphore
    """Held while a block is decoded: few decoders use the CPU at a time, and none that waits for
    inference keeps others from it."""
    chunks_ahead: ChunksAhead
    limits: DecodeLimits
    new_chunker: Callable[[], Chunker]
    mailbox: Mailbox
    spool_folder: Path
    fetch_folder: Path
    deliver: Callable[[FeedEvent], None]


class Feeder:
    """The thread of one recording. `stop` may be called at any time, by any thread."""

    def __init__(self, recording: Recording, tools: FeedingTools) -> None:
        self._recording = recording
        self._tools = tools
        self._stopped = threading.Event()
        self._decoded: DecodedAudio | None = None
        self._pieces: Pieces | None = None
        self._cut_chunks = 0
        """How many were handed over; all are cut again where forward reading fails."""
        self._cut_end = 0
        self._total_seconds: float | None = None
        request = recording.request
        self._growth = Growth(request.upload_bytes, is_whole=request.is_upload_whole)
        if not tools.mailbox.sees_spool:
            self._pieces = tools.mailbox.expect_pieces(recording.request.request_id)
        self._lock = threading.Lock()
        name = f"feeder {recording.request.request_id}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def chunk_finished(self) -> None:
        """A delivered chunk is transcribed, or needs no inference: another one may be cut."""
        self._tools.chunks_ahead.give_back(self)

    def upload_grew(self, upload_bytes: int, *, is_whole: bool) -> None:
        """So much of the upload is there by now."""
        self._growth.tell(upload_bytes, is_whole=is_whole)

    def stop(self) -> None:
        """Give up: the decoder is killed, and at most what is being delivered now still arrives."""
        self._stopped.set()
        self._growth.give_up()
        self._tools.chunks_ahead.forget(self)
        self._tools.decoder_places.wake()
        if self._pieces is not None:
            self._pieces.put(None)
        with self._lock:
            if self._decoded is not None:
                self._decoded.close()

    def join(self, seconds: float) -> None:
        """Wait so long for the thread of a stopped feeder."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with closing(self._growth), self._upload() as (path, growth):
                self._read(path, growth)
        except UndecodableAudio as error:
            self._fail(FailureCode(error.code), str(error))
        except DecoderFailed:
            self._fail(
                FailureCode.INFERENCE_FAILED,
                "The recording could not be decoded this time. Try again.",
            )
        except (OSError, UploadLost) as error:
            if self._stopped.is_set():
                return  # the caller left, and the upload with it
            # Where its caller has just left, the word of that is on its way.
            is_gone = isinstance(error, FileNotFoundError)
            logger.log(
                logging.INFO if is_gone else logging.ERROR,
                "upload could not be read request_id=%s error=%s",
                self._recording.request.request_id,
                type(error).__name__,
            )
            self._fail(FailureCode.INPUT_LOST, "The upload was lost. Send it again.")
        except CutDifferently:
            self._fail(
                FailureCode.CUT_DIFFERENTLY,
                "The recording has to be transcribed from its start. Send it again.",
            )
        except ChannelsMissing:
            self._fail(
                FailureCode.CHANNELS_MISSING,
                "The recording does not have two channels. Send one with a speaker on each.",
            )
        except DecodingClosed:
            pass  # by stop(): nobody waits
        except Exception:
            logger.exception("feeder failed request_id=%s", self._recording.request.request_id)
            self._fail(FailureCode.INFERENCE_FAILED, "The recording could not be read. Try again.")

    def _upload(self) -> AbstractContextManager[tuple[Path, Growth]]:
        request, tools = self._recording.request, self._tools
        if self._pieces is not None:
            moved = partial(self._deliver, Moved(self._recording, Stage.FETCHING))
            fetch = Fetch(request, tools.mailbox, self._pieces, moved, self._growth)
            return fetched_upload(fetch, tools.fetch_folder)
        if not SPOOL_FILE.fullmatch(request.spool_file):
            raise UploadLost
        return nullcontext((tools.spool_folder / request.spool_file, self._growth))

    def _read(self, path: Path, growth: Growth) -> None:
        places, whole = self._tools.decoder_places, partial(self._tools.decoder.open, path)
        try:
            # What is there already is better opened as a file: WAV then has a length, for one.
            is_slow = self._recording.request.reads_forward and not growth.is_whole
            if is_slow and self._read_forward(path, growth):
                return
            places.leave(self)
            growth.wait(lambda: growth.is_whole)
            self._cut_in_place(whole, growth)
        except MakesWay:
            if places.return_later(
                self, is_stopped=self._stopped.is_set, still_waits=self._tell_waiting
            ):
                self._cut_recording(whole)
        finally:
            places.leave(self)

    def _read_forward(self, path: Path, growth: Growth) -> bool:
        try:
            with GrowingFile(path, growth, self._without_slot) as growing:
                self._cut_in_place(partial(self._tools.decoder.open_growing, growing), growth)
        except (UndecodableAudio, DecoderFailed):
            request_id = self._recording.request.request_id
            logger.info("upload is read again when it is whole request_id=%s", request_id)
            return False
        return True

    def _cut_in_place(self, opened: Callable[..., DecodedAudio], growth: Growth) -> None:
        """An upload that may be slow to come gets no brief place."""
        if self._tools.decoder_places.enter(
            self,
            may_be_brief=lambda: growth.is_whole,
            is_stopped=self._stopped.is_set,
            still_waits=self._tell_waiting,
        ):
            self._cut_recording(opened)

    def _tell_waiting(self) -> None:
        """Those in front move, so this one does."""
        self._deliver(Moved(self._recording, Stage.DECODING, self._total_seconds))

    def _cut_recording(self, opened: Callable[..., DecodedAudio]) -> None:
        chunker = self._tools.new_chunker()
        samples = 0
        with self._open(opened) as decoded:
            if self._recording.request.splits_channels and decoded.description.block_channels < 2:
                raise ChannelsMissing
            self._total_seconds = decoded.description.duration
            self._deliver(Moved(self._recording, Stage.DECODING, self._total_seconds))
            while not self._stopped.is_set():
                with self._tools.decoding_slots:
                    block = next(decoded, None)
                if block is None:
                    break
                samples += len(block)
                for chunk in chunker.push(block):
                    self._make_way_for_beginnings(chunk)
                    self._hand_over(chunk)
        self._tools.decoder_places.leave(self)
        if not self._stopped.is_set():
            for chunk in chunker.finish():
                self._hand_over(chunk)
        self._deliver(CutAll(self._recording, samples))

    def _make_way_for_beginnings(self, chunk: Chunk) -> None:
        """Raises MakesWay where this chunk might wait for inference, and others for its place."""
        is_beginning = chunk.index < self._tools.chunks_ahead.least
        if not (is_beginning or self._tools.decoder_places.stays(self)):
            raise MakesWay

    def _open(self, opened: Callable[..., DecodedAudio]) -> DecodedAudio:
        with self._tools.decoding_slots:
            decoded = opened(
                limits=self._tools.limits,
                track=self._recording.request.audio_track,
                splits_channels=self._recording.request.splits_channels,
            )
        with self._lock:
            self._decoded = decoded
            if self._stopped.is_set():
                decoded.close()
        return decoded

    @contextmanager
    def _without_slot(self) -> Iterator[None]:
        """An upload that is slow to come keeps no other from being decoded."""
        self._tools.decoding_slots.release()
        try:
            yield
        finally:
            self._tools.decoding_slots.acquire()

    def _hand_over(self, chunk: Chunk) -> None:
        if chunk.index < self._cut_chunks:
            self._check_cut_again(chunk)
        elif self._tools.chunks_ahead.take(self, self._stopped.is_set):
            self._cut_chunks, self._cut_end = chunk.index + 1, chunk.end
            self._deliver(ChunkCut(self._recording, chunk))

    def _check_cut_again(self, chunk: Chunk) -> None:
        """What was cut by an earlier decoder has been handed over already."""
        is_last = chunk.index == self._cut_chunks - 1
        if is_last and chunk.end != self._cut_end:
            raise CutDifferently

    def _fail(self, code: FailureCode, message: str) -> None:
        self._deliver(FeedingFailed(self._recording, code, message))

    def _deliver(self, event: FeedEvent) -> None:
        if not self._stopped.is_set():
            self._tools.deliver(event)
