"""Word error rates of the embedded model in live sessions, against uploads of the same strings.

Needs the recordings of ../shared/speech; skipped without them. The rates are logged: run with
--log-cli-level=INFO to see them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from tests import speech
from tests.together.processes import Server, serving
from tests.together.realtime_client import SILENCE_MS, RealtimeClient, alaw, mulaw, pcm, realtime

logger = logging.getLogger(__name__)

pytestmark = speech.needs_human_speech

T = TypeVar("T")

CALLERS = 8
SPEAKING = 32
"""Streams at a time as people speak: with many more there is no time for partials."""
PACKET_SECONDS = 0.1
TAIL = np.zeros(SILENCE_MS * speech.SAMPLE_RATE // 1000, np.float32)


@dataclass(frozen=True, slots=True)
class Format:
    """One of a session, and how to write speech in it."""

    name: str
    rate: int
    write: Callable[[speech.Samples], bytes]
    by_telephone: bool = False
    """Uploads to compare with have gone over a telephone line as well."""

    @property
    def wanted(self) -> dict[str, object]:
        """In a session.update."""
        return {"type": self.name, "rate": self.rate}


FORMATS = {
    "24 kHz": Format("audio/pcm", 24_000, lambda samples: pcm(samples, 24_000)),
    "16 kHz": Format("audio/pcm", 16_000, pcm),
    "mu-law": Format("audio/pcmu", 8_000, mulaw, by_telephone=True),
    "A-law": Format("audio/pcma", 8_000, alaw, by_telephone=True),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s")
    with serving("serve", folder, MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(
    scope="module",
    params=[pytest.param(3, id="usual"), pytest.param(25, id="more", marks=pytest.mark.long)],
)
def strings(request: pytest.FixtureRequest) -> list[speech.Spoken]:
    """So many of each known speaker, and three times as many of the unseen one."""
    unseen = speech.digit_strings(speech.UNSEEN_SPEAKER, request.param * 3, seed=41)
    known = [
        spoken
        for number, speaker in enumerate(speech.KNOWN_SPEAKERS)
        for spoken in speech.digit_strings(speaker, request.param, seed=50 + number)
    ]
    return unseen + known


@pytest.fixture(scope="module")
def uploaded(
    server: Server, strings: list[speech.Spoken], tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, float]:
    """Word error rate of uploads; by whether they have gone over a telephone line."""
    folder = tmp_path_factory.mktemp("uploads")
    direct = [spoken.samples for spoken in strings]
    return {
        False: rate("uploads", strings, upload(server, direct, folder)),
        True: rate("by telephone", strings, upload(server, map(speech.mulaw_8k, direct), folder)),
    }


def upload(server: Server, sounds: Any, folder: Path) -> list[str]:
    def one(numbered: tuple[int, speech.Samples]) -> str:
        path = speech.write_wav(folder / f"{numbered[0]}.wav", numbered[1])
        response = server.transcribe(path.read_bytes(), model="embedded")
        assert response.status_code == 200, response.text
        return str(response.json()["text"])

    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(one, enumerate(sounds)))


def rate(name: str, strings: Sequence[speech.Spoken], texts: Sequence[str]) -> float:
    errors = speech.word_error_rate(zip((each.text for each in strings), texts, strict=True))
    words = sum(len(each.text.split()) for each in strings)
    logger.info("%s: %d strings, %d words, WER %.2f %%", name, len(strings), words, 100 * errors)
    return errors


def most(uploaded: float, strings: Sequence[speech.Spoken]) -> float:
    """A point more; of as few words as in the usual run, three."""
    return uploaded + max(0.01, 3 / sum(len(each.text.split()) for each in strings))


async def at_once(calls: Sequence[Coroutine[Any, Any, T]], most: int) -> list[T]:
    """Their results, in order; so many run at a time."""
    places = asyncio.Semaphore(most)

    async def in_turn(call: Coroutine[Any, Any, T]) -> T:
        async with places:
            return await call

    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(in_turn(call)) for call in calls]
    return [task.result() for task in started]


@asynccontextmanager
async def listening(
    server: Server, format: Format, **query: object
) -> AsyncIterator[RealtimeClient]:
    async with realtime(server, **query) as client:
        await client.configure(format=format.wanted, turn_detection={"type": "server_vad"})
        yield client


async def say(server: Server, format: Format, samples: speech.Samples) -> RealtimeClient:
    """A session in which this is said at once, when all is answered."""
    async with listening(server, format) as client:
        await client.append(format.write(samples))
        await client.finish(format.write(TAIL))
    return client


async def say_in_time(server: Server, format: Format, samples: speech.Samples) -> RealtimeClient:
    """The same as people speak, in packets."""
    content = format.write(samples)
    size = int(format.rate * PACKET_SECONDS) * 2
    loop = asyncio.get_running_loop()
    async with listening(server, format) as client:
        begun = loop.time()
        for number, start in enumerate(range(0, len(content), size)):
            await asyncio.sleep(begun + number * PACKET_SECONDS - loop.time())
            await client.append(content[start : start + size])
        await client.finish(format.write(TAIL))
    return client


@pytest.mark.parametrize("name", FORMATS)
async def test_a_live_session_is_at_most_a_point_worse_than_an_upload(
    server: Server, strings: list[speech.Spoken], uploaded: dict[bool, float], name: str
) -> None:
    format = FORMATS[name]
    clients = await at_once([say(server, format, each.samples) for each in strings], CALLERS)

    live = rate(f"live, {name}", strings, [client.text() for client in clients])
    assert live <= most(uploaded[format.by_telephone], strings)


async def test_two_channels_are_at_most_a_point_worse_than_uploads_of_each(
    server: Server, strings: list[speech.Spoken], uploaded: dict[bool, float]
) -> None:
    async def both(sides: tuple[speech.Spoken, ...]) -> list[str]:
        stereo = np.zeros((max(len(side.samples) for side in sides), 2), np.float32)
        for channel, side in enumerate(sides):
            stereo[: len(side.samples), channel] = side.samples
        async with listening(server, FORMATS["16 kHz"], channels=2) as client:
            await client.append(pcm(stereo))
            await client.finish(pcm(np.column_stack([TAIL, TAIL])))
        return [client.text(0), client.text(1)]

    # The first speaker is not the second.
    pairs = list(zip(strings[: len(strings) // 2], strings[len(strings) // 2 :], strict=True))
    heard = await at_once([both(pair) for pair in pairs], CALLERS)

    said = [side for pair in pairs for side in pair]
    live = rate("live, two channels", said, [text for texts in heard for text in texts])
    assert live <= most(uploaded[False], strings)


async def test_what_was_told_of_unfinished_speech_is_nearly_never_wrong(
    server: Server, strings: list[speech.Spoken], uploaded: dict[bool, float]
) -> None:
    format = FORMATS["24 kHz"]
    clients = await at_once(
        [say_in_time(server, format, each.samples) for each in strings], SPEAKING
    )

    live = rate("live, in time", strings, [client.text() for client in clients])
    utterances = sum(len(client.transcripts()) for client in clients)
    contradicted = sum(client.contradicted() for client in clients)
    early = sum(client.early() for client in clients)
    logger.info("%d utterances, %d early, %d contradicted", utterances, early, contradicted)
    assert live <= most(uploaded[False], strings)
    assert early >= utterances / 10  # a busy machine drops partials
    assert contradicted <= max(1, 0.01 * utterances)
