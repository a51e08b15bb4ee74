import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from gateway.auth import Gatekeeper
from gateway.boundary import SCOPE_KEY, RequestRecord, record_of
from gateway.errors import ApiError, Unauthorized
from gateway.settings import ApiKey
from tests.gateway.harness import RunningServer, request, running_server
from tests.gateway.test_openapi_answers import assert_fits
from tests.gateway.websockets.servers import HANDSHAKE, refusal_of

KEYS = (ApiKey.of("first-key"),)
SECRETS = "/v1/realtime/client_secrets"
SESSIONS = "/v1/realtime/transcription_sessions"
LAZY = """
import json, sys
from pathlib import Path
from gateway.app import build_app
from gateway.context import Gateway
from gateway.settings import Settings
from gateway.spool import Spool
from tests.fakes import FakeWorkerClient
folder = Path(sys.argv[1])
build_app(Gateway(Settings(data_dir=folder), FakeWorkerClient(), Spool(folder, "0" * 16)))
print(json.dumps([name for name in sys.modules if name.startswith("gateway.live.")]))
"""


async def minted(server: RunningServer, path: str = SECRETS, **headers: str) -> dict[str, object]:
    """What is answered to a request for German."""
    transcription = {"language": "de"}
    body = (
        {"session": {"audio": {"input": {"transcription": transcription}}}}
        if path.endswith("client_secrets")
        else {"input_audio_transcription": transcription}
    )
    answer = await server.send(
        request("POST", path, headers=headers, body=json.dumps(body).encode())
    )
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    told: dict[str, object] = answer.json
    return told


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_a_secret_is_answered_with_its_session(tmp_path: Path, prefix: str) -> None:
    async with running_server(tmp_path) as server:
        told = await minted(server, f"{prefix}/realtime/client_secrets")

        assert_fits("ClientSecret", told)
        assert isinstance(told["session"], dict)
        assert told["session"]["audio"]["input"]["transcription"]["language"] == "de"
        assert isinstance(told["expires_at"], int)
        assert abs(told["expires_at"] - time.time() - 600) < 30
        secret = server.gateway.client_secrets.find(str(told["value"]))
        assert secret is not None
        assert secret.session.transcription is not None
        assert secret.session.transcription.language == "de"


async def test_the_beta_gets_a_flat_session(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        told = await minted(server, SESSIONS)

        assert_fits("SessionWithSecret", told)
        assert isinstance(told["client_secret"], dict)
        assert server.gateway.client_secrets.find(told["client_secret"]["value"]) is not None


async def test_secrets_open_no_route_but_that_of_live_sessions(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=KEYS) as server:
        told = await minted(server, Authorization="Bearer first-key")
        value = str(told["value"])
        answers = [
            await server.get(path, Authorization=f"Bearer {value}")
            for path in ("/v1/models", "/v1/realtime", "/nowhere")
        ]
        again = request("POST", SECRETS, headers={"Authorization": f"Bearer {value}"}, body=b"{}")
        answers.append(await server.send(again))
        answers.append(await refusal_of(server, "/ws/transcribe", Authorization=f"Bearer {value}"))

    assert [answer.status for answer in answers] == [401] * 5


async def test_keys_are_needed_to_mint_secrets(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=KEYS) as server:
        answer = await server.send(request("POST", SECRETS, body=b"{}"))

    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer ek_1"},
        {"sec-websocket-protocol": "realtime, openai-insecure-api-key.ek_1"},
    ],
)
async def test_a_secret_opens_live_sessions_for_the_owner_of_its_key(
    headers: dict[str, str],
) -> None:
    served: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["path"])

    gatekeeper = Gatekeeper(
        app,
        keys=KEYS,
        allowed_origins=(),
        open_paths=(),
        secret_paths=("/v1/realtime",),
        owner_of_secret={"ek_1": "owner"}.get,
    )

    async def asked(path: str, sent: dict[str, str]) -> RequestRecord:
        raw = [(name.encode(), value.encode()) for name, value in sent.items()]
        scope: Scope = {"type": "websocket", "method": "GET", "path": path, "headers": raw}
        scope[SCOPE_KEY] = RequestRecord.of(scope)
        await gatekeeper(scope, None, None)  # type: ignore[arg-type]  # the app takes neither
        return record_of(scope)

    record = await asked("/v1/realtime", headers)
    with pytest.raises(Unauthorized):
        await asked("/ws/transcribe", headers)
    with pytest.raises(ApiError):
        await asked("/v1/realtime", {"authorization": "Bearer ek_2"})

    assert record.owner == "owner"
    assert served == ["/v1/realtime"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_value", None),
        (b'{"expires_after": {"seconds": 1}}', 400, "invalid_value", "expires_after.seconds"),
        (b" " * 65_537, 413, "upload_too_large", None),
    ],
)
async def test_what_cannot_be_used_is_refused(
    tmp_path: Path, body: bytes, status: int, code: str, param: str | None
) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(request("POST", SECRETS, body=body))

    assert answer.status == status
    assert (answer.error["code"], answer.error["param"]) == (code, param)


@pytest.mark.parametrize(
    "path", ["/v1/realtime/calls", "/v1/realtime/translations", "/v1/live", "/v1/live/sessions"]
)
async def test_other_products_of_openai_are_not_found(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path) as server:
        posted = await server.send(request("POST", path, body=b"{}"))
        upgraded = await server.send(request("GET", path, headers=HANDSHAKE))

    assert (posted.status, posted.error["code"]) == (404, "not_found")
    assert (upgraded.status, upgraded.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path", ["/v1/realtime?intent=transcription", "/realtime", "/ws/transcribe"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_plain_request_for_a_live_session_hears_that_it_needs_a_websocket(
    tmp_path: Path, method: str, path: str
) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(request(method, path))

    assert (answer.status, answer.error["code"]) == (426, "invalid_http")
    assert "ws://" in answer.error["message"]
    assert answer.headers["upgrade"] == "websocket"


def test_nothing_of_live_sessions_is_loaded_before_the_first(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
