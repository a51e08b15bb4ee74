"""Transcriptions that begin while their uploads arrive, and what callers see of them: nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, ScriptedMessage, chunk_done, final
from tests.gateway.harness import (
    Answer,
    RunningServer,
    field_part,
    file_part,
    multipart_body,
    read_answer,
    request,
    running_server,
)

RECORDING = b"RIFF\0\0\0\0WAVE" + bytes(400_000)
MODEL = field_part("model", "whisper-1")
STREAM = field_part("stream", "true")
GERMAN = field_part("language", "de")
HELD_BACK = 50_000
"""Bytes at the end of a body that are sent when the test wants."""


class Upload:
    """A request whose body arrives in two parts, and its connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.body = body

    async def begin(self) -> None:
        """All but the end of the body."""
        headers = {
            "Content-Type": "multipart/form-data; boundary=b",
            "Content-Length": str(len(self.body)),
        }
        self.writer.write(request("POST", "/v1/audio/transcriptions", headers=headers))
        self.writer.write(self.body[:-HELD_BACK])
        await self.writer.drain()

    async def end(self) -> Answer:
        """The rest, and the answer to it."""
        self.writer.write(self.body[-HELD_BACK:])
        await self.writer.drain()
        return await read_answer(self.reader)


@asynccontextmanager
async def begun(
    folder: Path, *parts: bytes, script: tuple[ScriptedMessage, ...] = (), **settings: Any
) -> AsyncIterator[tuple[Upload, FakeWorkerClient, RunningServer]]:
    """A server, and an upload of these parts that has all but arrived."""
    client = FakeWorkerClient(*script)
    async with running_server(folder, client, **settings) as server:
        async with server.connection() as (reader, writer):
            upload = Upload(reader, writer, multipart_body(*parts))
            await upload.begin()
            yield upload, client, server


async def test_work_begins_before_the_upload_ends(tmp_path: Path) -> None:
    async with begun(tmp_path, MODEL, file_part(RECORDING)) as (upload, client, _):
        await client.arrived.wait()
        (early,) = client.requests
        answer = await upload.end()

    assert not early.is_upload_whole
    assert 256 * 1024 <= early.upload_bytes < len(RECORDING)
    assert answer.json["text"] == "one two"
    assert len(client.requests) == 1
    assert client.growth[-1] == (early.request_id, len(RECORDING), True)


async def test_no_status_is_sent_before_the_form_has_ended(tmp_path: Path) -> None:
    parts = (MODEL, STREAM, file_part(RECORDING), field_part("language", "xx"))
    async with begun(tmp_path, *parts) as (upload, client, server):
        await client.arrived.wait()
        await server.get("/health")
        assert client.told
        answer = await upload.end()

    assert answer.status == 400


async def test_a_stream_has_all_events_when_the_form_has_ended(tmp_path: Path) -> None:
    async with begun(tmp_path, MODEL, STREAM, file_part(RECORDING)) as (upload, client, _):
        await client.arrived.wait()
        answer = await upload.end()

    assert answer.status == 200
    assert answer.body.index(b"transcript.text.delta") < answer.body.index(b"transcript.text.done")


async def test_fields_behind_the_file_count(tmp_path: Path) -> None:
    async with begun(tmp_path, MODEL, file_part(RECORDING), GERMAN) as (upload, client, server):
        await client.arrived.wait()
        answer = await upload.end()
        assert server.spool_files == []

    assert answer.status == 200
    first, second = client.requests
    assert client.cancelled == [first.request_id]
    assert (first.language, second.language) == (None, "German")
    assert second.is_upload_whole
    assert second.request_id != first.request_id
    assert client.contents[1] == RECORDING


async def test_fields_behind_the_file_that_change_nothing_cost_nothing(tmp_path: Path) -> None:
    async with begun(tmp_path, file_part(RECORDING), MODEL) as (upload, client, _):
        await client.arrived.wait()
        answer = await upload.end()

    assert answer.status == 200
    assert len(client.requests) == 1


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        (field_part("language", "xx"), 400),
        (file_part(b"RIFF", name="other"), 400),
        (file_part(b"RIFF"), 400),
        (b"Content-Disposition: nothing\r\n\r\n", 400),
    ],
    ids=["bad value", "other file", "second recording", "no name"],
)
async def test_a_fault_behind_the_file_ends_the_work_and_is_answered_as_ever(
    tmp_path: Path, behind: bytes, status: int
) -> None:
    async with begun(tmp_path, MODEL, file_part(RECORDING), behind) as (upload, client, server):
        client.gate.clear()
        await client.arrived.wait()
        answer = await upload.end()
        await client.was_cancelled.wait()
        assert server.spool_files == []

    assert answer.status == status
    assert len(client.requests) == 1


