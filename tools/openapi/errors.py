"""Every code an error carries, and how answers that carry it are described."""

from collections.abc import Iterable
from typing import Any

CODES = {
    "invalid_http": (400, "the request is not HTTP/1.1"),
    "invalid_value": (400, "a field cannot be used, the body is malformed, or the file is missing"),
    "unsupported_value": (400, "the value is known elsewhere, but not here, or not for this file"),
    "unsupported": (400, "a translation, where no language model is set to make it"),
    "audio_undecodable": (400, "nothing in the file can be read as audio"),
    "audio_track_missing": (400, "the recording has no audio track `audio_track`"),
    "audio_too_long": (400, "the recording is longer than `MAX_AUDIO_SECONDS`"),
    "audio_limits": (400, "sample rate, channels or the effort of decoding are out of range"),
    "invalid_api_key": (401, "no key, or an unknown one"),
    "origin_not_allowed": (403, "a web page of a foreign origin"),
    "not_found": (404, "nothing is served under this path"),
    "model_not_found": (404, "no model goes by this name"),
    "call_not_found": (404, "no call of this id is under way, or has just ended"),
    "method_not_supported": (405, "the path takes another method, named in `allow`"),
    "request_timeout": (408, "the upload stopped arriving, or arrives too slowly"),
    "upload_too_large": (413, "the upload is larger than `MAX_UPLOAD_BYTES`"),
    "unsupported_media_type": (415, "the body is not `multipart/form-data`, or compressed"),
    "headers_too_large": (431, "the request line and headers are larger than 64 KiB"),
    "internal_error": (500, "a fault of the server; its log has more under the request id"),
    "translation_failed": (502, "the language model that translates cannot be used"),
    "translation_busy": (503, "the language model that translates is asked too often"),
    "worker_unavailable": (503, "no engine became ready in time; `message` says why"),
    "worker_failed": (503, "engines died on this recording again and again; do not try again"),
    "inference_failed": (503, "one chunk could not be transcribed"),
    "cut_differently": (503, "the worker that went on after another one cuts recordings elsewhere"),
    "input_lost": (503, "the upload was lost on its way to the worker"),
    "timed_out": (503, "`REQUEST_TIMEOUT` seconds without progress"),
    "queue_full": (503, "too many requests wait, or too many connections are open"),
    "shutting_down": (503, "the server is being stopped"),
    "insufficient_storage": (507, "the disk for uploads is full"),
    "storage_full": (507, "the disk for finished chunks is full"),
}
"""Code -> status, and when it is sent."""
FOR_ALL = ("invalid_api_key", "origin_not_allowed", "internal_error", "queue_full")
FOR_UPLOADS = (
    *FOR_ALL,
    "invalid_value",
    "unsupported_value",
    "audio_undecodable",
    "audio_track_missing",
    "audio_too_long",
    "audio_limits",
    "request_timeout",
    "upload_too_large",
    "unsupported_media_type",
    "worker_unavailable",
    "worker_failed",
    "inference_failed",
    "cut_differently",
    "input_lost",
    "timed_out",
    "shutting_down",
    "insufficient_storage",
    "storage_full",
)
FOR_TRANSLATIONS = (*FOR_UPLOADS, "unsupported", "translation_failed", "translation_busy")
TITLES = {
    400: "The request cannot be served as it was sent",
    401: "No key, or an unknown one",
    403: "A web page of a foreign origin",
    404: "Not found",
    408: "The upload stopped arriving",
    413: "The upload is too large",
    415: "Not multipart/form-data",
    500: "A fault of the server",
    502: "The language model that translates cannot be used",
    503: "Not now",
    507: "A disk is full",
}

ERROR: dict[str, Any] = {
    "type": "object",
    "description": "What every failure looks like; all four fields are always there.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "Says what to do."},
                "type": {
                    "type": "string",
                    "enum": ["invalid_request_error", "server_error"],
                    "description": "`server_error` from status 500 on.",
                },
                "param": {
                    "type": ["string", "null"],
                    "description": "The field at fault, where there is one.",
                },
                "code": {"type": "string", "enum": list(CODES)},
            },
        }
    },
    "examples": [
        {
            "error": {
                "message": "temperature is a number from 0 to 1.",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": "invalid_value",
            }
        }
    ],
}


def error_answers(codes: Iterable[str]) -> dict[str, Any]:
    """The answers that carry these codes, by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code][0], []).append(code)
    return {str(status): _answer(status, by_status[status]) for status in sorted(by_status)}


def error_content(codes: list[str]) -> dict[str, Any]:
    """The schema of errors with one of these codes."""
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    return {"allOf": [{"$ref": "#/components/schemas/Error"}, narrowed]}


def request_id(status: int) -> str:
    """The header of an error: what is no HTTP, or never arrives whole, is answered without one."""
    return "OptionalRequestId" if status in (400, 408) else "RequestId"


def _answer(status: int, codes: list[str]) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "x-request-id": {"$ref": f"#/components/headers/{request_id(status)}"}
    }
    if status == 503:
        headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
    if status in (502, 503) and {"translation_failed", "worker_failed"} & set(codes):
        headers["x-should-retry"] = {"$ref": "#/components/headers/ShouldRetry"}
    if status == 401:
        headers["www-authenticate"] = {"schema": {"type": "string", "const": "Bearer"}}
    listed = "\n".join(f"* `{code}`: {CODES[code][1]}" for code in codes)
    return {
        "description": f"{TITLES[status]}.\n\n{listed}",
        "headers": headers,
        "content": {"application/json": {"schema": error_content(codes)}},
    }
