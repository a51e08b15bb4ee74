"""The routes that only jaaacki/qwen3-asr has, on real sockets, by its contract."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import srt

from gateway.settings import ApiKey
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, chunk_done, final, segment
from tests.gateway.harness import field_part, file_part, running_server, upload_request

STREAM = "/v1/audio/transcriptions/stream"
SUBTITLES = "/v1/audio/subtitles"


def failing(code: FailureCode) -> FakeWorkerClient:
    return FakeWorkerClient(TranscriptionFailed(code, "What to do.", retry_after=5.0))


def events(body: bytes) -> list[Any]:
    """The data of all events; nothing else is in the body."""
    *blocks, rest = body.decode().split("\n\n")
    assert rest == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


@pytest.mark.parametrize("path", [STREAM, STREAM.removeprefix("/v1")])
async def test_stream_tells_chunks_and_that_it_is_done(tmp_path: Path, path: str) -> None:
    client = FakeWorkerClient(
        chunk_done("one"), chunk_done("two", index=1), final(chunks=2, audio_seconds=50.0)
    )

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(
            field_part("language", "auto"),
            field_part("return_timestamps", "true"),
            file_part(),
            path=path,
        )

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "keep-alive"
    assert answer.headers["x-accel-buffering"] == "no"
    assert events(answer.body) == [
        {"text": "one", "language": "English", "is_final": False, "chunk_index": 0},
        {"text": "two", "language": "English", "is_final": True, "chunk_index": 1},
        {"done": True},
    ]


async def test_stream_of_a_short_recording_is_one_event(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(file_part(), path=STREAM)

    assert events(answer.body) == [
        {"text": "one two", "language": "English", "is_final": True},
        {"done": True},
    ]


async def test_failure_within_the_stream_is_its_last_event(tmp_path: Path) -> None:
    failure = TranscriptionFailed(FailureCode.INFERENCE_FAILED, "Try again.")
    client = FakeWorkerClient(chunk_done("one"), chunk_done("two", index=1), failure)

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), path=STREAM)

    assert answer.status == 200
    assert events(answer.body)[-1] == {
        "code": "SSE_STREAM_ERROR",
        "message": "Try again.",
        "statusCode": 500,
    }


@pytest.mark.parametrize(
    ("path", "failure", "status", "code"),
    [
        (STREAM, FailureCode.AUDIO_UNDECODABLE, 422, "AUDIO_DECODE_FAILED"),
        (STREAM, FailureCode.TIMED_OUT, 504, "TRANSCRIPTION_TIMEOUT"),
        (SUBTITLES, FailureCode.TIMED_OUT, 504, "SUBTITLE_TIMEOUT"),
        (SUBTITLES, FailureCode.WORKER_UNAVAILABLE, 503, "WORKER_ERROR"),
    ],
)
async def test_failure_before_the_answer_is_flat_with_its_status(
    tmp_path: Path, path: str, failure: FailureCode, status: int, code: str
) -> None:
    async with running_server(tmp_path, failing(failure)) as server:
        answer = await server.upload(file_part(), path=path)

    assert answer.status == status
    assert answer.json == {
        "code": code,
        "message": "What to do.",
        "statusCode": status,
        "context": {"requestId": answer.headers["x-request-id"]},
    }


@pytest.mark.parametrize("path", [STREAM, SUBTITLES])
async def test_fields_at_fault_are_told_flat(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path, api_keys=(ApiKey.of("k"),)) as server:
        headers = {"x-api-key": "k"}

        async def sent(*parts: bytes) -> Any:
            answer = await server.send(upload_request(*parts, path=path, headers=headers))
            assert answer.json["statusCode"] == answer.status
            return answer.json

        empty = await sent(file_part(b""))
        missing = await sent(field_part("language", "en"))
        language = await sent(field_part("language", "xx"), file_part())
        keyless = await server.upload(file_part(), path=path)

        assert (empty["code"], empty["statusCode"]) == ("EMPTY_AUDIO", 400)
        assert (missing["code"], missing["statusCode"]) == ("MISSING_FILE", 422)
        assert (language["code"], language["statusCode"]) == ("INVALID_VALUE", 400)
        assert (keyless.json["code"], keyless.status) == ("INVALID_API_KEY", 401)
        assert server.client.requests == []


@pytest.mark.parametrize("mode", ["accurate", "fast", ""])
async def test_subtitles_are_srt_by_the_predecessors_rules(tmp_path: Path, mode: str) -> None:
    segments = [segment("one two three four five", 0.0, 2.0), segment("six", 2.55, 3.5)]
    client = FakeWorkerClient(
        chunk_done("one two three four five six", end=64_000, segments=segments),
        final(audio_seconds=4.0),
    )

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(
            field_part("mode", mode),
            field_part("max_line_chars", "15"),
            file_part(),
            path=SUBTITLES,
        )

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="subtitles.srt"'
    cues = list(srt.parse(answer.body.decode()))
    assert " ".join(cue.content.replace("\n", " ") for cue in cues) == segments[0].text + " six"
    assert all(len(line) <= 15 for cue in cues for line in cue.content.split("\n"))
    # A pause of 0.55 s ends a cue here, and only here: elsewhere 0.6 s do.
    assert cues[-1].content == "six"


async def test_operators_rules_for_subtitles_are_followed(tmp_path: Path) -> None:
    segments = [segment("one two three four", 0.0, 4.0), segment("five six", 4.55, 6.0)]
    client = FakeWorkerClient(
        chunk_done("one two three four five six", end=96_000, segments=segments),
        final(audio_seconds=6.0),
    )
    rules = {
        "subtitle_max_duration": 2.0,
        "subtitle_min_duration": 0.5,
        "subtitle_min_gap": 0.25,
        "subtitle_pause_threshold": 5.0,
    }

    async with running_server(tmp_path, client, **rules) as server:
        answer = await server.upload(file_part(), path=SUBTITLES)

    cues = list(srt.parse(answer.body.decode()))
    gaps = [
        (later.start - earlier.end).total_seconds() for earlier, later in itertools.pairwise(cues)
    ]
    assert len(cues) > 2
    assert all((cue.end - cue.start).total_seconds() <= 2 for cue in cues)
    assert all(gap >= 0.25 for gap in gaps)


async def test_silence_is_an_empty_file(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), path=SUBTITLES)

    assert (answer.status, answer.body) == (200, b"")


async def test_unknown_mode_is_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(field_part("mode", "best"), file_part(), path=SUBTITLES)

        assert (answer.status, answer.json["code"]) == (400, "INVALID_MODE")
        assert server.client.requests == []


async def test_fields_of_other_routes_change_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(
            field_part("response_format", "vtt"),
            field_part("stream", "true"),
            file_part(),
            path=SUBTITLES,
        )

    assert answer.status == 200
    assert answer.body.startswith(b"1\n00:00:00,")


async def test_plain_transcription_has_the_predecessors_fields(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(
            field_part("language", "auto"), field_part("return_timestamps", "false"), file_part()
        )

    assert (answer.json["text"], answer.json["language"]) == ("one two", "English")
