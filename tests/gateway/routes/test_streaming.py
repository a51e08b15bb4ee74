"""stream=true on real sockets, byte by byte as clients get it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.routes import answering
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from protocol.transcription import Progress, Stage
from tests.fakes import FakeWorkerClient, chunk_done, final, partial, segment
from tests.gateway.harness import (
    Answer,
    RunningServer,
    field_part,
    file_part,
    is_closed,
    read_answer,
    read_head,
    read_pieces,
    running_server,
    upload_request,
)

DECODE_ERROR = TranscriptionFailed(FailureCode.AUDIO_UNDECODABLE, "Send a recording.")
PROGRESS = Progress("req_1", 1, Stage.INFERRING, 1.0, None)
INFERENCE_ERROR = TranscriptionFailed(FailureCode.INFERENCE_FAILED, "Try again.", retry_after=5.0)


def stream_request(**fields: str) -> bytes:
    parts = [field_part(name, value) for name, value in fields.items()]
    return upload_request(field_part("stream", "true"), *parts, file_part())


async def streamed(server: RunningServer, **fields: str) -> Answer:
    return await server.send(stream_request(**fields))


def blocks(body: bytes) -> list[str]:
    """What stands between blank lines; the last of them is there as well."""
    *found, rest = body.decode().split("\n\n")
    assert rest == ""
    return found


def events(body: bytes) -> list[Any]:
    """The data of all events but [DONE]."""
    data = [line for block in blocks(body) for line in block.split("\n") if line[:6] == "data: "]
    return [json.loads(line[6:]) for line in data if line != "data: [DONE]"]


async def blocks_of(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Blocks of a running stream, each as soon as it is whole."""
    received = b""
    async for piece in read_pieces(reader):
        received += piece
        while b"\n\n" in received:
            block, _, received = received.partition(b"\n\n")
            yield block.decode()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep-alive comments are due every hundredth of a second."""
    monkeypatch.setattr(answering, "QUIET_SECONDS", 0.01)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "Qwen/Qwen3-ASR-0.6B", ""])
async def test_every_model_name_streams_deltas_that_are_the_text(
    tmp_path: Path, model: str
) -> None:
    client = FakeWorkerClient(
        partial("one"),
        partial("one two"),
        chunk_done("one two three."),
        chunk_done("four", index=1),
        final(chunks=2),
    )

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server, model=model)

    *deltas, done = events(answer.body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"]
    assert "content-length" not in answer.headers
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == "one two three. four"
    assert blocks(answer.body)[-1] == "data: [DONE]"


async def test_nothing_is_sent_that_official_clients_fail_on(
    tmp_path: Path, impatient: None
) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(
        partial("one"), go_on, chunk_done("one\u2028two\x85three"), PROGRESS, final()
    )

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        await read_head(reader)
        received = []
        async for block in blocks_of(reader):
            received.append(block)
            if block.startswith(":"):
                go_on.set()

    assert received[0].startswith('data: {"type":"transcript.text.delta"')
    assert ": keep-alive" in received
    for block in received:
        (line,) = block.splitlines()
        assert line.startswith(("data: ", ": "))
    kinds = [json.loads(b[6:])["type"] for b in received if b.startswith("data: {")]
    assert set(kinds) == {"transcript.text.delta", "transcript.text.done"}
    assert kinds.count("transcript.text.done") == 1
    assert kinds[-1] == "transcript.text.done"


async def test_a_delta_arrives_while_the_work_goes_on(tmp_path: Path) -> None:
    more, rest = asyncio.Event(), asyncio.Event()
    client = FakeWorkerClient(
        partial("one"), more, partial("one two"), rest, chunk_done("one two."), final()
    )

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        assert (await read_head(reader)).status == 200
        async with aclosing(blocks_of(reader)) as stream:
            first = await anext(stream)
            more.set()
            second = await anext(stream)
            rest.set()
            others = [block async for block in stream]

    assert json.loads(first[6:])["delta"] == "one"
    assert json.loads(second[6:])["delta"] == " two"
    assert json.loads(others[0][6:])["delta"] == "."
    assert len(others) == 3


async def test_status_waits_for_the_first_event(tmp_path: Path) -> None:
    client = FakeWorkerClient(PROGRESS, DECODE_ERROR)

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server)

    assert (answer.status, answer.error["code"]) == (400, "audio_undecodable")
    assert answer.headers["content-type"] == "application/json"


async def test_what_can_be_tried_again_before_the_first_event_has_its_own_status(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, FakeWorkerClient(INFERENCE_ERROR)) as server:
        answer = await streamed(server)

    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_progress_comes_to_those_who_ask_and_ends_at_100_before_done(tmp_path: Path) -> None:
    script = (
        Progress("req_1", 1, Stage.DECODING, 0.0, 2.0),
        partial("one"),
        replace(chunk_done("one"), end=16_000),
        replace(chunk_done("two", index=1), start=16_000, end=32_000),
        final(chunks=2, audio_seconds=2.0),
    )

    async with running_server(tmp_path, FakeWorkerClient(*script)) as server:
        asked = events((await streamed(server, **{"include[]": "progress"})).body)
        others = events((await streamed(server)).body)

    progress = [event for event in asked if event["type"] == "transcript.progress"]
    assert [event["percent"] for event in progress] == [50, 100]
    assert [event["done_seconds"] for event in progress] == [1.0, 2.0]
    assert [event["type"] for event in asked[-2:]] == [
        "transcript.progress",
        "transcript.text.done",
    ]
    assert [event for event in asked if event not in progress] == others


async def test_a_caller_that_asks_for_progress_still_gets_a_status_for_what_fails_early(
    tmp_path: Path,
) -> None:
    client = FakeWorkerClient(Progress("req_1", 1, Stage.FETCHING, 0.0, 2.0), DECODE_ERROR)

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server, **{"include[]": "progress"})

    assert (answer.status, answer.error["code"]) == (400, "audio_undecodable")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("language", "Klingon"),
        ("response_format", "srt"),
        ("response_format", "xml"),
        ("temperature", "2"),
        ("include", "words"),
    ],
)
async def test_bad_option_is_a_plain_400(tmp_path: Path, name: str, value: str) -> None:
    async with running_server(tmp_path) as server:
        answer = await streamed(server, **{name: value})

        assert (answer.status, answer.error["param"]) == (400, name)
        assert server.client.requests == []


async def test_comments_keep_a_quiet_stream_alive_from_the_start(
    tmp_path: Path, impatient: None
) -> None:
    go_on = asyncio.Event()
    client = FakeWorkerClient(go_on, chunk_done("one"), final())

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        assert (await read_head(reader)).status == 200
        async with aclosing(blocks_of(reader)) as stream:
            assert [await anext(stream) for _ in range(3)] == [": keep-alive"] * 3
            go_on.set()
            rest = [block async for block in stream if not block.startswith(":")]

    assert json.loads(rest[0][6:])["delta"] == "one"
    assert rest[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (INFERENCE_ERROR, "server_error", "inference_failed"),
        (DECODE_ERROR, "invalid_request_error", "audio_undecodable"),
        (ValueError("<_io.BytesIO object at 0x7f00>"), "server_error", "internal_error"),
    ],
)
async def test_failure_in_the_middle_is_an_error_event_and_the_end(
    tmp_path: Path, failure: Exception, kind: str, code: str
) -> None:
    client = FakeWorkerClient(chunk_done("one"), failure)

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server)

    delta, error = blocks(answer.body)
    name, content = error.split("\n")
    assert json.loads(delta[6:])["delta"] == "one"
    assert name == "event: error"
    assert json.loads(content[6:])["type"] == "error"
    told = json.loads(content[6:])["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert (told["type"], told["code"]) == (kind, code)
    assert "BytesIO" not in answer.body.decode()


async def test_server_that_ends_says_so_in_the_stream(tmp_path: Path) -> None:
    forever = asyncio.Event()
    shut_down = TranscriptionFailed(FailureCode.SHUTTING_DOWN, "Try again.", retry_after=5.0)
    client = FakeWorkerClient(chunk_done("one"), forever, shut_down)

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        await read_head(reader)
        async with aclosing(blocks_of(reader)) as stream:
            await anext(stream)
            forever.set()
            error = await anext(stream)

    assert json.loads(error.split("\n")[1][6:])["error"]["code"] == "shutting_down"


async def test_caller_that_leaves_the_stream_ends_the_work_and_its_file(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("one"), asyncio.Event())

    async with running_server(tmp_path, client) as server:
        async with server.connection() as (reader, writer):
            writer.write(stream_request())
            await read_head(reader)
        await client.was_cancelled.wait()
        await asyncio.gather(*server.server.requests_in_flight)

        assert client.cancelled == [client.requests[0].request_id]
        assert server.spool_files == []


async def test_slow_reader_holds_up_its_own_stream_and_nothing_piles_up(tmp_path: Path) -> None:
    chunks = [chunk_done("x" * 100_000, index=number) for number in range(300)]
    client = FakeWorkerClient(*chunks, final(chunks=300))

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        await read_head(reader)
        while not any(each.flow.write_paused for each in server.server.connections):
            assert (await server.get("/livez")).status == 200
        told_before = client.told
        received = b"".join([piece async for piece in read_pieces(reader)])

    assert told_before < 300
    assert events(received)[-1]["text"] == " ".join(["x" * 100_000] * 300)


async def test_upload_is_deleted_before_the_stream_ends(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await streamed(server)

        assert blocks(answer.body)[-1] == "data: [DONE]"
        assert server.spool_files == []


async def test_connection_serves_another_request_after_a_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(stream_request())
        first = await read_answer(reader)
        writer.write(stream_request())
        second = await read_answer(reader)

    assert events(first.body)[-1]["text"] == events(second.body)[-1]["text"] == "one two"


async def test_conversation_streams_turns_and_refuses_one_voice_for_all(tmp_path: Path) -> None:
    segments = [segment("Hello.", 0, 1, channel=0), segment("Hi.", 1, 2, channel=1)]
    client = FakeWorkerClient(chunk_done("Hello. Hi.", segments=segments), final())

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server, response_format="diarized_json")
        client.script = (chunk_done("one two"), final())
        refused = await streamed(server, response_format="diarized_json")

        refused_late = await streamed(
            server, response_format="diarized_json", **{"include[]": "progress"}
        )

    kinds = [event["type"].rpartition(".")[2] for event in events(answer.body)]
    assert kinds == ["delta", "segment", "delta", "segment", "done"]
    assert (refused.status, refused.error["code"]) == (400, "unsupported_value")
    *_, last = events(refused_late.body)
    assert (last["type"], last["error"]["code"]) == ("error", "unsupported_value")


async def test_last_event_has_segments_for_subtitle_programs(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("One.", segments=[segment("One.", 0.5, 1.0)]), final())

    async with running_server(tmp_path, client) as server:
        answer = await streamed(server, response_format="json")

    assert events(answer.body)[-1]["segments"] == [
        {"id": 0, "start": 0.5, "end": 1.0, "text": "One."}
    ]


async def test_log_line_of_a_failed_stream_names_the_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gateway")
    client = FakeWorkerClient(chunk_done("one"), INFERENCE_ERROR)

    async with running_server(tmp_path, client) as server:
        await streamed(server)

    (line,) = [r.getMessage() for r in caplog.records if r.name == "gateway.boundary"]
    assert "status=200" in line
    assert "failure=inference_failed" in line


async def test_http_1_0_client_gets_the_stream_until_the_connection_closes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(stream_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        head = await read_head(reader)
        body = await reader.read()

    assert "transfer-encoding" not in head.headers
    assert events(body)[-1]["text"] == "one two"
    assert await is_closed(reader)
