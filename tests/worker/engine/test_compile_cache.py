"""Compiled code outlives the engine process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.launch import engine_environment
from worker.settings import WorkerSettings

LOAD = """
import json
import sys
from pathlib import Path
from worker.engine.creation import create_engine
from worker.engine.interface import EngineSettings

settings = EngineSettings("embedded", Path(sys.argv[1]), engine=sys.argv[2], compile=True)
engine = create_engine(settings)
engine.load(lambda progress: None)
engine.warm_up()

from torch._dynamo.utils import counters

print(json.dumps(counters["inductor"]))
"""


def start_engine(data_dir: Path, engine: str) -> dict[str, int]:
    """An engine process's load and warm-up, in the environment the supervisor gives it; what the
    compiler counted."""
    settings = WorkerSettings(data_dir=data_dir)
    # Other tests' torch leaves the place of its cache in the environment.
    environment = {name: os.environ[name] for name in os.environ if "_CACHE_DIR" not in name}
    process = subprocess.run(
        [sys.executable, "-c", LOAD, str(data_dir / "cache"), engine],
        env=engine_environment(settings, environment),
        check=True,
        capture_output=True,
    )
    counted: dict[str, int] = json.loads(process.stdout.splitlines()[-1])
    return counted


@pytest.mark.long
@pytest.mark.parametrize("engine", ["native", "official"])
def test_a_missing_compiler_is_named_to_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        start_engine(tmp_path, engine)

    assert "backend_missing: TORCH_COMPILE needs a C++ compiler" in failed.value.stderr.decode()


@pytest.mark.long
@pytest.mark.parametrize("engine", ["native", "official"])
def test_the_second_cold_start_compiles_nothing(tmp_path: Path, engine: str) -> None:
    first, second = start_engine(tmp_path, engine), start_engine(tmp_path, engine)

    assert first["fxgraph_cache_miss"] > 0
    assert "fxgraph_cache_miss" not in second
    assert second["fxgraph_cache_hit"] == first["fxgraph_cache_miss"]
