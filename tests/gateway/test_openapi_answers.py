"""What the server answers is what its description says, field by field."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.routes.documentation import PAGE
from gateway.settings import ApiKey
from tests.fakes import FakeWorkerClient, chunk_done, final, segment, tokens_of
from tests.gateway.harness import Answer, field_part, file_part, running_server, upload_request
from tools.openapi.document import document

DOCUMENT = document()
EVENT_SCHEMAS = {
    "transcript.text.delta": "DeltaEvent",
    "transcript.text.segment": "SpokenSegment",
    "transcript.text.done": "DoneEvent",
    "transcript.progress": "ProgressEvent",
}


def spoken() -> FakeWorkerClient:
    """Two words in two segments, each on a channel of its own."""
    segments = [segment("one", 0.1, 0.4, channel=0), segment("two", 0.5, 0.9, channel=1)]
    tokens = tokens_of(b"one", b" two")
    return FakeWorkerClient(chunk_done("one two", segments=segments, tokens=tokens), final())


def closed(value: Any) -> Any:
    """Schemas without fields that they do not name, so that new ones are noticed."""
    if isinstance(value, dict):
        end = {"additionalProperties": False} if value.get("type") == "object" else {}
        return {**{name: closed(each) for name, each in value.items()}, **end}
    return [closed(each) for each in value] if isinstance(value, list) else value


def assert_fits(name: str, answer: object) -> None:
    """Whether an answer has what the schema names, and nothing else."""
    schemas = closed(DOCUMENT["components"]["schemas"])
    checked = Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    )
    assert [each.message for each in checked.iter_errors(answer)] == []


async def transcribed(folder: Path, path: str, *fields: tuple[str, str]) -> Answer:
    async with running_server(folder, spoken()) as server:
        parts = [field_part(name, value) for name, value in fields]
        name = "audio_file" if path in ("/asr", "/detect-language") else "file"
        answer = await server.upload(file_part(name=name), *parts, path=path)
        assert answer.status == 200, answer.body
        return answer


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        ("Transcript", [("response_format", "json")]),
        ("Transcript", [("include[]", "logprobs")]),
        ("VerboseTranscript", [("response_format", "verbose_json")]),
        (
            "VerboseTranscript",
            [
                ("response_format", "verbose_json"),
                ("timestamp_granularities[]", "word"),
                ("timestamp_granularities[]", "segment"),
            ],
        ),
        ("DiarizedTranscript", [("response_format", "diarized_json")]),
    ],
)
async def test_a_json_answer_has_what_is_described_and_nothing_else(
    short_folder: Path, schema: str, fields: Sequence[tuple[str, str]]
) -> None:
    answer = await transcribed(short_folder, "/v1/audio/transcriptions", *fields)

    assert_fits(schema, answer.json)


@pytest.mark.parametrize(
    "fields",
    [
        [("response_format", "json")],
        [("include[]", "logprobs")],
        [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
        [("response_format", "diarized_json")],
        [("include[]", "progress")],
    ],
)
async def test_an_event_has_what_is_described_and_nothing_else(
    short_folder: Path, fields: Iterable[tuple[str, str]]
) -> None:
    path = "/v1/audio/transcriptions"
    answer = await transcribed(short_folder, path, ("stream", "true"), *fields)
    events = [json.loads(line) for line in data_lines(answer.body) if line != "[DONE]"]

    assert len(events) > 1
    for event in events:
        assert_fits(EVENT_SCHEMAS[event["type"]], event)


async def test_an_event_of_the_predecessors_stream_has_what_is_described(
    short_folder: Path,
) -> None:
    answer = await transcribed(short_folder, "/v1/audio/transcriptions/stream")
    chunk, end = (json.loads(line) for line in data_lines(answer.body))

    assert_fits("ChunkEvent", chunk)
    assert_fits("StreamEnd", end)


async def test_a_detected_language_has_what_is_described(short_folder: Path) -> None:
    assert_fits("DetectedLanguage", (await transcribed(short_folder, "/detect-language")).json)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/models", "ModelList"),
        ("/v1/models/whisper-1", "Model"),
        ("/livez", "Live"),
        ("/readyz", "Ready"),
        ("/readyz?require=loaded", "Unready"),
        ("/health", "Health"),
        ("/status", "Status"),
        ("/", "Health"),
        ("/v1/nothing", "Error"),
    ],
)
async def test_an_answer_to_get_has_what_is_described_and_nothing_else(
    short_folder: Path, path: str, schema: str
) -> None:
    async with running_server(short_folder, spoken()) as server:
        assert_fits(schema, (await server.get(path)).json)


@pytest.mark.parametrize("path", ["/v1/audio/subtitles", "/v1/audio/transcriptions/stream"])
async def test_a_flat_error_has_what_is_described_and_nothing_else(
    short_folder: Path, path: str
) -> None:
    async with running_server(short_folder) as server:
        answer = await server.upload(field_part("language", "en"), path=path)

    described = DOCUMENT["paths"][path]["post"]["responses"][str(answer.status)]
    assert_fits("FlatError", answer.json)
    [_, narrowed] = described["content"]["application/json"]["schema"]["allOf"]
    assert answer.json["code"] in narrowed["properties"]["code"]["enum"]


def data_lines(body: bytes) -> list[str]:
    return [
        line.removeprefix("data: ")
        for line in body.decode().splitlines()
        if line.startswith("data: ")
    ]


async def test_the_description_and_its_page_need_no_key(short_folder: Path) -> None:
    async with running_server(short_folder, api_keys=(ApiKey.of("secret"),)) as server:
        description = await server.get("/openapi.json")
        shown = await server.get("/docs/")
        refused = await server.send(upload_request(file_part()))

    assert description.json == DOCUMENT
    assert description.headers["content-type"] == "application/json"
    assert shown.body == PAGE.read_bytes()
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert refused.status == 401


async def test_the_page_at_the_root_leads_to_this_one(short_folder: Path) -> None:
    async with running_server(short_folder) as server:
        assert b'href="docs"' in (await server.get("/", accept="text/html")).body
