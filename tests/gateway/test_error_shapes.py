import json
from typing import Any

import pytest

from gateway.error_shapes import Failure, envelope, flat, silent
from gateway.errors import (
    ApiError,
    BadRequest,
    RecordingEmpty,
    RecordingMissing,
    Unavailable,
    Unprocessable,
)

STREAM = flat("TRANSCRIPTION_TIMEOUT")


def failure(error: ApiError, method: str = "POST") -> Failure:
    return Failure(error, method, "req_7")


def flat_body(error: ApiError) -> Any:
    return json.loads(STREAM(failure(error)).body)


def test_the_envelope_is_json_with_the_errors_own_headers() -> None:
    answer = envelope(failure(Unavailable("Later.", retry_after=7)))

    assert answer.status == 503
    assert answer.headers == {"content-type": "application/json", "retry-after": "7"}
    assert json.loads(answer.body)["error"]["message"] == "Later."


def test_silence_has_a_status_a_reason_in_a_header_and_no_body() -> None:
    answer = silent(failure(Unprocessable("Sprache „xx“\nfehlt.")))

    assert (answer.status, answer.body) == (422, b"")
    assert answer.headers["x-error"] == "invalid_value: Sprache ?xx? fehlt."


def test_who_reads_with_a_browser_gets_words() -> None:
    answer = silent(failure(BadRequest("Use POST."), "GET"))

    assert json.loads(answer.body)["error"]["message"] == "Use POST."


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("No audio.", code="audio_undecodable"), "AUDIO_DECODE_FAILED", 422),
        (RecordingEmpty("Empty."), "EMPTY_AUDIO", 400),
        (RecordingMissing("Missing."), "MISSING_FILE", 422),
        (BadRequest("No such mode.", code="INVALID_MODE"), "INVALID_MODE", 400),
        (BadRequest("What?"), "INVALID_VALUE", 400),
        (Unavailable("Slow.", code="timed_out"), "TRANSCRIPTION_TIMEOUT", 504),
        (Unavailable("Later."), "WORKER_ERROR", 503),
    ],
)
def test_flat_errors_have_the_predecessors_codes(error: ApiError, code: str, status: int) -> None:
    answer = STREAM(failure(error))
    body = json.loads(answer.body)

    assert answer.status == body["statusCode"] == status
    assert (body["code"], body["message"]) == (code, error.message)
    assert body["context"] == {"requestId": "req_7"}


def test_a_missing_file_is_told_as_fastapi_tells_it_too() -> None:
    assert flat_body(RecordingMissing("Missing."))["detail"][0]["loc"] == ["body", "file"]
    assert "detail" not in flat_body(RecordingEmpty("Empty."))
