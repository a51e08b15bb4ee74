"""How a failure is written in an answer: OpenAI's envelope, or as the clients of a path expect it.

Pure. Which path has which shape stands in gateway.app.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.errors import ApiError, RecordingEmpty, RecordingMissing
from protocol.failures import FailureCode

JSON_HEADERS = {"content-type": "application/json"}
MAX_HEADER_CHARACTERS = 1000
CODES_OF_STATUS = {
    "AUDIO_DECODE_FAILED": 422,
    "EMPTY_AUDIO": 400,
    "MISSING_FILE": 422,
}
"""jaaacki/qwen3-asr's codes whose status there is not ours."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request."""

    error: ApiError
    method: str
    request_id: str
    """The one the caller knows."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


ErrorShape = Callable[[Failure], ErrorAnswer]


def envelope(failure: Failure) -> ErrorAnswer:
    """As OpenAI writes it."""
    error = failure.error
    return ErrorAnswer(error.status, error.body(), {**JSON_HEADERS, **error.headers})


def silent(failure: Failure) -> ErrorAnswer:
    """Without a body, for programs that store any body as subtitles; a header tells the reason.

    Methods other than POST come from people and probes: they get the envelope.
    """
    if failure.method != "POST":
        return envelope(failure)
    error = failure.error
    reason = f"{error.code}: {error.message}".encode("ascii", "replace").decode()
    headers = {"x-error": " ".join(reason.split())[:MAX_HEADER_CHARACTERS], **error.headers}
    return ErrorAnswer(error.status, b"", headers)


def flat(timeout_code: str) -> ErrorShape:
    """As jaaacki/qwen3-asr writes it, whose code for a timeout depends on the path."""

    def shape(failure: Failure) -> ErrorAnswer:
        error = failure.error
        code, status = _flat_code(error, timeout_code)
        fields: dict[str, object] = {
            "code": code,
            "message": error.message,
            "statusCode": status,
            "context": {"requestId": failure.request_id},
        }
        if isinstance(error, RecordingMissing):
            # What its web framework answers there, which some of its clients read.
            missing = {"type": "missing", "loc": ["body", "file"], "msg": "Field required"}
            fields["detail"] = [missing]
        body = json.dumps(fields, ensure_ascii=False).encode("utf-8")
        return ErrorAnswer(status, body, {**JSON_HEADERS, **error.headers})

    return shape


def _flat_code(error: ApiError, timeout_code: str) -> tuple[str, int]:
    if error.code == FailureCode.TIMED_OUT:
        return timeout_code, 504
    code = error.code.upper()
    if error.code == FailureCode.AUDIO_UNDECODABLE:
        code = "AUDIO_DECODE_FAILED"
    elif isinstance(error, RecordingEmpty):
        code = "EMPTY_AUDIO"
    elif isinstance(error, RecordingMissing):
        code = "MISSING_FILE"
    elif error.status >= 500:
        code = "WORKER_ERROR"
    return code, CODES_OF_STATUS.get(code, error.status)
