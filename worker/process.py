"""The engine process: loads an engine, says so, and runs its loop until told to end.

Started by the supervisor as launch.py says, and dies with it. Exit statuses: 0 asked to end, 1 the
engine cannot be loaded or lost its device, or a fault of our own; 70 the mailbox failed.
"""

import logging
import os
import signal
import sys
import threading

import zmq
from setproctitle import setproctitle

from protocol import sockets
from protocol.transcription import Hello
from worker.audio.chunking import Chunker
from worker.audio.decoding import AudioDecoder, DecodeLimits
from worker.audio.live_vad import LiveVad
from worker.audio.vad import SpeechModel, VoiceActivity
from worker.chunks_ahead import ChunksAhead
from worker.clock import monotonic
from worker.decoder_places import DecoderPlaces
from worker.engine.creation import create_engine
from worker.engine.interface import (
    Engine,
    EngineFailure,
    EngineSettings,
    LoadProgress,
)
from worker.engine_loop import EngineLoop
from worker.engine_status import StatusWriter
from worker.feeding import FeedingTools
from worker.launch import parse_launch
from worker.live.inbox import LiveInbox
from worker.live.listener import Listener
from worker.logs import configure_logging
from worker.mailbox import Mailbox
from worker.parent_death import die_with_parent
from worker.settings import WorkerSettings, read_worker_settings
from worker.start import link_keys
from worker.start_times import StartTimes

logger = logging.getLogger("worker.process")  # also where this module is __main__

CAPACITY = 64
"""Recordings worked on at a time. They take turns chunk by chunk; a few have decoders at a time
(decoder_places.py)."""

MOST_UTTERANCE_SECONDS = 30.0
"""An utterance of a live session is cut here even where nobody pauses."""


def main() -> int:
    """Entry point of `python -m worker.process`."""
    launch = parse_launch(sys.argv[1:])
    die_with_parent(launch.supervisor_pid)
    setproctitle("qwen3-asr: engine")
    settings = read_worker_settings(os.environ)
    configure_logging(settings.log_level)
    status = StatusWriter(launch.status_descriptor)
    try:
        engine = load_engine(settings, status)
        serve(engine, load_speech_model(), settings, launch.epoch, status)
    except EngineFailure as failure:
        logger.error("engine cannot go on code=%s message=%s", failure.code, failure.message)
        status.failed(failure.message)
        return 1
    return 0


def load_engine(settings: WorkerSettings, status: StatusWriter) -> Engine:
    """A warmed-up engine; every stage is reported. Raises EngineFailure."""
    times = StartTimes(monotonic)

    def report(progress: LoadProgress) -> None:
        times.enter(progress.stage)
        status.loading(progress.stage, progress.done_bytes, progress.total_bytes)

    engine = create_engine(
        EngineSettings(
            model_id=settings.model_id,
            cache_dir=settings.data_dir / "cache",
            engine=settings.engine,
            backend=settings.official_backend,
            device=settings.device,
            dtype=settings.dtype,
            compile=settings.torch_compile,
            forced_aligner_id=settings.forced_aligner_id,
            vram_budget=settings.vram_budget,
            max_chunk_seconds=settings.max_chunk_seconds,
            threads=settings.omp_num_threads,
        )
    )
    engine.load(report)
    report(LoadProgress("warm_up"))
    engine.warm_up()
    times.enter("ready")
    memory = "".join(f" {name}={count}" for name, count in engine.memory().items())
    logger.info("engine was loaded engine=%s %s%s", engine.name, times, memory)
    return engine


def load_speech_model() -> SpeechModel:
    """Ready for the first recording. Raises EngineFailure."""
    model = SpeechModel()
    try:
        model.load()
    except ModuleNotFoundError as error:
        raise EngineFailure(
            "backend_missing",
            f"The package {error.name} is missing. Install the extra 'worker' again.",
        ) from error
    return model


def serve(
    engine: Engine,
    speech_model: SpeechModel,
    settings: WorkerSettings,
    epoch: int,
    status: StatusWriter,
) -> None:
    """Connect to the gateway and work until SIGTERM or SIGINT."""
    max_chunk_seconds = min(settings.max_chunk_seconds, engine.max_chunk_seconds or float("inf"))
    spool_folder = settings.data_dir / "spool"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    loop = EngineLoop(
        engine,
        send=lambda answer: mailbox.send(answer),
        tell_listener=lambda answered: listener.put(answered),
    )
    listener = Listener(
        LiveVad,
        deliver=loop.deliver,
        max_seconds=min(MOST_UTTERANCE_SECONDS, engine.max_chunk_seconds or float("inf")),
        clock=monotonic,
    )
    mailbox = Mailbox(
        _connect(context, settings),
        Hello(settings.worker_id, epoch, settings.model_id, CAPACITY, False),
        spool_folder,
        deliver=LiveInbox(loop=loop.deliver, listener=listener.put).deliver,
        beat=lambda: status.beat(loop.steps, loop.is_busy),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.end())
    with AudioDecoder() as decoder:
        tools = FeedingTools(
            decoder=decoder,
            decoder_places=DecoderPlaces(),
            decoding_slots=threading.Semaphore(settings.decoders),
            chunks_ahead=ChunksAhead(engine.chunks_ahead),
            limits=DecodeLimits(max_seconds=settings.max_audio_seconds),
            new_chunker=lambda: Chunker(
                target_seconds=min(settings.chunk_seconds, max_chunk_seconds),
                max_seconds=max_chunk_seconds,
                new_detector=lambda: VoiceActivity(speech_model),
            ),
            mailbox=mailbox,
            spool_folder=spool_folder,
            fetch_folder=settings.data_dir / "fetched",
            deliver=loop.deliver,
        )
        status.ready()
        listener.start()
        mailbox.start()
        logger.info("engine is ready engine=%s epoch=%d", engine.name, epoch)
        loop.run(tools)
    listener.end()
    mailbox.close()
    context.term()


def _connect(
    context: "zmq.Context[zmq.Socket[bytes]]", settings: WorkerSettings
) -> "zmq.Socket[bytes]":
    addresses = sockets.link_addresses(settings.worker_link, settings.data_dir)
    return sockets.connect_dealer(context, addresses.work, link_keys(settings))


if __name__ == "__main__":
    sys.exit(main())
