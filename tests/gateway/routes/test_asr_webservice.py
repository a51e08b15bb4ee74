"""/asr and /detect-language on real sockets, as Bazarr and whisper-asr-webservice's users call."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import srt

from gateway.headerless import WAV_HEADER
from gateway.settings import ApiKey
from gateway.spool import SpooledUpload
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, chunk_done, final, segment
from tests.gateway.harness import (
    Answer,
    RunningServer,
    file_part,
    read_answer,
    running_server,
    upload_request,
)
from tests.gateway.routes.test_translations import german, long_german, translating
from tests.gateway.web_server import Reply

PCM = b"\x01\x00\xff\xff" * 4000
BAZARR = b'Content-Disposition: form-data; name="audio_file"; filename="audio_file"\r\n\r\n'
"""How Bazarr names its part: no content type."""


def speaking() -> FakeWorkerClient:
    segments = [segment("one two", 0.5, 1.5), segment("three", 4.0, 5.0)]
    return FakeWorkerClient(
        chunk_done("one two three", end=96_000, segments=segments), final(audio_seconds=6.0)
    )


def call(query: str = "", body: bytes = PCM, *, path: str = "/asr", key: str = "") -> bytes:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return upload_request(BAZARR + body, path=f"{path}?{query}", headers=headers)


async def asked(server: RunningServer, query: str = "", body: bytes = PCM) -> Answer:
    return await server.send(call(query, body))


@asynccontextmanager
async def two_callers(
    server: RunningServer, first: bytes, second: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader]]:
    """Both requests under way; the worker has the first one."""
    server.client.gate.clear()
    async with server.connection() as (reader, writer):
        writer.write(first)
        await server.client.arrived.wait()
        async with server.connection() as (other, other_writer):
            other_writer.write(second)
            yield reader, writer, other


async def test_bazarr_gets_subtitles_of_bare_samples(tmp_path: Path) -> None:
    async with running_server(tmp_path, speaking()) as server:
        answer = await asked(
            server, "task=transcribe&language=en&output=srt&encode=false&video_file=%2Fm%2Fa.mkv"
        )

        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["asr-engine"] == "qwen3_asr"
        assert answer.headers["content-disposition"] == 'attachment; filename="audio_file.srt"'
        assert [cue.content for cue in srt.parse(answer.body.decode())] == ["one two", "three"]
        assert server.client.contents == [WAV_HEADER + PCM]
        assert server.client.requests[0].language == "English"
        assert server.client.requests[0].upload_bytes == len(WAV_HEADER + PCM)
        assert server.spool_files == []


@pytest.mark.parametrize("query", ["", "encode=true"])
async def test_bodies_with_a_container_are_taken_as_they_are(tmp_path: Path, query: str) -> None:
    async with running_server(tmp_path, speaking()) as server:
        answer = await asked(server, query)

        assert answer.status == 200
        assert server.client.contents == [PCM]


async def test_a_container_is_seen_whatever_encode_says(tmp_path: Path) -> None:
    async with running_server(tmp_path, speaking()) as server:
        await asked(server, "encode=false", b"RIFF" + PCM)

        assert server.client.contents == [b"RIFF" + PCM]


@pytest.mark.parametrize(
    ("output", "beginning"),
    [
        ("txt", "one two\nthree\n"),
        ("vtt", "WEBVTT\n\n"),
        ("srt", "1\n00:00:00,500 --> "),
        ("tsv", "start\tend\ttext\n500\t1500\tone two\n"),
        ("json", '{"text":"one two three","segments":[{"id":0,'),
    ],
)
async def test_every_output_is_plain_text_with_a_name(
    tmp_path: Path, output: str, beginning: str
) -> None:
    part = file_part(b"RIFF", name="audio_file", filename='Ä "b".wav')

    async with running_server(tmp_path, speaking()) as server:
        answer = await server.upload(part, path=f"/asr?output={output}")

    assert answer.body.decode().startswith(beginning)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    name = answer.headers["content-disposition"].partition("filename=")[2]
    assert name.startswith('"%C3%84 ')
    assert name.endswith(f'.wav.{output}"')
    assert name.count('"') == 2


async def test_text_is_the_default_and_json_has_words_where_asked_for(tmp_path: Path) -> None:
    async with running_server(tmp_path, speaking()) as server:
        plain = await asked(server)
        words = await asked(server, "output=json&word_timestamps=True")

    assert plain.body == b"one two\nthree\n"
    assert words.json["language"] == "en"
    assert [word["word"] for word in words.json["segments"][0]["words"]] == ["one", "two"]


async def test_prompt_language_and_cue_rules_reach_their_places(tmp_path: Path) -> None:
    async with running_server(tmp_path, speaking()) as server:
        answer = await asked(
            server,
            "initial_prompt=digits&language=german&output=srt&max_line_chars=8"
            "&vad_filter=true&diarize=false&min_speakers=1",
        )

    request = server.client.requests[0]
    assert (request.prompt, request.language) == ("digits", "German")
    assert all(
        len(line) <= 8
        for cue in srt.parse(answer.body.decode())
        for line in cue.content.splitlines()
    )


@pytest.mark.parametrize(
    "query",
    ["language=haw", "output=docx", "task=summarize", "encode=perhaps", "max_line_chars=x"],
)
async def test_what_cannot_be_done_is_422_without_a_body(tmp_path: Path, query: str) -> None:
    async with running_server(tmp_path) as server:
        answer = await asked(server, query)

        assert (answer.status, answer.body) == (422, b"")
        assert "content-type" not in answer.headers
        assert answer.headers["x-error"].startswith("invalid_value: ")
        assert server.client.requests == []


async def test_failures_have_no_body_that_could_become_a_subtitle(tmp_path: Path) -> None:
    failure = TranscriptionFailed(FailureCode.WORKER_UNAVAILABLE, "Later.", retry_after=5.0)

    async with running_server(
        tmp_path, FakeWorkerClient(failure), api_keys=(ApiKey.of("k"),)
    ) as server:
        failed = await server.send(call("output=srt", key="k"))
        unknown = await server.send(call("output=srt", key="other"))
        empty = await server.send(call("output=srt", b"", key="k"))
        misnamed = await server.send(
            upload_request(file_part(), path="/asr", headers={"x-api-key": "k"})
        )

    assert (failed.status, failed.body, failed.headers["retry-after"]) == (503, b"", "5")
    assert (unknown.status, unknown.body) == (401, b"")
    assert (empty.status, empty.body) == (400, b"")
    assert (misnamed.status, misnamed.body) == (400, b"")
    assert "`audio_file`" in misnamed.headers["x-error"]


@pytest.mark.parametrize("path", ["/asr", "/detect-language"])
async def test_a_browser_is_told_to_post(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get(path)

    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.error["message"] == "This path does not take GET. It takes POST."


async def test_translation_is_refused_where_nobody_translates(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await asked(server, "task=translate&language=de&output=srt&encode=false")

        assert (answer.status, answer.body) == (501, b"")
        assert "OPENAI_BASE_URL" in answer.headers["x-error"]
        assert server.client.requests == []


async def test_translation_is_made_where_a_language_model_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = german(("Guten Tag.", 1.0, 2.0), ("Wie geht's?", 5.0, 6.5))

    async with translating(tmp_path, client) as (server, _):
        subtitles = await asked(server, "task=translate&language=de&output=srt")
        result = await asked(server, "task=translate&output=json")

    assert [cue.content for cue in srt.parse(subtitles.body.decode())] == [
        "GUTEN TAG.",
        "WIE GEHT'S?",
    ]
    assert client.requests[0].language == "German"
    assert (result.json["text"], result.json["language"]) == ("GUTEN TAG. WIE GEHT'S?", "en")


async def test_translation_that_cannot_come_ends_with_the_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = long_german(asyncio.Event())  # the rest never comes

    async with translating(tmp_path, client, model=lambda request: Reply(401)) as (server, _):
        answer = await asked(server, "task=translate&output=srt")

        assert (answer.status, answer.body) == (502, b"")
        assert "OPENAI_API_KEY" in answer.headers["x-error"]
        assert len(client.cancelled) == 1


@pytest.fixture
def upload_deleted(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when an upload is deleted: as the worker waits, that of one who waits for another's."""
    delete, deleted = SpooledUpload.delete, asyncio.Event()

    def told(upload: SpooledUpload) -> None:
        delete(upload)
        deleted.set()

    monkeypatch.setattr(SpooledUpload, "delete", told)
    return deleted


