import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.formats.diarized import ANNOUNCEMENT_SAMPLES
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import (
    FakeWorkerClient,
    chunk_done,
    client_snapshot,
    final,
    segment,
    tokens_of,
)
from tests.gateway.harness import (
    field_part,
    file_part,
    read_answer,
    request,
    running_server,
    upload_request,
)


def spoken() -> FakeWorkerClient:
    """A recording of two segments in 5.5 seconds."""
    return FakeWorkerClient(
        chunk_done(
            "One two. Three.",
            segments=[segment("One two.", 0.5, 1.5), segment("Three.", 4.0, 5.0)],
        ),
        final(audio_seconds=5.5),
    )


async def test_json_answer_carries_text_languages_and_real_token_sums(tmp_path: Path) -> None:
    client = FakeWorkerClient(
        chunk_done("Guten Tag.", language="German", index=0, start=0, end=16_000),
        chunk_done("Hello there.", language="English", index=1, start=16_000, end=80_000),
        final(chunks=2, audio_seconds=5.0),
    )

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part())

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-model"] == "embedded"
    assert answer.json == {
        "text": "Guten Tag. Hello there.",
        "language": "English",
        "languages": [{"code": "de"}, {"code": "en"}],
        "usage": {
            "type": "tokens",
            "input_tokens": 40,
            "input_token_details": {"text_tokens": 14, "audio_tokens": 26},
            "output_tokens": 10,
            "total_tokens": 50,
        },
    }


async def test_text_answer_is_the_transcript_and_a_line_end(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(file_part(), field_part("response_format", "text"))

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == b"one two\n"


async def test_verbose_answer_has_segments_words_and_a_number_for_its_length(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, spoken()) as server:
        answer = await server.upload(
            field_part("response_format", "verbose_json"),
            field_part("timestamp_granularities[]", "word"),
            field_part("timestamp_granularities[]", "segment"),
            file_part(),
        )

    assert answer.headers["content-type"] == "application/json"
    assert answer.json["duration"] == 5.5
    assert [each["text"] for each in answer.json["segments"]] == ["One two.", " Three."]
    assert [each["word"] for each in answer.json["words"]] == ["One", "two.", "Three."]


@pytest.mark.parametrize(
    ("response_format", "content_type", "beginning"),
    [
        ("srt", "text/plain; charset=utf-8", "1\n00:00:00,500 --> 00:00:0"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.500 --> 00:00:0"),
        ("ass", "text/plain; charset=utf-8", "[Script Info]\n"),
        ("lrc", "text/plain; charset=utf-8", "[00:00.50]One two."),
    ],
)
async def test_subtitles_are_text_and_never_json(
    tmp_path: Path, response_format: str, content_type: str, beginning: str
) -> None:
    async with running_server(tmp_path, spoken()) as server:
        answer = await server.upload(file_part(), field_part("response_format", response_format))

    assert answer.status == 200
    assert answer.headers["content-type"] == content_type
    assert answer.body.decode().startswith(beginning)


@pytest.mark.parametrize("response_format", ["srt", "vtt", "ass", "lrc"])
async def test_silence_is_subtitles_without_a_cue(tmp_path: Path, response_format: str) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), field_part("response_format", response_format))

    assert answer.status == 200
    assert "Dialogue" not in answer.body.decode()
    assert "-->" not in answer.body.decode()


async def test_cue_rules_and_word_times_of_a_request_are_followed(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server:
        ass = await server.upload(
            field_part("response_format", "ass"), field_part("word_times", "true"), file_part()
        )
        vtt = await server.upload(
            field_part("response_format", "vtt"), field_part("word_times", "true"), file_part()
        )
        srt = await server.upload(
            field_part("response_format", "srt"),
            field_part("max_line_chars", "8"),
            field_part("max_lines", "1"),
            file_part(),
        )

    assert "{\\k" in ass.body.decode()
    assert "<00:00:01.000>" in vtt.body.decode()
    assert "\nOne two.\n" in srt.body.decode()


async def test_server_answers_others_while_it_cuts_a_long_recording_into_cues(
    tmp_path: Path,
) -> None:
    texts = "one two three four five six seven"
    chunks = [
        chunk_done(texts, index=number, segments=[segment(texts, number * 3, number * 3 + 2)])
        for number in range(1500)
    ]
    client = FakeWorkerClient(*chunks, final(chunks=1500, audio_seconds=4500.0))

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part(), field_part("response_format", "srt")))
        await client.arrived.wait()
        working = asyncio.ensure_future(read_answer(reader))
        probes = 0
        while not working.done():
            assert (await server.get("/livez")).status == 200
            probes += 1
        answer = await working

    assert answer.body.count(b" --> ") >= 1500
    assert probes > 3


