"""The whole description as one OpenAPI 3.1 document."""

import json
from typing import Any

from gateway.version import VERSION
from tools.openapi import calls, realtime
from tools.openapi.paths import PATHS
from tools.openapi.schemas import SCHEMAS

OPENAPI = "3.1.0"
TAGS = {
    "Transcription": "A recording in, its text out.",
    "Other servers": "As clients of whisper-asr-webservice and jaaacki/qwen3-asr expect them, with "
    "errors of their own.",
    "Live": "Keys for the WebSocket `/v1/realtime`, which OpenAPI cannot describe, following the "
    "calls that are heard there, and having an engine ready for them.",
    "Models": "Asking never loads the model.",
    "Health": "No key is needed, `HEAD` and `OPTIONS` work as well, nothing is cached, and "
    "nothing wakes the model.",
    "Documentation": "No key is needed.",
}
INTRODUCTION = """\
Speech to text with Qwen3-ASR on a machine of your own, for clients of OpenAI's API: base URL \
`http://HOST:8000/v1`, any model name.

A trailing slash changes nothing, and nothing is redirected. Where a path has other names, they \
are its `x-aliases`. What OpenAI's API lacks is marked `x-extension`. Unknown fields are ignored, \
as clients send many.

List fields may be sent as `keywords[]`, `keywords`, `keywords[0]` or one JSON array; booleans as \
`true`, `1`, `yes`, `on` or their opposites.

Every answer to a request that could be read has `x-request-id`: the caller's own where it sent \
one of at most 128 letters, digits, `.`, `_`, `:`, `-`, else the server's. Every failure has one \
envelope, the schema `Error`, but on the routes of other servers. A path that is not served is 404 \
`not_found`, another method than the path takes 405 `method_not_supported`. A head that is not \
HTTP/1.1, or of more than 64 KiB, is 400 `invalid_http`, on every route with the envelope.\
"""
KEYS = "Where the server's operator has set keys; else none is needed."
REQUEST_ID = {
    "description": "The caller's own id of the request, else the server's. Its log has both.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
}
HEADERS = {
    "RequestId": {"required": True, **REQUEST_ID},
    "OptionalRequestId": {
        **REQUEST_ID,
        "description": "As RequestId; not where the request's head was not HTTP/1.1, or did not "
        "arrive whole.",
    },
    "Model": {
        "required": True,
        "description": "The served model, percent-encoded.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which another try is worth it; not with `worker_failed`.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 60},
    },
    "ShouldRetry": {
        "description": "Sent where another try is not worth it.",
        "schema": {"type": "string", "const": "false"},
    },
}


def document() -> dict[str, Any]:
    """The description."""
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "qwen3-asr-server",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this description comes from."}],
        "security": [{}, {"bearer": []}, {"apiKey": []}, {"xApiKey": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": PATHS,
        "components": {
            "schemas": {**SCHEMAS, **realtime.SCHEMAS, **calls.SCHEMAS},
            "headers": HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": KEYS},
                "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
                "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def document_text() -> str:
    """The file: a line for each value, so that changes can be read."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"
