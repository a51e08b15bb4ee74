"""One request between its engines and its caller."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.worker_client.call import Call
from gateway.worker_client.chunk_file import ChunkFile
from gateway.worker_client.interface import TranscriptionRequest
from protocol.transcription import Progress, Stage
from tests.fakes import chunk_done, partial


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    request = TranscriptionRequest(
        request_id="req_1",
        owner=None,
        spool_file="ab/cd",
        upload_path=tmp_path / "upload",
        upload_bytes=10,
        chunks_path=tmp_path / "chunks",
        language=None,
        prompt="A call.",
        keywords=("a", "b"),
        temperature=0.5,
        languages=("German", "English"),
        wants_partials=True,
        wants_logprobs=True,
        splits_channels=True,
        uses_previous_context=True,
        audio_track=2,
        wants_words=True,
    )
    with closing(ChunkFile(request.chunks_path, request_id="req_1", owner=None)) as chunks:
        yield Call(request, chunks, now=0.0)


def test_every_wish_reaches_the_engine(call: Call) -> None:
    opening = call.opening_message()

    assert (opening.prompt, opening.keywords, opening.temperature) == ("A call.", ("a", "b"), 0.5)
    assert opening.languages == ("German", "English")
    assert (opening.wants_partials, opening.wants_logprobs) == (True, True)
    assert (opening.splits_channels, opening.uses_previous_context) == (True, True)
    assert (opening.audio_track, opening.wants_words) == (2, True)


async def test_of_several_unread_partials_only_the_latest_is_kept(call: Call) -> None:
    call.note_partial(partial("one"), 1.0)
    call.note_partial(partial("one two"), 2.0)
    call.note_progress(Progress("req_1", 1, Stage.INFERRING, 3.0, None), 3.0)
    events = call.events()
    first, second = await anext(events), await anext(events)
    await events.aclose()

    assert first == partial("one two")
    assert isinstance(second, Progress)


async def test_partials_are_told_in_between_chunks(call: Call) -> None:
    events = call.events()
    call.note_partial(partial("one"), 1.0)
    call.note_partial(partial("one two"), 2.0)
    first = await anext(events)
    call.add_chunk(chunk_done("one two three"), 3.0)
    call.note_partial(partial("four", index=1), 4.0)
    second, third = await anext(events), await anext(events)
    await events.aclose()

    assert first == partial("one two")
    assert second == chunk_done("one two three")
    assert third == partial("four", index=1)


async def test_a_finished_chunk_replaces_its_unread_partial(call: Call) -> None:
    call.note_partial(partial("one"), 1.0)
    call.add_chunk(chunk_done("one two"), 2.0)
    call.note_progress(Progress("req_1", 1, Stage.INFERRING, 3.0, None), 3.0)
    events = call.events()
    first, second = await anext(events), await anext(events)
    await events.aclose()

    assert first == chunk_done("one two")
    assert isinstance(second, Progress)


async def test_a_partial_of_another_chunk_than_the_next_is_dropped(call: Call) -> None:
    call.add_chunk(chunk_done("one"), 1.0)
    call.note_partial(partial("late", index=0), 2.0)
    call.note_partial(partial("early", index=2), 2.0)
    call.note_progress(Progress("req_1", 1, Stage.INFERRING, 3.0, None), 3.0)
    events = call.events()
    first, second = await anext(events), await anext(events)
    await events.aclose()

    assert first == chunk_done("one")
    assert isinstance(second, Progress)
    assert call.last_progress == 3.0


async def test_an_unread_partial_dies_with_its_engine(call: Call) -> None:
    call.opening_message()
    call.note_partial(partial("one"), 1.0)
    call.opening_message()
    call.note_partial(partial("won", attempt=2), 2.0)
    events = call.events()
    first = await anext(events)
    await events.aclose()

    assert first == partial("won", attempt=2)


def test_a_partial_is_progress(call: Call) -> None:
    call.note_partial(partial("one"), 7.0)

    assert call.last_progress == 7.0