async def test_conversation_on_two_channels_has_speakers(tmp_path: Path) -> None:
    segments = [segment("Hello.", 0, 1, channel=0), segment("Hi.", 1, 2, channel=1)]
    client = FakeWorkerClient(chunk_done("Hello. Hi.", segments=segments), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), field_part("response_format", "diarized_json"))

    assert answer.json["text"] == "A: Hello.\nB: Hi."
    assert [each["speaker"] for each in answer.json["segments"]] == ["A", "B"]


async def test_conversation_on_one_channel_is_refused_and_its_work_ends(tmp_path: Path) -> None:
    heard = replace(chunk_done("one two"), end=ANNOUNCEMENT_SAMPLES)
    client = FakeWorkerClient(heard, chunk_done("three", index=1), final(chunks=2))

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), field_part("response_format", "diarized_json"))

        assert answer.status == 400
        assert (answer.error["param"], answer.error["code"]) == (
            "response_format",
            "unsupported_value",
        )
        assert client.cancelled == [client.requests[0].request_id]
        assert server.spool_files == []


async def test_probabilities_of_tokens_are_given_where_asked_for(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("one two", tokens=tokens_of(b"one", b" two")), final())

    async with running_server(tmp_path, client) as server:
        asked = await server.upload(file_part(), field_part("include[]", "logprobs"))
        other = await server.upload(file_part())

    assert [entry["token"] for entry in asked.json["logprobs"]] == ["one", " two"]
    assert "logprobs" not in other.json


async def test_long_answer_arrives_whole(tmp_path: Path) -> None:
    chunks = [
        chunk_done(
            "word " * 2000, index=number, segments=[segment("word " * 2000, number, number + 1)]
        )
        for number in range(50)
    ]
    client = FakeWorkerClient(*chunks, final(chunks=50))

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(
            field_part("response_format", "verbose_json"),
            field_part("timestamp_granularities[]", "word"),
            file_part(),
        )

    assert len(answer.json["words"]) == 100_000
    assert len(answer.json["text"]) == 50 * 2000 * 5 - 1


async def test_silence_is_an_empty_text_and_no_language(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part())

    assert (answer.json["text"], answer.json["language"], answer.json["languages"]) == ("", "", [])


async def test_silence_with_a_language_asked_for_names_it(tmp_path: Path) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), field_part("language", "de"))

    assert answer.json["language"] == "German"


async def test_as_many_keywords_as_are_allowed_arrive_as_fields_of_their_own(
    tmp_path: Path,
) -> None:
    words = [f"word{number}" for number in range(256)]

    async with running_server(tmp_path) as server:
        answer = await server.upload(
            *(field_part("keywords[]", word) for word in words), file_part()
        )

    assert answer.status == 200
    assert server.client.requests[0].keywords == tuple(words)


async def test_worker_gets_the_recording_and_every_option(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.upload(
            field_part("model", "nova-3"),
            field_part("language", "en-US"),
            field_part("prompt", "Order numbers."),
            field_part("keywords[]", "Grüße"),
            field_part("keywords[]", "b c"),
            field_part("temperature", "0.2"),
            field_part("use_previous_context", "true"),
            field_part("audio_track", "1"),
            file_part(b"RIFF....speech"),
        )

    (wanted,) = server.client.requests
    assert server.client.contents == [b"RIFF....speech"]
    assert wanted.language == "English"
    assert wanted.prompt == "Order numbers."
    assert wanted.keywords == ("Grüße", "b c")
    assert wanted.temperature == 0.2
    assert wanted.upload_bytes == len(b"RIFF....speech")
    assert wanted.owner is None
    assert (wanted.uses_previous_context, wanted.audio_track) == (True, 1)
    assert (wanted.wants_partials, wanted.wants_logprobs, wanted.splits_channels) == (
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("fields", "partials", "logprobs", "channels"),
    [
        ({"stream": "true"}, True, False, False),
        ({"stream": "true", "include[]": "logprobs"}, False, True, False),
        ({"include[]": "logprobs"}, False, True, False),
        ({"response_format": "verbose_json"}, False, True, False),
        ({"response_format": "verbose_json", "stream": "true"}, True, True, False),
        ({"response_format": "diarized_json"}, False, False, True),
        ({"response_format": "diarized_json", "stream": "true"}, False, False, True),
        ({"response_format": "srt"}, False, False, False),
    ],
)
async def test_worker_is_asked_for_what_the_format_needs(
    tmp_path: Path, fields: dict[str, str], partials: bool, logprobs: bool, channels: bool
) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())
    async with running_server(tmp_path, client) as server:
        parts = [field_part(name, value) for name, value in fields.items()]
        await server.upload(*parts, field_part("languages", '["de","en"]'), file_part())

    (wanted,) = client.requests
    assert wanted.languages == ("German", "English")
    assert (wanted.wants_partials, wanted.wants_logprobs, wanted.splits_channels) == (
        partials,
        logprobs,
        channels,
    )


