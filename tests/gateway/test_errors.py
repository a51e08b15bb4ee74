import json

import pytest

from gateway.errors import (
    CALLERS_FAULT,
    ApiError,
    BadRequest,
    Unavailable,
    from_failure,
    queue_full,
    shutting_down,
)
from gateway.worker_client import outcomes
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode


def test_envelope_has_all_four_keys_even_when_empty() -> None:
    assert json.loads(BadRequest("Do this.", param="file").body()) == {
        "error": {
            "message": "Do this.",
            "type": "invalid_request_error",
            "param": "file",
            "code": "invalid_value",
        }
    }
    assert json.loads(ApiError("Ours.").body())["error"] == {
        "message": "Ours.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


@pytest.mark.parametrize(
    ("retry_after", "header"), [(None, "5"), (0.0, "1"), (1.2, "2"), (61.0, "60"), (9e9, "60")]
)
def test_retry_after_is_whole_seconds_that_clients_honour(
    retry_after: float | None, header: str
) -> None:
    assert Unavailable("Later.", retry_after=retry_after).headers == {"retry-after": header}


@pytest.mark.parametrize("code", list(FailureCode))
def test_every_failure_is_the_callers_fault_or_worth_a_hint_about_retrying(
    code: FailureCode,
) -> None:
    error = from_failure(TranscriptionFailed(code, "Do this."))

    if code in CALLERS_FAULT:
        field = "audio_track" if code is FailureCode.AUDIO_TRACK_MISSING else "file"
        assert (error.status, error.param) == (400, field)
    elif code is FailureCode.CHANNELS_MISSING:
        assert (error.status, error.param, error.code) == (
            400,
            "response_format",
            "unsupported_value",
        )
    elif code is FailureCode.WORKER_FAILED:
        assert (error.status, error.headers) == (503, {"x-should-retry": "false"})
    elif code is FailureCode.STORAGE_FULL:
        assert (error.status, error.code) == (507, "storage_full")
    else:
        assert error.status == 503
        assert "retry-after" in error.headers


def test_same_case_has_the_same_words_wherever_it_is_noticed() -> None:
    for refused, failed in (
        (shutting_down(), outcomes.shutting_down()),
        (queue_full(), outcomes.queue_full()),
    ):
        assert (refused.status, refused.code) == (503, str(failed.code))
        assert refused.message == failed.message
