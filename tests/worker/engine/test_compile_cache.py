"""Compiled code outlives the engine process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.launch import engine_environment
from worker.settings import WorkerSettings

LOAD = """
import sys
from pathlib import Path
from worker.engine.interface import EngineSettings, create_engine

engine = create_engine(EngineSettings("embedded", Path(sys.argv[1]), compile=True))
engine.load(lambda progress: None)
engine.warm_up()
"""


def start_engine(data_dir: Path) -> None:
    """An engine process's load and warm-up, in the environment the supervisor gives it."""
    settings = WorkerSettings(data_dir=data_dir)
    subprocess.run(
        [sys.executable, "-c", LOAD, str(data_dir / "cache")],
        env=engine_environment(settings, os.environ),
        check=True,
    )


@pytest.mark.long
def test_the_second_cold_start_compiles_nothing(tmp_path: Path) -> None:
    start_engine(tmp_path)
    compiled = {path for path in tmp_path.rglob("*") if path.is_file()}
    start_engine(tmp_path)

    assert compiled
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == compiled