async def test_a_film_sent_twice_at_once_is_heard_once(
    tmp_path: Path, upload_deleted: asyncio.Event
) -> None:
    async with running_server(tmp_path, speaking()) as server:
        async with two_callers(server, call("output=srt"), call("output=srt")) as callers:
            first, _, second = callers
            await upload_deleted.wait()
            assert len(server.spool_files) == 1
            server.client.gate.set()
            answers = [await read_answer(first), await read_answer(second)]

        assert len(server.client.requests) == 1
        assert answers[0].body == answers[1].body
        assert answers[0].status == answers[1].status == 200


async def test_the_second_caller_gets_its_answer_when_the_first_has_left(
    tmp_path: Path, upload_deleted: asyncio.Event
) -> None:
    async with running_server(tmp_path, speaking()) as server:
        async with two_callers(server, call(), call()) as (_, writer, second):
            await upload_deleted.wait()
            writer.close()
            await writer.wait_closed()
            await server.get("/livez")  # so that the server has seen the first one leave
            server.client.gate.set()
            answer = await read_answer(second)

        assert (answer.status, answer.body) == (200, b"one two\nthree\n")
        assert server.client.cancelled == []
        assert len(server.client.requests) == 1


async def test_work_ends_when_its_only_caller_leaves(tmp_path: Path) -> None:
    async with running_server(tmp_path, speaking()) as server:
        server.client.gate.clear()
        async with server.connection() as (_, writer):
            writer.write(call())
            await server.client.arrived.wait()
        await asyncio.wait_for(server.client.was_cancelled.wait(), 10)


