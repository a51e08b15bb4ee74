"""What lives when: the whole server with the embedded model, seen from outside."""

from pathlib import Path

import psutil

from tests.together.processes import Server, eventually, serving, title
from tests.together.sounds import wav

MB = 10**6
SUPERVISOR_BUDGET = 18 * MB
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "speech"


def workers(server: Server) -> list[dict[str, object]]:
    """What /health says of them."""
    found: list[dict[str, object]] = server.client.get("/health").json()["workers"]
    return found


def test_after_the_idle_timeout_only_gateway_and_supervisor_live_and_the_next_upload_works(
    short_folder: Path,
) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded", IDLE_TIMEOUT="1") as server:
        clip = (EXAMPLES / "digits_american.flac").read_bytes()
        first = server.transcribe(clip)
        assert first.status_code == 200, first.text
        eventually(lambda: len(server.running.children()) == 1, "the engine never ended")
        [supervisor] = server.running.children()

        assert title(supervisor) == "qwen3-asr: supervisor"
        assert supervisor.memory_info().rss <= SUPERVISOR_BUDGET
        assert server.client.get("/readyz").status_code == 200
        eventually(lambda: workers(server)[0]["state"] == "stopped", "never stopped")
        assert server.transcribe(clip).json()["text"] == first.json()["text"]


def test_probes_never_wake_the_engine(short_folder: Path) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        eventually(lambda: server.client.get("/readyz").status_code == 200, "never ready")
        for path in ("/", "/health", "/livez", "/readyz", "/status", "/v1/models"):
            assert server.client.get(path).status_code == 200, path
            assert server.client.head(path).status_code in (200, 405), path

        assert [title(child) for child in server.running.children()] == ["qwen3-asr: supervisor"]


def test_processes_say_what_they_are(short_folder: Path) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        assert server.transcribe(wav(16000)).status_code == 200
        titles = {title(child) for child in server.running.children()}

        assert title(psutil.Process(server.running.pid)) == "qwen3-asr: gateway"
        assert {"qwen3-asr: supervisor", "qwen3-asr: engine"} <= titles


def test_nothing_of_the_server_is_left_after_sigterm(short_folder: Path) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        assert server.transcribe(wav(16000)).status_code == 200
        family = server.running.children()
        server.running.process.terminate()

        assert server.running.process.wait(30) == 0
        assert psutil.wait_procs(family, timeout=30)[1] == []
    assert [path for path in (short_folder / "spool").rglob("*") if path.is_file()] == []


def test_a_model_that_is_not_there_is_named_and_the_server_stays_up(short_folder: Path) -> None:
    missing = short_folder / "no-such-model"
    missing.mkdir()
    with serving("serve", short_folder, MODEL_ID=str(missing), WORKER_START_TIMEOUT="5") as server:
        answer = server.transcribe(wav(16000))

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert str(short_folder) not in answer.text
        assert server.client.get("/livez").status_code == 200
        failures = [
            worker["last_error"] for worker in server.client.get("/health").json()["workers"]
        ]
        assert any(failures)


def test_it_runs_its_own_code_wherever_it_is_started(short_folder: Path) -> None:
    elsewhere = short_folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("worker", "gateway", "protocol"):
        (elsewhere / name).mkdir()
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('not ours')")
    with serving("serve", short_folder, folder=elsewhere, MODEL_ID="embedded") as server:
        assert server.transcribe(wav(16000)).status_code == 200


def test_an_engine_told_to_end_by_the_service_manager_costs_no_request(short_folder: Path) -> None:
    with serving("serve", short_folder, MODEL_ID="embedded") as server:
        for _ in range(6):  # more deaths than make a request poison
            assert server.transcribe(wav(16000)).status_code == 200
            [engine] = server.running.titled("engine")
            engine.terminate()

        assert server.transcribe(wav(16000)).status_code == 200
