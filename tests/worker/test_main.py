"""`python -m worker` as operators and the gateway run it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.control import EngineState, StartEngine
from tests.worker.gateway_end import GatewayEnd, is_alive
from worker.control_session import ExitStatus

MAX_RESIDENT_BYTES = 18_000_000
COMMAND = [sys.executable, "-m", "worker"]


def environment(folder: Path, **chosen: str) -> dict[str, str]:
    """Compiled files are cached, as in an installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "DATA_DIR": str(folder),
        "WORKER_ID": "gpu-1",
        "MODEL_ID": "embedded",
        **chosen,
    }


def run_worker(folder: Path, *arguments: str, **chosen: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder, **chosen),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def gateway(short_folder: Path) -> Iterator[GatewayEnd]:
    with GatewayEnd(short_folder) as end:
        yield end


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_supervisor_stays_within_its_memory_before_and_after_an_engine(
    gateway: GatewayEnd,
) -> None:
    chosen = environment(gateway.folder, MODEL_ID="/nonexistent/model")
    subprocess.run(
        [sys.executable, "-c", "import worker.supervisor, worker.start"], env=chosen, check=True
    )
    run_worker(gateway.folder, WORKER_LINK="tcp://127.0.0.1:9")
    supervisor = gateway.start_command(COMMAND, chosen)
    gateway.welcome("/nonexistent/model")
    idle = resident_bytes(supervisor.pid)
    gateway.send(StartEngine())
    gateway.await_state(EngineState.BACKING_OFF)
    afterwards = resident_bytes(supervisor.pid)

    assert idle < MAX_RESIDENT_BYTES
    assert afterwards < MAX_RESIDENT_BYTES
    title = Path(f"/proc/{supervisor.pid}/cmdline").read_text().strip("\0 ")
    assert title == "qwen3-asr: supervisor"


def test_the_supervisor_imports_nothing_heavy(tmp_path: Path) -> None:
    script = """if True:
        from worker.light_imports import import_lightly
        import_lightly()
        import sys, worker.supervisor, worker.start, worker.logs, worker.watch
        print(*(name for name, one in sys.modules.items() if getattr(one, "__spec__", None)))
    """
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )

    modules = set(ended.stdout.split())
    assert "worker.supervisor" in modules
    heavy = {"argparse", "asyncio", "ctypes", "numpy", "pathlib", "psutil", "subprocess", "torch"}
    assert not modules & heavy


def test_standard_input_ends_a_supervisor_that_has_a_parent(gateway: GatewayEnd) -> None:
    supervisor = gateway.start_command([*COMMAND, "--with-parent"], environment(gateway.folder))
    gateway.welcome()
    assert supervisor.stdin is not None

    supervisor.stdin.close()

    assert gateway.await_end() == ExitStatus.ASKED


def test_closed_standard_descriptors_do_no_harm(gateway: GatewayEnd) -> None:
    script = f'exec "{sys.executable}" -m worker 0<&- 1>&- 2>&-'
    supervisor = gateway.start_command(
        ["/bin/sh", "-c", script], environment(gateway.folder, MODEL_ID="/nonexistent/model")
    )
    gateway.welcome("/nonexistent/model")

    gateway.send(StartEngine())

    assert gateway.await_state(EngineState.BACKING_OFF).epoch == 1
    assert is_alive(supervisor.pid)


def test_bad_settings_are_listed_together_and_stop_the_start(tmp_path: Path) -> None:
    ended = run_worker(tmp_path, DEVICE="tpu", DECODERS="none")

    assert ended.returncode == os.EX_CONFIG
    assert "\nDEVICE: must be one of auto, cpu, cuda\nDECODERS: must be" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_tcp_link_without_keys_says_what_to_do(tmp_path: Path) -> None:
    ended = run_worker(tmp_path, WORKER_LINK="tcp://127.0.0.1:9")

    assert ended.returncode == os.EX_CONFIG
    assert "WORKER_LINK_KEYS must name the folder" in ended.stderr


def test_help_and_mistyped_options(tmp_path: Path) -> None:
    assert "usage: python -m worker" in run_worker(tmp_path, "--help").stdout
    mistyped = run_worker(tmp_path, "--with-parents")
    assert (mistyped.returncode, "usage" in mistyped.stderr) == (2, True)


def can_be_pid_1() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"]
    try:
        return subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_be_pid_1(), reason="this system lets nobody have a PID namespace")
def test_as_pid_1_it_needs_no_adoption_and_ends_when_asked(gateway: GatewayEnd) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    gateway.start_command(
        [*namespace, *COMMAND, "--with-parent"],
        environment(gateway.folder, MODEL_ID="/nonexistent/model"),
    )
    gateway.welcome("/nonexistent/model")
    gateway.send(StartEngine())
    gateway.await_state(EngineState.BACKING_OFF)
    assert gateway.supervisor is not None
    assert gateway.supervisor.stdin is not None

    gateway.supervisor.stdin.close()

    assert gateway.await_end() == ExitStatus.ASKED
