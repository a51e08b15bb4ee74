"""schemathesis speaks to a running server by its description: what it sends, valid or not, is
answered as described."""

import asyncio
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.gateway.harness import running_server
from tests.gateway.test_openapi_answers import DOCUMENT, spoken

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = REPOSITORY / "build" / "schemathesis"
"""Of its own: it brings more packages than all the rest of the tests."""
REQUIREMENT = "schemathesis==4.32.5"
DEADLINE = 300.0
SEED = "1"


def program() -> Path:
    """The command, installed where it is not; skips the test where that cannot be done."""
    command = ENVIRONMENT / "bin" / "schemathesis"
    if not command.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        installing = [
            str(ENVIRONMENT / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            REQUIREMENT,
        ]
        done = subprocess.run(installing, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{REQUIREMENT} cannot be installed: {done.stderr.strip()[-200:]}")
    return command


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the paths of a virtual environment")
async def test_requests_made_from_the_description_are_answered_as_it_says(
    short_folder: Path, tmp_path: Path
) -> None:
    command = await asyncio.to_thread(program)
    async with running_server(short_folder, spoken()) as server:
        arguments = [
            "--config-file",
            str(Path(__file__).with_name("fuzz.toml")),
            "run",
            f"http://127.0.0.1:{server.port}/openapi.json",
            "--phases=examples,coverage,fuzzing",
            f"--seed={SEED}",
            "--continue-on-failure",
            "--generation-database=none",
            "--no-color",
        ]
        async with asyncio.timeout(DEADLINE):
            running = await asyncio.create_subprocess_exec(
                command,
                *arguments,
                cwd=tmp_path,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await running.communicate()
            finally:
                if running.returncode is None:
                    running.kill()
                    await running.wait()
        left_behind = server.spool_files

    report = output.decode("utf-8", "replace")
    assert running.returncode == 0, report[-8000:]
    described = len(DOCUMENT["paths"]) - 1  # it leaves out the path that it reads from
    assert f"Operations:       {described} selected" in report, report[:1000]
    assert left_behind == []
