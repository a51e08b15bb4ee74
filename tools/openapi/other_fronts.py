"""The routes of other servers: whisper-asr-webservice's, and those of jaaacki/qwen3-asr."""

import json
from collections.abc import Iterable
from typing import Any

from gateway.error_shapes import Failure, flat
from gateway.errors import ApiError, RecordingEmpty, RecordingMissing
from gateway.routes.asr_webservice import FILE_FIELD, OUTPUTS, PASSED_ON, TASKS
from gateway.routes.predecessor import MODES, STREAM_FIELDS, SUBTITLE_FIELDS
from gateway.routes.translations import TARGET
from tools.openapi.errors import CODES, FOR_UPLOADS, request_id
from tools.openapi.fields import FILE, TRANSCRIPTION, Field, flag, text
from tools.openapi.parts import (
    JSON,
    MODEL,
    RETRY_AFTER,
    SRT_EXAMPLE,
    Described,
    answer,
    operation,
    path,
    plain,
    upload,
)
from tools.openapi.schemas import either, to

SILENT_TITLES = {
    400: "The request cannot be served as it was sent",
    401: "No key, or an unknown one",
    403: "A web page of a foreign origin",
    408: "The upload stopped arriving",
    413: "The upload is too large",
    415: "Not multipart/form-data",
    422: "A parameter cannot be used",
    500: "A fault of the server",
    501: "A translation, where no language model is set to make it",
    502: "The language model that translates cannot be used",
    503: "Not now",
    507: "A disk is full",
}
"""Errors whose body is empty: the reason is a header."""
SHARED = {field.name: field for field in TRANSCRIPTION}
AUDIO_FILE = Field(FILE_FIELD, FILE.schema, FILE.text)
ENCODE = Field(
    "encode",
    {"type": "boolean", "default": True},
    "`false`: the recording may lack a header; it is then signed 16 bit little-endian PCM at "
    "16 kHz with one channel.",
)
ASR_PARAMETERS = (
    ENCODE,
    Field(
        "task",
        text(enum=list(TASKS), default=TASKS[0]),
        f"`translate`: into {TARGET}, where a language model is set to do so.",
    ),
    Field(
        "output",
        text(enum=list(OUTPUTS), default="txt"),
        "Lines of text, subtitles, a table of times in milliseconds, or whisper's JSON.",
    ),
    Field("initial_prompt", SHARED["prompt"].schema, SHARED["prompt"].text),
    Field("word_timestamps", flag(), "`true`: segments of `json` have their words."),
    *(SHARED[name] for name in PASSED_ON),
)
STREAM_FORM = (
    *(SHARED[name] for name in STREAM_FIELDS if name in SHARED),
    Field("return_timestamps", {}, "Taken, without effect."),
)
SUBTITLE_FORM = (
    *(SHARED[name] for name in SUBTITLE_FIELDS if name in SHARED),
    Field(
        "mode",
        text(enum=list(MODES), default=MODES[0]),
        "Both are made alike: words are as exact as they can be in either.",
    ),
)
STREAM_EXAMPLE = """\
data: {"text":"zero one","language":"English","is_final":true}

data: {"done":true}

"""
ERROR_HEADER = {
    "description": "The code and what to do about it.",
    "schema": {"type": "string"},
}


def parameters(fields: Iterable[Field]) -> list[Described]:
    """Fields that stand in the query."""
    return [
        {
            "name": field.name,
            "in": "query",
            "description": field.text,
            "schema": field.schema,
            **({"x-extension": True} if field.is_ours else {}),
        }
        for field in fields
    ]


def silent_answers(*statuses: int) -> Described:
    """Errors without a body."""
    return {
        str(status): {
            "description": f"{SILENT_TITLES[status]}. The body is empty.",
            "headers": {
                "x-request-id": {"$ref": f"#/components/headers/{request_id(status)}"},
                "x-error": {**ERROR_HEADER, "required": status not in (400, 408)},
                **(RETRY_AFTER if status == 503 else {}),
            },
        }
        for status in statuses
    }


