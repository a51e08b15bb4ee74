from pathlib import Path

import pytest

from tests.gateway.harness import request, running_server


async def test_every_answer_carries_an_id_of_ours(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answers = [await server.get(path) for path in ("/livez", "/nowhere", "/v1/models")]

    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    assert all(len(name) == 36 and name.startswith("req_") for name in ids)


async def test_well_formed_id_of_the_caller_is_echoed_and_logged_beside_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gateway")

    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/models", X_Request_ID="call-17.a:b_c")

    assert answer.headers["x-request-id"] == "call-17.a:b_c"
    assert "client_request_id=call-17.a:b_c" in caplog.text
    assert "request_id=req_" in caplog.text


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "a=b status=200"])
async def test_other_ids_are_replaced(tmp_path: Path, given: str) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/models", X_Request_ID=given)

    assert answer.headers["x-request-id"].startswith("req_")


async def test_unknown_path_is_a_404_in_the_envelope(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/chat/completions")

    assert answer.status == 404
    assert answer.error["code"] == "not_found"
    assert answer.error["type"] == "invalid_request_error"


async def test_wrong_method_is_a_405_that_names_the_right_ones(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/audio/transcriptions")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert answer.error["code"] == "method_not_supported"


async def test_forged_path_cannot_break_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gateway")

    async with running_server(tmp_path) as server:
        await server.send(request("GET", "/a%0Arequest%20finished%20status=200"))

    lines = [r.getMessage() for r in caplog.records if r.name == "gateway.boundary"]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert 'path="/a\\nrequest finished status=200"' in lines[0]


async def test_probes_are_logged_for_debugging_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="gateway")

    async with running_server(tmp_path) as server:
        await server.get("/readyz")
        await server.get("/v1/models")

    levels = [r.levelname for r in caplog.records if r.name == "gateway.boundary"]
    assert levels == ["DEBUG", "INFO"]


async def test_path_ending_in_a_slash_is_the_same_path(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for path in ("/livez/", "/v1/models/", "/health//"):
            assert (await server.get(path)).status == 200