@pytest.mark.parametrize(
    ("response_format", "are_wanted"),
    [
        *((name, True) for name in ("verbose_json", "diarized_json", "srt", "vtt", "ass", "lrc")),
        *((name, False) for name in ("json", "text")),
    ],
)
async def test_times_of_words_are_measured_for_the_formats_that_show_times(
    tmp_path: Path, response_format: str, are_wanted: bool
) -> None:
    client = FakeWorkerClient(chunk_done("", language=None), final())
    async with running_server(tmp_path, client) as server:
        await server.upload(field_part("response_format", response_format), file_part())

    (wanted,) = client.requests
    assert wanted.wants_words is are_wanted


async def test_spool_name_is_hexadecimal_with_one_slash(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.upload(file_part(filename="../../etc/passwd.wav"))

        (wanted,) = server.client.requests
        folder, _, name = wanted.spool_file.partition("/")
        assert int(folder, 16) >= 0
        assert int(name, 16) >= 0
        assert wanted.upload_path == server.gateway.spool.folder / folder / name


async def test_upload_and_chunks_are_deleted_before_the_answer_is_sent(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (reader, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        (wanted,) = client.requests
        wanted.chunks_path.write_bytes(b"chunk")
        assert len(server.spool_files) == 2
        client.gate.set()
        await read_answer(reader)

        assert server.spool_files == []


async def test_client_that_leaves_while_waiting_ends_the_work_and_its_file(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server:
        async with server.connection() as (_, writer):
            writer.write(upload_request(file_part()))
            await client.arrived.wait()
        await client.was_cancelled.wait()
        await asyncio.gather(*server.server.requests_in_flight)

        assert client.cancelled == [client.requests[0].request_id]
        assert server.spool_files == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("response_format", "xml", "unsupported_value"),
        ("stream", "maybe", "invalid_value"),
        ("include", "segments", "invalid_value"),
        ("audio_track", "first", "invalid_value"),
        ("max_lines", "9", "invalid_value"),
        ("language", "Klingon", "invalid_value"),
        ("languages", "Klingon", "invalid_value"),
        ("temperature", "nan", "invalid_value"),
        ("temperature", "1.5", "invalid_value"),
        ("prompt", "x" * 8193, "invalid_value"),
        ("timestamp_granularities", "sentence", "invalid_value"),
        ("timestamp_granularities", "[" * 60_000, "invalid_value"),
        ("keywords", "[" * 60_000, "invalid_value"),
        ("languages", "[" * 60_000, "invalid_value"),
        ("keywords", '["\\ud800"]', "invalid_value"),
        ("languages", '["\\udfff"]', "invalid_value"),
        ("timestamp_granularities", '["word", "\\ud83d"]', "invalid_value"),
    ],
)
async def test_bad_option_is_told_by_name_without_asking_a_worker(
    tmp_path: Path, name: str, value: str, code: str
) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(file_part(), field_part(name, value))

        assert answer.status == 400
        assert (answer.error["param"], answer.error["code"]) == (name, code)
        assert server.client.requests == []
        assert server.spool_files == []


@pytest.mark.parametrize(
    ("code", "retry_after", "status", "header", "value"),
    [
        (FailureCode.AUDIO_UNDECODABLE, None, 400, "retry-after", None),
        (FailureCode.AUDIO_TOO_LONG, None, 400, "retry-after", None),
        (FailureCode.AUDIO_LIMITS, None, 400, "retry-after", None),
        (FailureCode.AUDIO_TRACK_MISSING, None, 400, "retry-after", None),
        (FailureCode.WORKER_UNAVAILABLE, 7.2, 503, "retry-after", "8"),
        (FailureCode.QUEUE_FULL, None, 503, "retry-after", "5"),
        (FailureCode.TIMED_OUT, 3600.0, 503, "retry-after", "60"),
        (FailureCode.SHUTTING_DOWN, None, 503, "retry-after", "5"),
        (FailureCode.INPUT_LOST, None, 503, "retry-after", "5"),
        (FailureCode.WORKER_FAILED, None, 503, "x-should-retry", "false"),
        (FailureCode.INFERENCE_FAILED, 5.0, 503, "retry-after", "5"),
        (FailureCode.INFERENCE_FAILED, 5.0, 503, "x-should-retry", None),
    ],
)
async def test_failure_of_the_work_becomes_a_status_and_a_hint_about_retrying(
    tmp_path: Path,
    code: FailureCode,
    retry_after: float | None,
    status: int,
    header: str,
    value: str | None,
) -> None:
    failure = TranscriptionFailed(code, "Do this instead.", retry_after=retry_after)

    async with running_server(tmp_path, FakeWorkerClient(failure)) as server:
        answer = await server.upload(file_part())

        assert answer.status == status
        assert answer.error["code"] == str(code)
        assert answer.error["message"] == "Do this instead."
        assert answer.headers.get(header) == value
        assert server.spool_files == []


async def test_fault_of_ours_is_a_500_that_names_nothing_but_the_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeWorkerClient(ValueError("<_io.BytesIO object at 0x7f0000>"))

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part())

        assert answer.status == 500
        assert "BytesIO" not in answer.body.decode()
        assert answer.headers["x-request-id"] in caplog.text
        assert "BytesIO" in caplog.text
        assert server.spool_files == []


async def test_upload_on_its_way_is_a_reason_to_keep_an_engine(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        whole = upload_request(file_part())
        writer.write(whole[:-10])
        await server.client.was_expecting.wait()
        assert server.client.expected == 1
        assert server.client.requests == []

        writer.write(whole[-10:])
        await read_answer(reader)
        assert server.client.expected == 0


async def test_full_queue_refuses_before_the_body_is_read(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.state = client_snapshot("ready", waiting_requests=3)

    async with running_server(tmp_path, client, max_waiting_requests=3) as server:
        async with server.connection() as (reader, writer):
            head = request(
                "POST",
                "/v1/audio/transcriptions",
                headers={
                    "Content-Type": "multipart/form-data; boundary=b",
                    "Content-Length": "1000000",
                },
            )
            writer.write(head)
            answer = await read_answer(reader)

        assert answer.status == 503
        assert answer.error["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1


async def test_request_that_comes_while_the_server_ends_is_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        server.gateway.is_draining = True
        answer = await server.upload(file_part())

        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        assert server.client.requests == []


async def test_route_is_there_without_v1_and_with_a_trailing_slash(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        bare = await server.upload(file_part(), path="/audio/transcriptions")
        slashed = await server.upload(file_part(), path="/v1/audio/transcriptions/")

    assert (bare.status, slashed.status) == (200, 200)


async def test_many_callers_each_get_their_own_answer(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(server.upload(file_part(bytes([number]) * 1000)))
                for number in range(20)
            ]

        assert {task.result().status for task in running} == {200}
        assert sorted(server.client.contents) == sorted(bytes([n]) * 1000 for n in range(20))
        assert len({task.result().headers["x-request-id"] for task in running}) == 20


async def test_log_line_has_ids_and_numbers_but_no_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gateway")
    client = FakeWorkerClient(chunk_done("a secret"), final(audio_seconds=12.5))

    async with running_server(tmp_path, client) as server:
        answer = await server.upload(file_part(), field_part("prompt", "a hint"))

    (line,) = [r.getMessage() for r in caplog.records if r.name == "gateway.boundary"]
    assert f"request_id={answer.headers['x-request-id']}" in line
    assert "method=POST path=/v1/audio/transcriptions status=200" in line
    assert "audio_seconds=12.500" in line
    assert "secret" not in caplog.text
    assert "hint" not in caplog.text