def flat_answers(timeout_code: str, *further: str) -> Described:
    """Errors as jaaacki/qwen3-asr writes them; `further`: codes of status 400."""
    by_status: dict[int, list[str]] = {}
    for code, status in (*_flat_codes(timeout_code), *((code, 400) for code in further)):
        codes = by_status.setdefault(status, [])
        if code not in codes:
            codes.append(code)
    return {str(status): _flat_answer(status, by_status[status]) for status in sorted(by_status)}


def _flat_codes(timeout_code: str) -> Iterable[tuple[str, int]]:
    errors: list[ApiError] = [RecordingEmpty(""), RecordingMissing("")]
    for code in FOR_UPLOADS:
        error = ApiError("", code=code)
        error.status = CODES[code][0]
        errors.append(error)
    for error in errors:
        shaped = flat(timeout_code)(Failure(error, "POST", ""))
        yield json.loads(shaped.body)["code"], shaped.status


def _flat_answer(status: int, codes: list[str]) -> Described:
    narrowed: dict[str, Any] = {"properties": {"code": {"enum": codes}}}
    listed = ", ".join(f"`{code}`" for code in codes)
    return {
        "description": f"With one of the codes {listed}." if codes[1:] else f"With {listed}.",
        "headers": {
            "x-request-id": {"$ref": f"#/components/headers/{request_id(status)}"},
            **(RETRY_AFTER if status == 503 else {}),
        },
        "content": {JSON: {"schema": {"allOf": [to("FlatError"), narrowed]}}},
    }


ASR = operation(
    "Other servers",
    "asr",
    "A recording as whisper-asr-webservice takes it",
    "For Bazarr and its like. Parameters stand in the query, unknown ones are ignored. Callers "
    "with one key who send the same recording with the same parameters at the same time share one "
    "run. Errors have no body, since such programs keep any body as subtitles.",
    {
        "200": answer(
            "The transcript or translation, always as plain text.",
            {"text/plain": plain(SRT_EXAMPLE, "In the form that `output` names.")},
            {
                **MODEL,
                "asr-engine": {"required": True, "schema": {"type": "string"}},
                "content-disposition": {"required": True, "schema": {"type": "string"}},
            },
        ),
        **silent_answers(*SILENT_TITLES),
    },
    parameters=parameters(ASR_PARAMETERS),
    requestBody=upload((AUDIO_FILE,)),
)
DETECT_LANGUAGE = operation(
    "Other servers",
    "detectLanguage",
    "The language of a recording",
    "The recording is heard until 30 s of speech are known. Errors have no body.",
    {
        "200": answer(
            "The language; empty where none was heard.",
            {JSON: {"schema": to("DetectedLanguage")}},
            MODEL,
        ),
        **silent_answers(*(status for status in SILENT_TITLES if status not in (501, 502))),
    },
    parameters=parameters((ENCODE,)),
    requestBody=upload((AUDIO_FILE,)),
)
STREAM = operation(
    "Other servers",
    "streamTranscription",
    "A transcript as jaaacki/qwen3-asr streams it",
    "An event for each chunk, sent when the next one or the end is there.",
    {
        "200": answer(
            "The events.",
            {
                "text/event-stream": {
                    "schema": {"description": "One `data:` line an event, a blank line behind."},
                    "x-item-schema": either("ChunkEvent", "StreamEnd", "StreamError"),
                    "example": STREAM_EXAMPLE,
                }
            },
            MODEL,
        ),
        **flat_answers("TRANSCRIPTION_TIMEOUT"),
    },
    requestBody=upload(STREAM_FORM),
)
SUBTITLES = operation(
    "Other servers",
    "createSubtitles",
    "Subtitles as jaaacki/qwen3-asr makes them",
    "SubRip as a file.",
    {
        "200": answer(
            "The subtitles.",
            {"text/plain": plain(SRT_EXAMPLE, "SubRip.")},
            {**MODEL, "content-disposition": {"required": True, "schema": {"type": "string"}}},
        ),
        **flat_answers("SUBTITLE_TIMEOUT", "INVALID_MODE"),
    },
    requestBody=upload(SUBTITLE_FORM),
)
PATHS: Described = {
    "/asr": path(post=ASR),
    "/detect-language": path(post=DETECT_LANGUAGE),
    "/v1/audio/transcriptions/stream": path(("/audio/transcriptions/stream",), post=STREAM),
    "/v1/audio/subtitles": path(("/audio/subtitles",), post=SUBTITLES),
}
