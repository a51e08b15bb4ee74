import re
import shutil
import subprocess
import sys
from pathlib import Path

from protocol.control import EngineState
from protocol.failures import FailureCode
from protocol.keys import load_allowed_workers, load_gateway_keys, load_worker_keys

REPOSITORY = Path(__file__).resolve().parents[2]


def _page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text("utf-8")


def test_a_further_worker_is_admitted_as_documented(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        subprocess.run(
            [sys.executable, "-m", "gateway", "keys", str(tmp_path / folder)],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    further = tmp_path / "second" / "worker"
    public = (further / "worker.key").read_text("ascii").splitlines()[0]
    shutil.copy(tmp_path / "first" / "worker" / "gateway.pub", further)
    with (tmp_path / "first" / "gateway" / "allowed_workers").open("a") as allowed:
        allowed.write(f"{public}\n")

    gateway = load_gateway_keys(tmp_path / "first" / "gateway")
    workers = [load_worker_keys(tmp_path / "first" / "worker"), load_worker_keys(further)]
    assert load_allowed_workers(tmp_path / "first" / "gateway") == {one.public for one in workers}
    assert {one.gateway_public for one in workers} == {gateway.public}


def test_every_state_of_an_engine_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", _page("operations.md"), re.MULTILINE))

    assert explained == {str(state) for state in EngineState} | {"absent"}


def test_every_failure_a_caller_can_get_is_explained() -> None:
    codes = set(re.findall(r"`(\w+)`", _page("api.md")))

    # A caller that left gets no answer; missing channels are told as an unsupported_value.
    assert {str(code) for code in FailureCode} - codes == {"cancelled", "channels_missing"}
