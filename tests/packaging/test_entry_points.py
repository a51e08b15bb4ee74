"""The commands of the images, run as an ordinary user who may write to the data folder alone."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.packaging.project import REPOSITORY, image_environment
from tests.together.processes import DEADLINE, eventually

NOBODY = 65534
"""Debian's user and group without rights. Has no home; containers' users are like that too."""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """What the volume is in the images: a folder anyone may write to, with a short path."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv, which makes an ordinary user of root, is not installed")
    with tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        (path / "cache" / "tmp").mkdir(parents=True)
        for shared in (path, path / "cache", path / "cache" / "tmp"):
            shared.chmod(0o1777)
        yield path


def _as_ordinary_user() -> list[str]:
    """Root gives up everything but reading, which it needs where Python lies in its own home."""
    if os.geteuid() != 0:
        return []
    return [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
        "--",
    ]


def _environment(dockerfile: str, data_dir: Path, port: int, **changes: str) -> dict[str, str]:
    of_image = {
        name: value.replace("/data", str(data_dir), 1) if value.startswith("/data") else value
        for name, value in image_environment(dockerfile).items()
    }
    # In the images the packages are installed; here they may be this checkout.
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return of_image | paths | {"PORT": str(port), "MODEL_ID": "embedded", **changes}


def _start(
    subcommand: str, environment: Mapping[str, str], output: int | None = None
) -> subprocess.Popen[bytes]:
    """One subcommand as the user `nobody`, in the images' working folder."""
    return subprocess.Popen(
        [*_as_ordinary_user(), sys.executable, "-m", "gateway", subcommand],
        env=dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def _running(subcommand: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = _start(subcommand, environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()


def _healthcheck(environment: Mapping[str, str]) -> int:
    return _start("healthcheck", environment).wait(DEADLINE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_up(process: subprocess.Popen[bytes], environment: Mapping[str, str]) -> bool:
    assert process.poll() is None, "the gateway ended"
    return _healthcheck(environment) == 0


def test_the_health_check_follows_the_gateway_which_ends_in_order_at_sigterm(
    data_dir: Path,
) -> None:
    environment = _environment("Dockerfile.gateway", data_dir, _free_port())

    assert _healthcheck(environment) == 1
    with _running("gateway", environment) as process:
        eventually(lambda: _is_up(process, environment), "the gateway never answered")
    assert process.returncode == 0
    assert _healthcheck(environment) == 1


def test_the_gateway_keeps_what_it_writes_from_other_users(data_dir: Path) -> None:
    environment = _environment("Dockerfile.gateway", data_dir, _free_port())

    with _running("gateway", environment) as process:
        eventually(lambda: _is_up(process, environment), "the gateway never answered")
        modes = {name: stat.S_IMODE((data_dir / name).stat().st_mode) for name in ("run", "spool")}

    assert modes == {"run": 0o700, "spool": 0o700}


def test_a_data_folder_of_somebody_else_is_named_without_a_stack_trace(data_dir: Path) -> None:
    locked = data_dir / "locked"
    locked.mkdir(mode=0o555)
    environment = _environment("Dockerfile.gateway", data_dir, _free_port(), DATA_DIR=str(locked))

    process = _start("gateway", environment, subprocess.PIPE)
    said, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 1
    assert b"DATA_DIR" in said
    assert b"Traceback" not in said


def test_gateway_and_worker_of_two_containers_transcribe_together(data_dir: Path) -> None:
    port = _free_port()
    of_gateway = _environment("Dockerfile.gateway", data_dir, port)
    of_worker = _environment("Dockerfile.worker", data_dir, port, WORKER_ID="container")
    clip = REPOSITORY / "examples" / "speech" / "digits_british.flac"

    with _running("gateway", of_gateway) as gateway, _running("worker", of_worker) as worker:
        eventually(lambda: _is_up(gateway, of_gateway), "the gateway never answered")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
            answer = client.post(
                "/v1/audio/transcriptions", files={"file": (clip.name, clip.read_bytes())}
            )
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"].lower().strip(" .") == "zero one two three four five"
    assert (gateway.returncode, worker.returncode) == (0, 0)