@pytest.mark.parametrize(
    ("query", "body", "key"),
    [("output=srt", PCM, "k1"), ("", PCM + b"\0", "k1"), ("", PCM, "k2")],
    ids=["another format", "another film", "another key"],
)
async def test_what_differs_is_heard_apart(
    tmp_path: Path, query: str, body: bytes, key: str
) -> None:
    keys = (ApiKey.of("k1"), ApiKey.of("k2"))

    async with running_server(tmp_path, speaking(), api_keys=keys) as server:
        pair = two_callers(server, call(key="k1"), call(query, body, key=key))
        async with pair as (first, _, second):
            server.client.gate.set()
            await read_answer(first)
            await read_answer(second)

        assert len(server.client.requests) == 2


async def test_language_is_told_from_the_beginning_and_the_rest_is_not_heard(
    tmp_path: Path,
) -> None:
    spoken = [segment("guten Tag", 600.0, 640.0)]
    client = FakeWorkerClient(
        chunk_done("", language=None, end=9_600_000),
        chunk_done("guten Tag", language="German", index=1, end=10_240_000, segments=spoken),
        asyncio.Event(),  # never set: the rest of the film
    )

    async with running_server(tmp_path, client) as server:
        answer = await server.send(call("encode=false&video_file=a", path="/detect-language"))

        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {
            "detected_language": "german",
            "language_code": "de",
            "confidence": 1.0,
        }
        assert client.contents == [WAV_HEADER + PCM]
        assert client.cancelled == [client.requests[0].request_id]
        assert server.spool_files == []


async def test_a_film_without_speech_has_no_language(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.send(call(path="/detect-language"))

    assert (answer.status, json.loads(answer.body)) == (200, {})


async def test_failed_detection_has_a_status_and_no_body(tmp_path: Path) -> None:
    failure = TranscriptionFailed(FailureCode.AUDIO_UNDECODABLE, "Send a recording.")

    async with running_server(tmp_path, FakeWorkerClient(failure)) as server:
        answer = await server.send(call(path="/detect-language"))
        odd = await server.send(call("encode=perhaps", path="/detect-language"))

    assert (answer.status, answer.body) == (400, b"")
    assert (odd.status, odd.body) == (422, b"")


async def test_who_leaves_ends_the_detection(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        server.client.gate.clear()
        async with server.connection() as (_, writer):
            writer.write(call(path="/detect-language"))
            await server.client.arrived.wait()
        await asyncio.wait_for(server.client.was_cancelled.wait(), 10)


async def test_bazarrs_test_button_finds_a_version(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=(ApiKey.of("k"),)) as server:
        answer = await server.get("/status")

    assert answer.status == 200
    assert answer.json["version"]
