"""The routes that mint client secrets for live sessions."""

from typing import Any

from gateway.live.client_secrets import DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS
from gateway.live.query import LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE
from gateway.live.realtime_session import (
    FLAT_FORMATS,
    LOGPROBS,
    NESTED_FORMATS,
    PCM_RATE,
    SEMANTIC_SILENCE_MS,
    STEP_SECONDS,
)
from tools.openapi.errors import FOR_ALL, error_answers
from tools.openapi.parts import JSON, Described, json_answer, operation, path
from tools.openapi.schemas import Schema, of, record, to

NULL: Schema = {"type": "null"}
FOR_SECRETS = (*FOR_ALL, "invalid_value", "request_timeout", "upload_too_large")


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


TRANSCRIPTION: Schema = {
    "type": "object",
    "properties": {
        "model": of("string", "Any name: there is one model.", maxLength=256),
        "language": _or_null(of("string", "A code or an English name; null: detected.")),
        "languages": {"type": "array", "items": {"type": "string"}},
        "keywords": {"type": "array", "items": {"type": "string"}, "maxItems": 256},
        "prompt": of("string", "At most 8 KiB."),
        "delay": of("string", "How much audio is between two texts.", enum=[*STEP_SECONDS]),
    },
}
TURN_DETECTION: Schema = {
    "type": "object",
    "properties": {
        "type": of("string", "What ends turns.", enum=["server_vad", "semantic_vad"]),
        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        "prefix_padding_ms": {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 300},
        "silence_duration_ms": {"type": "integer", "minimum": 0, "maximum": 60_000, "default": 500},
        "eagerness": of("string", "Of `semantic_vad`.", enum=[*SEMANTIC_SILENCE_MS]),
    },
}
NOISE_REDUCTION: Schema = {"type": "object", "description": "Taken, without effect."}
INCLUDE: Schema = {
    "type": "array",
    "description": "What `completed` has besides.",
    "items": {"type": "string", "enum": [LOGPROBS]},
}
FORMAT: Schema = {
    "type": "object",
    "properties": {
        "type": of("string", "How samples are written.", enum=[*NESTED_FORMATS]),
        "rate": {
            "type": "integer",
            "minimum": LEAST_SAMPLE_RATE,
            "maximum": MOST_SAMPLE_RATE,
            "default": PCM_RATE,
        },
    },
}
NESTED: Schema = {
    "type": {"type": "string", "const": "transcription"},
    "audio": {
        "type": "object",
        "properties": {
            "input": {
                "type": "object",
                "properties": {
                    "format": FORMAT,
                    "transcription": _or_null(TRANSCRIPTION),
                    "turn_detection": _or_null(TURN_DETECTION),
                    "noise_reduction": _or_null(NOISE_REDUCTION),
                },
            }
        },
    },
    "include": _or_null(INCLUDE),
}
FLAT: Schema = {
    "input_audio_format": of("string", "How samples are written.", enum=[*FLAT_FORMATS]),
    "input_audio_transcription": _or_null(TRANSCRIPTION),
    "turn_detection": _or_null(TURN_DETECTION),
    "input_audio_noise_reduction": _or_null(NOISE_REDUCTION),
    "include": _or_null(INCLUDE),
}
ABOUT: Schema = {
    "object": {"type": "string", "const": "realtime.transcription_session"},
    "id": {"type": "string"},
    "expires_at": of("null", "Sessions do not expire."),
}
SECRET: Schema = {
    "value": of("string", "The key.", pattern="^ek_"),
    "expires_at": of("integer", "Unix time."),
}
EXPIRY: Schema = {
    "type": "object",
    "properties": {
        "anchor": {"type": "string", "const": "created_at"},
        "seconds": {
            "type": "integer",
            "minimum": LEAST_SECONDS,
            "maximum": MOST_SECONDS,
            "default": DEFAULT_SECONDS,
        },
    },
}
SCHEMAS: Schema = {
    "RealtimeSession": record(
        "The configuration of a live session.", "", NESTED, examples=[{"type": "transcription"}]
    ),
    "FlatRealtimeSession": record("The same in the beta's shape.", "", FLAT),
    "ClientSecret": record(
        "A key for live sessions, and the whole configuration they begin with.",
        "value expires_at session",
        {
            **SECRET,
            "session": record("The session.", "type object id audio", {**NESTED, **ABOUT}),
        },
    ),
    "SessionWithSecret": record(
        "A flat session with its key.",
        "object id client_secret",
        {
            **FLAT,
            **ABOUT,
            "client_secret": record("The key.", "value expires_at", SECRET),
        },
    ),
}


def _body(schema: Schema) -> Described:
    return {"content": {JSON: {"schema": schema}}}


def _minting(name: str, summary: str, text: str, body: Schema, answer: Schema) -> dict[str, Any]:
    return operation(
        "Live",
        name,
        summary,
        text,
        {"200": json_answer("The secret.", answer), **error_answers(FOR_SECRETS)},
        requestBody=_body(body),
    )


PATHS: Described = {
    "/v1/realtime/client_secrets": path(
        ("/realtime/client_secrets",),
        post=_minting(
            "createClientSecret",
            "A key for live sessions of a browser",
            "It opens the WebSocket `/v1/realtime`, as often as it is used until it expires, and "
            "nothing else. Its sessions begin with the configuration given here.",
            record("", "", {"session": to("RealtimeSession"), "expires_after": EXPIRY}),
            to("ClientSecret"),
        ),
    ),
    "/v1/realtime/transcription_sessions": path(
        ("/realtime/transcription_sessions",),
        post=_minting(
            "createTranscriptionSession",
            "The same in the shape of OpenAI's beta",
            "The body is a flat session, and so is the answer, with the key in it.",
            SCHEMAS["FlatRealtimeSession"],
            to("SessionWithSecret"),
        ),
    ),
}
