"""What callers keep of a live session while engine, gateway or client die, hang or flood."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from websockets.exceptions import InvalidStatus

from tests import speech
from tests.together.processes import REPOSITORY, Server, eventually, serving
from tests.together.realtime_client import SILENCE_MS, TRANSCRIPTION, RealtimeClient, pcm, realtime

logger = logging.getLogger(__name__)

CLIPS = REPOSITORY / "examples" / "speech"
SAID = {clip["file"]: clip["said"][0] for clip in json.loads((CLIPS / "clips.json").read_text())}
TURN, CALL = "digits_american.flac", "digits_long.flac"
MEGABYTE = 1_000_000
TAIL = bytes(2 * speech.SAMPLE_RATE * SILENCE_MS // 1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        eventually(lambda: server.transcribe((CLIPS / TURN).read_bytes()).is_success, "never ready")
        yield server


def audio(clip: str) -> bytes:
    """As a session of `talking` takes it."""
    samples, rate = soundfile.read(CLIPS / clip, dtype="float32")
    assert rate == speech.SAMPLE_RATE
    return pcm(samples)


def speech_alone(clip: str) -> bytes:
    """Without the silence behind its last word, so that nothing ends its turn."""
    samples = np.frombuffer(audio(clip), "<i2")
    last = np.flatnonzero(np.abs(samples.astype(np.int32)) > 300)[-1]
    return bytes(samples[: last + 1])


def engine_of(server: Server) -> psutil.Process:
    [engine] = server.running.titled("engine")
    return engine


def resident(server: Server) -> int:
    """Bytes of the gateway."""
    return int(psutil.Process(server.running.pid).memory_info().rss)


def live_sessions(server: Server) -> int:
    return int(server.client.get("/health").json()["live_sessions"])


@asynccontextmanager
async def talking(server: Server, **query: object) -> AsyncIterator[RealtimeClient]:
    async with realtime(server, **query) as client:
        await client.configure(format={"type": "audio/pcm", "rate": speech.SAMPLE_RATE})
        yield client


def assert_told_once(client: RealtimeClient) -> None:
    """Each item begins once and ends once, with text that continues what was told of it."""
    for kind in ("input_audio_buffer.speech_started", "input_audio_buffer.committed"):
        assert len(set(client.ids(kind))) == len(client.ids(kind)), kind
    completed = client.ids(f"{TRANSCRIPTION}.completed")
    assert sorted(completed) == sorted(client.ids("input_audio_buffer.committed"))
    assert client.contradicted() == 0


@pytest.mark.parametrize("fault", ["killed", "stopped"])
async def test_an_engine_that_is_lost_in_mid_sentence_costs_no_word_and_repeats_none(
    server: Server, fault: str
) -> None:
    content = audio(CALL)
    middle = len(content) // 4 * 2
    async with talking(server) as client:
        await client.append(content[:middle])
        await client.until(f"{TRANSCRIPTION}.completed")
        engine = engine_of(server)
        engine.kill() if fault == "killed" else engine.suspend()
        await client.append(content[middle:])
        await client.finish(TAIL)

    assert client.text() == SAID[CALL]
    assert_told_once(client)
    assert not engine.is_running()


async def test_a_call_that_is_cut_off_in_mid_sentence_is_there_for_who_asks_later(
    server: Server,
) -> None:
    async with talking(server, call_id="cut-off") as client:
        await client.append(speech_alone(TURN))
        await client.configure()  # answered: all of the audio has arrived
        reset(client)

    with server.client.stream("GET", "/v1/calls/cut-off/events") as answer:
        told = [line.removeprefix("data: ") for line in answer.iter_lines() if line[:5] == "data:"]
    events = [json.loads(line) for line in told]
    assert [event["text"] for event in events if event["type"] == "text.final"] == [SAID[TURN]]
    assert events[-1]["type"] == "call.ended"


def reset(client: RealtimeClient) -> None:
    """The connection is gone without a word, as when a cable is pulled and a host restarts."""
    plain = client.socket.transport.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.transport.abort()


async def read(client: RealtimeClient) -> None:
    while True:
        await client.receive()


@pytest.mark.parametrize(
    "times",
    [pytest.param(8, id="minutes"), pytest.param(110, id="an hour", marks=pytest.mark.long)],
)
async def test_a_client_that_sends_as_fast_as_it_can_gets_all_its_text_in_bounded_memory(
    server: Server, times: int
) -> None:
    content = audio(CALL)
    heard = engine_of(server).memory_info().rss
    before, most = resident(server), 0
    async with talking(server) as client:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(client))
            for _ in range(times):
                for start in range(0, len(content), 64_000):
                    await client.append(content[start : start + 64_000])
                    most = max(most, resident(server))
            reading.cancel()
        await client.finish(TAIL)

    expected = " ".join([SAID[CALL]] * times)
    assert speech.word_error_rate([(expected, client.text())]) <= 0.01
    assert_told_once(client)
    grown = (max(most, resident(server)) - before) / MEGABYTE
    engine_grown = (engine_of(server).memory_info().rss - heard) / MEGABYTE
    seconds = times * len(content) / 2 / speech.SAMPLE_RATE
    logger.info("%.0f s: gateway +%.1f MB, engine +%.1f MB", seconds, grown, engine_grown)
    assert grown < 30
    assert engine_grown < 50


async def test_a_client_that_never_reads_is_given_up_and_hurts_nobody(server: Server) -> None:
    before = resident(server)
    prompt = "x" * 8000
    async with talking(server) as deaf, talking(server) as other:
        deaf.socket.transport.pause_reading()

        async def flood() -> None:
            while True:
                await deaf.send("session.update", session=wanting(prompt))

        flooding = asyncio.create_task(flood())
        await other.append(audio(CALL))
        await other.finish(TAIL)
        await asyncio.to_thread(
            eventually, lambda: live_sessions(server) == 1, "the deaf client is still served"
        )
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)

    grown = (resident(server) - before) / MEGABYTE
    logger.info("deaf client: gateway +%.1f MB", grown)
    assert other.text() == SAID[CALL]
    assert grown < 30


def wanting(prompt: str) -> dict[str, object]:
    return {"type": "transcription", "audio": {"input": {"transcription": {"prompt": prompt}}}}


async def test_a_cold_server_takes_a_call_at_once_and_loses_no_first_word(
    short_folder: Path,
) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        begun = asyncio.get_running_loop().time()
        async with talking(server, extensions=1) as client:
            taken = asyncio.get_running_loop().time() - begun
            logger.info("taken and configured after %.0f ms", 1000 * taken)
            await client.append(speech_alone(TURN))
            if not client.of_type("qwen.ready"):
                await client.until("qwen.ready")
            await client.finish(TAIL)

    kinds = [event["type"] for event in client.events]
    assert kinds.index("session.created") < kinds.index("qwen.warming_up")
    assert kinds.index("session.updated") < kinds.index("qwen.ready")
    assert client.text() == SAID[TURN]
    assert_told_once(client)


async def test_a_gateway_that_ends_lets_calls_finish_their_sentence(short_folder: Path) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        async with talking(server) as client:
            await client.append(speech_alone(TURN))
            await client.until("input_audio_buffer.speech_started")
            server.running.process.terminate()
            code = await client.close_code()

        assert code == 1001
        assert client.text() == SAID[TURN]
        assert_told_once(client)
        assert server.running.process.wait(60) == 0


async def test_more_calls_than_the_server_takes_are_refused_before_they_begin(
    short_folder: Path,
) -> None:
    with serving("gateway", short_folder, MAX_LIVE_SESSIONS="1") as server:
        async with realtime(server):
            with pytest.raises(InvalidStatus) as refusal:
                async with realtime(server):
                    pass

    response = refusal.value.response
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert json.loads(response.body)["error"]["code"] == "queue_full"
