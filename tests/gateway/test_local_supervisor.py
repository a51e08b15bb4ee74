"""Real child processes, small ones: a script that reports what it sees through files."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.local_supervisor import LocalSupervisor
from tests.gateway.harness import DEADLINE

CHILD = """
import os, signal, sys, time
folder = sys.argv[1]
with open(f"{folder}/starts", "a") as file:
    file.write(f"{os.getpid()} {os.getsid(0)} {os.environ['DATA_DIR']}\\n")
def end(*_):
    open(f"{folder}/terminated", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else end)
if "fails" in sys.argv:
    sys.exit(int(sys.argv[3]))
open(f"{folder}/ready", "w").close()
sys.stdin.read()
open(f"{folder}/orphaned", "w").close()
"""


class Supervised:
    """A LocalSupervisor of the script above."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.gave_up = asyncio.Event()
        self.hurry = asyncio.Event()
        self.supervisor = LocalSupervisor(
            {**os.environ, "DATA_DIR": "/data"},
            command=(sys.executable, "-c", CHILD, str(folder), *words),
            give_up=self.gave_up.set,
            hurry=self.hurry,
            back_off=(0.001,),
        )

    async def until(self, name: str, lines: int = 0) -> list[str]:
        """The lines of a file the script writes, once there are so many."""
        path = self.folder / name
        while not path.exists() or len(path.read_text().splitlines()) < lines:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return path.read_text().splitlines()


@contextlib.asynccontextmanager
async def supervised(folder: Path, *words: str) -> AsyncIterator[Supervised]:
    async with asyncio.timeout(DEADLINE):
        harness = Supervised(folder, *words)
        async with harness.supervisor:
            yield harness


async def test_child_runs_in_a_session_of_its_own_and_is_ended_with_the_context(
    tmp_path: Path,
) -> None:
    async with supervised(tmp_path) as harness:
        await harness.until("ready")
        (line,) = await harness.until("starts", lines=1)
        process_id, session_id, data_dir = line.split()
        assert int(process_id) == harness.supervisor.process_id
        assert process_id == session_id
        assert data_dir == "/data"

    assert (tmp_path / "terminated").exists()
    assert harness.supervisor.process_id is None


@pytest.mark.parametrize("status", ["0", "1", "7"])
async def test_child_that_ends_by_itself_is_started_again(tmp_path: Path, status: str) -> None:
    async with supervised(tmp_path, "fails", status) as harness:
        await harness.until("starts", lines=3)

    assert not harness.gave_up.is_set()


@pytest.mark.parametrize("status", ["78", "2"])
async def test_child_with_bad_settings_or_usage_is_given_up(tmp_path: Path, status: str) -> None:
    async with supervised(tmp_path, "fails", status) as harness:
        await harness.gave_up.wait()

    assert len(await harness.until("starts")) == 1


async def test_child_that_cannot_be_started_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program"
    hurry, gave_up = asyncio.Event(), asyncio.Event()

    async with (
        asyncio.timeout(DEADLINE),
        LocalSupervisor(
            dict(os.environ),
            command=(str(program), str(tmp_path)),
            give_up=gave_up.set,
            hurry=hurry,
            back_off=(0.001,),
        ) as supervisor,
    ):
        while caplog.text.count("was not started") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        program.write_text("#!/bin/sh\nread line\n")
        program.chmod(0o700)
        while supervisor.process_id is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert not gave_up.is_set()


async def test_stubborn_child_is_killed_when_there_is_a_hurry(tmp_path: Path) -> None:
    async with supervised(tmp_path, "stubborn") as harness:
        await harness.until("ready")
        harness.hurry.set()

    assert harness.supervisor.process_id is None
    assert not (tmp_path / "terminated").exists()


async def test_child_notices_when_this_process_dies(tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from gateway.local_supervisor import LocalSupervisor
async def main():
    command = ({sys.executable!r}, "-c", {CHILD!r}, {str(tmp_path)!r})
    environment = {{**os.environ, "DATA_DIR": "/data"}}
    async with LocalSupervisor(
        environment, command=command, give_up=print, hurry=asyncio.Event()
    ):
        await asyncio.Event().wait()
asyncio.run(main())
"""
    async with asyncio.timeout(DEADLINE):
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        harness = Supervised(tmp_path)
        await harness.until("ready")
        parent.kill()
        await parent.wait()

        await harness.until("orphaned")
