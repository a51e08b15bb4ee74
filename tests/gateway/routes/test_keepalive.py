"""KEEPALIVE_SECONDS: white space before long JSON answers."""

import asyncio
from pathlib import Path

import openai
import pytest

from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, chunk_done, final
from tests.gateway.harness import (
    field_part,
    file_part,
    read_answer,
    read_head,
    read_pieces,
    running_server,
    upload_request,
)

FAILURE = TranscriptionFailed(FailureCode.INFERENCE_FAILED, "Try again.", retry_after=5.0)


async def test_json_is_led_in_by_spaces_once_a_chunk_has_succeeded(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(chunk_done("one"), go_on, chunk_done("two", index=1), final(chunks=2))

    async with running_server(tmp_path, client, keepalive_seconds=0.01) as server:
        async with server.connection() as (reader, writer):
            writer.write(upload_request(file_part()))
            head = await read_head(reader)
            pieces = []
            async for piece in read_pieces(reader):
                pieces.append(piece)
                if len(pieces) == 3:
                    go_on.set()

    assert (head.status, head.headers["content-type"]) == (200, "application/json")
    assert pieces[:3] == [b" "] * 3
    body = b"".join(pieces)
    assert body.lstrip().startswith(b'{"text":"one two"')


async def test_official_client_reads_such_an_answer(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(chunk_done("one"), go_on, final())

    async with (
        running_server(tmp_path, client, keepalive_seconds=0.01) as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=0) as sdk,
        asyncio.timeout(20),
    ):
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        answer = await sdk.audio.transcriptions.create(file=b"RIFF", model="m")

    assert answer.text == "one"


async def test_failure_behind_spaces_is_told_and_breaks_the_answer_off(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(chunk_done("one"), go_on, FAILURE)

    async with running_server(tmp_path, client, keepalive_seconds=0.01) as server:
        async with server.connection() as (reader, writer):
            writer.write(upload_request(file_part()))
            assert (await read_head(reader)).status == 200
            received = b""
            with pytest.raises(asyncio.IncompleteReadError):
                async for piece in read_pieces(reader):
                    received += piece
                    go_on.set()

    assert b'"code": "inference_failed"' in received


async def test_failure_before_the_first_chunk_has_its_status(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(go_on, FAILURE)

    async with running_server(tmp_path, client, keepalive_seconds=0.01) as server:
        async with server.connection() as (reader, writer):
            writer.write(upload_request(file_part()))
            await client.arrived.wait()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            answer = await read_answer(reader)

    assert (answer.status, answer.error["code"]) == (503, "inference_failed")


async def test_short_work_is_answered_with_a_length(tmp_path: Path) -> None:
    async with running_server(tmp_path, keepalive_seconds=60.0) as server:
        answer = await server.upload(file_part())

    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("keepalive", "response_format"), [(0.0, "json"), (0.01, "text"), (0.01, "srt")]
)
async def test_silence_is_kept_where_it_is_not_asked_for_or_would_be_text(
    tmp_path: Path, keepalive: float, response_format: str
) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(chunk_done("one"), go_on, FAILURE)

    async with running_server(tmp_path, client, keepalive_seconds=keepalive) as server:
        async with server.connection() as (reader, writer):
            writer.write(
                upload_request(field_part("response_format", response_format), file_part())
            )
            await client.arrived.wait()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            answer = await read_answer(reader)

    assert answer.status == 503
