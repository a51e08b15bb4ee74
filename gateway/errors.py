"""Every failure a caller sees, in the shape of OpenAI's API; the boundary turns them into answers.

Messages are ours, say what to do, and never carry a library's words or a path.
"""

import json
import math
from collections.abc import Mapping

from gateway.worker_client import outcomes
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode

MAX_RETRY_AFTER = 60
"""Seconds. Clients honour 1 to 60; openai-python gives up at once above 120."""


class ApiError(Exception):
    """Base of every failure a caller sees; a subclass fixes status and code."""

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The form field at fault, where there is one."""
        self.code = code or type(self).code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON envelope; all four keys are always there, as the official clients expect."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8")


class BadRequest(ApiError):
    """The request cannot be served as it was sent."""

    status = 400
    code = "invalid_value"


class RecordingMissing(BadRequest):
    """The body has no recording."""


class RecordingEmpty(BadRequest):
    """The recording has no byte."""


class Unprocessable(BadRequest):
    """A BadRequest, on paths whose clients expect this status."""

    status = 422


class NotOffered(ApiError):
    """What is asked for exists elsewhere, but not on this server."""

    status = 501
    code = "unsupported"


class Unauthorized(ApiError):
    """No key, or none of ours."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class Forbidden(ApiError):
    """A web page of a foreign origin is asking."""

    status = 403
    code = "origin_not_allowed"


class NotFound(ApiError):
    """Nothing is served under this path."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model goes by this name."""

    code = "model_not_found"


class CallNotFound(NotFound):
    """No call of this id can be followed, or none of this caller's."""

    code = "call_not_found"


class MethodNotAllowed(ApiError):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_supported"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message, headers={"allow": allow})


class RequestStalled(ApiError):
    """The caller stopped sending in the middle of a request."""

    status = 408
    code = "request_timeout"


class HeadTooLarge(ApiError):
    """The request line and headers are larger than the limit."""

    status = 431
    code = "headers_too_large"


class UploadTooLarge(ApiError):
    """The recording, or the request around it, is larger than the limit."""

    status = 413
    code = "upload_too_large"


class UnsupportedMediaType(ApiError):
    """The body is of a kind that is not read here."""

    status = 415
    code = "unsupported_media_type"


class InternalError(ApiError):
    """A fault of ours; the log has the details under the request's id."""

    def __init__(self) -> None:
        super().__init__(
            "The server failed on this request. Its log tells more under this answer's request id."
        )


class Unavailable(ApiError):
    """Cannot be served now; retry_after seconds later it may be."""

    status = 503
    code = "worker_unavailable"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        seconds = outcomes.RETRY_AFTER if retry_after is None else retry_after
        whole = min(max(math.ceil(seconds), 1), MAX_RETRY_AFTER)
        super().__init__(message, code=code, headers={"retry-after": str(whole)})


class NotWorthRetrying(ApiError):
    """The same recording would end engines again; the official clients are told not to retry."""

    status = 503
    code = "worker_failed"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code, headers={"x-should-retry": "false"})


class SpoolFull(ApiError):
    """The disk that takes uploads and finished chunks is full."""

    status = 507
    code = "insufficient_storage"


def channels_not_apart() -> BadRequest:
    """What diarized_json is refused with, by the container or by how the channels sound."""
    return BadRequest(
        "diarized_json tells speakers apart by channel, and this recording does not have two "
        "channels, or has the same sound in both. Send a stereo recording with a speaker on each "
        "channel, or ask for json, verbose_json, srt or vtt.",
        param="response_format",
        code="unsupported_value",
    )


CALLERS_FAULT = {
    FailureCode.AUDIO_UNDECODABLE: "file",
    FailureCode.AUDIO_TOO_LONG: "file",
    FailureCode.AUDIO_LIMITS: "file",
    FailureCode.AUDIO_TRACK_MISSING: "audio_track",
}
"""With the form field at fault."""


def from_failure(failure: TranscriptionFailed) -> ApiError:
    """How a caller is told that a transcription ended without its text."""
    if failure.code in CALLERS_FAULT:
        param = CALLERS_FAULT[failure.code]
        return BadRequest(failure.message, param=param, code=str(failure.code))
    if failure.code is FailureCode.CHANNELS_MISSING:
        return channels_not_apart()
    if failure.code is FailureCode.STORAGE_FULL:
        return SpoolFull(failure.message, code=str(failure.code))
    if failure.code is FailureCode.WORKER_FAILED:
        return NotWorthRetrying(failure.message, code=str(failure.code))
    return Unavailable(failure.message, code=str(failure.code), retry_after=failure.retry_after)


def shutting_down() -> ApiError:
    """What work gets that arrives, or is still unfinished, when the server stops."""
    return from_failure(outcomes.shutting_down())


def queue_full() -> ApiError:
    """What work gets that arrives while MAX_WAITING_REQUESTS wait."""
    return from_failure(outcomes.queue_full())
