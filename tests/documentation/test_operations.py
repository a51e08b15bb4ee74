import os
import re
import subprocess
import sys
from pathlib import Path

from protocol.control import EngineState
from protocol.failures import FailureCode
from protocol.keys import load_allowed_workers, load_gateway_keys, load_worker_keys

REPOSITORY = Path(__file__).resolve().parents[2]


def _page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text("utf-8")


def test_the_documented_commands_make_keys_that_fit_together(tmp_path: Path) -> None:
    [commands] = re.findall(r"^```sh\n(mkdir.*?)^```", _page("operations.md"), re.M | re.S)
    as_here = commands.replace("python -", f"{sys.executable} -")

    subprocess.run(
        ["bash", "-euc", as_here],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )

    gateway = load_gateway_keys(tmp_path / "gateway-keys")
    worker = load_worker_keys(tmp_path / "worker-keys")
    assert load_allowed_workers(tmp_path / "gateway-keys") == {worker.public}
    assert worker.gateway_public == gateway.public


def test_every_state_of_an_engine_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", _page("operations.md"), re.MULTILINE))

    assert explained == {str(state) for state in EngineState} | {"absent"}


def test_every_failure_a_caller_can_get_is_explained() -> None:
    codes = set(re.findall(r"`(\w+)`", _page("api.md")))

    # A caller that left gets no answer.
    assert {str(code) for code in FailureCode} - codes == {"cancelled"}
