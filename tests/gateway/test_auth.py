from pathlib import Path

import pytest

from gateway.routes.health import OPEN_PATHS
from gateway.settings import ApiKey
from tests.gateway.harness import file_part, request, running_server, upload_request

KEYS = (ApiKey.of("first-key"), ApiKey.of("second-key"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer second-key"},
        {"authorization": "bearer  second-key "},
        {"api-key": "second-key"},
        {"X-API-Key": "second-key"},
    ],
)
async def test_known_key_is_accepted_in_every_place_clients_put_it(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with running_server(tmp_path, api_keys=KEYS) as server:
        answer = await server.send(upload_request(file_part(), headers=headers))

        assert answer.status == 200
        assert server.client.requests[0].owner == ApiKey.of("second-key").key_id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer first-ke"},
        {"Authorization": "Bearer first-key2"},
        {"Authorization": "Basic first-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer first-key second-key"},
        {"Authorization": "Bearer \xfcml\xe4ut"},
    ],
)
async def test_any_other_key_is_a_401_before_the_body(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    headers = {**headers, "Content-Length": "1000000"}

    async with running_server(tmp_path, api_keys=KEYS) as server:
        head = request("POST", "/v1/audio/transcriptions", headers=headers)
        answer = await server.send(head.decode().encode("latin-1"))

        assert answer.status == 401
        assert answer.error["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert server.client.requests == []


async def test_health_needs_no_key_and_everything_else_does(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=KEYS) as server:
        for path in OPEN_PATHS:
            assert (await server.get(path)).status == 200
        for path in ("/v1/models", "/models", "/nowhere", "/v1", "/livez/x", "//livez", "/v1/../"):
            assert (await server.get(path)).status == 401


async def test_key_is_neither_asked_for_nor_recorded_on_an_open_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(
            upload_request(file_part(), headers={"Authorization": "Bearer anything"})
        )

        assert answer.status == 200
        assert server.client.requests[0].owner is None


async def test_log_names_a_key_by_its_id_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async with running_server(tmp_path, api_keys=KEYS) as server:
        await server.get("/v1/models", Authorization="Bearer first-key")
        await server.get("/v1/models", Authorization="Bearer wrong-key")

    assert f"key={ApiKey.of('first-key').key_id}" in caplog.text
    assert "first-key" not in caplog.text
    assert "wrong-key" not in caplog.text


async def test_foreign_web_page_is_refused_even_on_an_open_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/models", Origin="https://evil.example")

    assert answer.status == 403
    assert answer.error["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in answer.headers


async def test_listed_web_page_may_read_answers_and_errors(tmp_path: Path) -> None:
    origin = "https://app.example"

    async with running_server(tmp_path, allowed_origins=(origin,), api_keys=KEYS) as server:
        good = await server.get("/v1/models", Origin=origin, Authorization="Bearer first-key")
        bad = await server.get("/v1/models", Origin=origin)

    assert (good.status, bad.status) == (200, 401)
    for answer in (good, bad):
        assert answer.headers["access-control-allow-origin"] == origin
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


async def test_preflight_of_a_listed_page_needs_no_key(tmp_path: Path) -> None:
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-stainless-os",
    }
    preflight = request("OPTIONS", "/v1/audio/transcriptions", headers=headers)

    async with running_server(
        tmp_path, allowed_origins=("https://app.example",), api_keys=KEYS
    ) as server:
        answer = await server.send(preflight)

    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"


async def test_preflight_of_other_pages_is_refused(tmp_path: Path) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    async with running_server(tmp_path) as server:
        answer = await server.send(request("OPTIONS", "/v1/audio/transcriptions", headers=headers))

    assert answer.status == 403