async def test_an_upload_over_the_limit_ends_the_work(tmp_path: Path) -> None:
    limit = len(RECORDING) - 1
    parts = (MODEL, file_part(RECORDING))
    async with begun(tmp_path, *parts, max_upload_bytes=limit) as (upload, client, _):
        client.gate.clear()
        await client.arrived.wait()
        answer = await upload.end()
        await client.was_cancelled.wait()

    assert answer.status == 413


async def test_a_caller_that_leaves_while_uploading_ends_the_work(tmp_path: Path) -> None:
    async with begun(tmp_path, MODEL, file_part(RECORDING)) as (upload, client, server):
        client.gate.clear()
        await client.arrived.wait()
        upload.writer.close()
        await client.was_cancelled.wait()
        await server.server.abort()
        assert server.spool_files == []


async def test_a_caller_that_leaves_after_the_upload_ends_the_work(tmp_path: Path) -> None:
    async with begun(tmp_path, MODEL, file_part(RECORDING)) as (upload, client, _):
        client.gate.clear()
        await client.arrived.wait()
        upload.writer.write(upload.body[-HELD_BACK:])
        await upload.writer.drain()
        upload.writer.close()
        await client.was_cancelled.wait()

    assert client.growth[-1][2]


async def test_an_early_failure_is_answered_when_the_form_has_ended(tmp_path: Path) -> None:
    failure = TranscriptionFailed(FailureCode.AUDIO_TOO_LONG, "Too long: split it.")
    parts = (MODEL, STREAM, file_part(RECORDING))
    async with begun(tmp_path, *parts, script=(failure,)) as (upload, client, _):
        await client.arrived.wait()
        answer = await upload.end()

    assert answer.status == 400
    assert answer.error["message"] == "Too long: split it."


async def test_a_fault_of_ours_during_the_upload_is_a_500_at_its_end(tmp_path: Path) -> None:
    parts = (MODEL, file_part(RECORDING))
    async with begun(tmp_path, *parts, script=(KeyError("ours"),)) as (upload, client, _):
        await client.arrived.wait()
        answer = await upload.end()

    assert answer.status == 500


async def test_a_value_that_is_refused_starts_nothing_and_may_be_mended(tmp_path: Path) -> None:
    parts = (field_part("language", "xx"), file_part(RECORDING), GERMAN)
    async with begun(tmp_path, *parts) as (upload, client, _):
        answer = await upload.end()

    assert answer.status == 200
    assert [wanted.is_upload_whole for wanted in client.requests] == [True]


@pytest.mark.parametrize(
    ("recording", "early_start_bytes"),
    [
        (RECORDING, 0),
        (RECORDING, 2 * len(RECORDING)),
        (b"\0\0\0\x18ftypM4A " + bytes(12) + b"\x7f\0\0\0mdat" + RECORDING, 1000),
    ],
    ids=["never", "too little", "index at the end"],
)
async def test_otherwise_work_begins_with_the_whole_upload(
    tmp_path: Path, recording: bytes, early_start_bytes: int
) -> None:
    parts = (MODEL, file_part(recording))
    async with begun(tmp_path, *parts, early_start_bytes=early_start_bytes) as started:
        upload, client, _ = started
        answer = await upload.end()

    assert answer.status == 200
    assert client.contents == [recording]
    assert client.requests[0].is_upload_whole
    assert client.growth == []


async def test_the_chunks_of_an_early_start_are_those_of_the_answer(tmp_path: Path) -> None:
    script = (chunk_done("one"), chunk_done("two", index=1), final(chunks=2, audio_seconds=9.0))
    async with begun(tmp_path, MODEL, file_part(RECORDING), script=script) as (upload, client, _):
        await client.arrived.wait()
        answer = await upload.end()

    assert answer.json["text"] == "one two"
