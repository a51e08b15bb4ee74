import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.worker.engine.checkpoint_folders import EMBEDDED
from tests.worker.engine.fake_hub import FakeHub, files_of, serving
from worker.engine.checkpoints import ALIGNER, TRANSCRIBER, is_complete
from worker.engine.hub import _explained, _require_space, download_snapshot
from worker.engine.interface import EngineFailure

MODEL_ID = "someone/tiny-asr"
WEIGHTS = "model.safetensors"

# The hub's client writes to the disk in pieces of this size.
PIECE = 10 * 1024**2


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = files_of(EMBEDDED) | {"pytorch_model.bin": b"pickle", "notes.md": b"# notes"}
    with serving(FakeHub(MODEL_ID, files)) as running:
        yield running


class Outcome(NamedTuple):
    progress: list[dict[str, Any]]
    folder: Path | None
    code: str
    message: str


def resolve(
    hub: FakeHub,
    cache: Path,
    *,
    model_id: str = MODEL_ID,
    on_progress: Callable[[dict[str, Any]], None] = lambda _step: None,
    **environment: str,
) -> Outcome:
    """Resolves in a process of its own, with the hub's variables set as an operator sets them."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "tests.worker.engine.resolve_once", model_id, str(cache)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=inherited | own | environment
    ) as process:
        assert process.stdout is not None
        progress = []
        last: dict[str, Any] = {}
        for line in process.stdout:
            last = json.loads(line)
            if "stage" in last:
                progress.append(last)
                on_progress(last)
    assert process.returncode == 0
    folder = Path(last["folder"]) if "folder" in last else None
    return Outcome(progress, folder, last.get("code", ""), last.get("message", ""))


def test_a_hub_id_is_downloaded_into_the_cache_without_pickles(
    hub: FakeHub, tmp_path: Path
) -> None:
    outcome = resolve(hub, tmp_path)

    assert outcome.folder is not None
    assert outcome.folder.is_relative_to(tmp_path)
    assert is_complete(outcome.folder)
    assert (outcome.folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.fetched() == hub.files.keys() - {"pytorch_model.bin", "notes.md"}


def test_progress_tells_bytes_while_a_large_file_comes(hub: FakeHub, tmp_path: Path) -> None:
    hub.files[WEIGHTS] = bytes(2 * PIECE)
    hub.hold_after[WEIGHTS] = PIECE

    def let_go(step: dict[str, Any]) -> None:
        if step["done"] >= PIECE:
            hub.go_on.set()

    outcome = resolve(hub, tmp_path, on_progress=let_go)

    wanted = hub.files.keys() - {"pytorch_model.bin", "notes.md"}
    total = sum(len(hub.files[name]) for name in wanted)
    done = [step["done"] for step in outcome.progress]
    assert {(step["stage"], step["total"]) for step in outcome.progress} == {("download", total)}
    assert done == sorted(set(done))
    assert any(PIECE <= step < total for step in done)
    assert done[-1] == total


def test_a_complete_model_in_the_cache_needs_no_network(hub: FakeHub, tmp_path: Path) -> None:
    first = resolve(hub, tmp_path)
    hub.requests.clear()

    online = resolve(hub, tmp_path)
    offline = resolve(hub, tmp_path, HF_HUB_OFFLINE="1")

    assert hub.requests == []
    assert online.folder == offline.folder == first.folder
    assert online.progress == []


def test_an_interrupted_download_goes_on_where_it_stopped(hub: FakeHub, tmp_path: Path) -> None:
    hub.files[WEIGHTS] = bytes(range(256)) * (2 * PIECE // 256)
    hub.cut_after[WEIGHTS] = PIECE + 1000
    broken = resolve(hub, tmp_path)

    outcome = resolve(hub, tmp_path)

    assert broken.code == "download_failed"
    assert hub.ranges() == [f"bytes={PIECE}-"]
    assert outcome.folder is not None
    assert (outcome.folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert outcome.progress[0]["done"] >= PIECE
    assert outcome.progress[-1]["done"] == outcome.progress[-1]["total"]


def test_hf_home_decides_over_our_cache(hub: FakeHub, tmp_path: Path) -> None:
    outcome = resolve(hub, tmp_path / "ours", HF_HOME=str(tmp_path / "theirs"))

    assert outcome.folder is not None
    assert outcome.folder.is_relative_to(tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()


def test_offline_without_the_model_says_which_variable_forbids_it(
    hub: FakeHub, tmp_path: Path
) -> None:
    outcome = resolve(hub, tmp_path, HF_HUB_OFFLINE="1")

    assert outcome.code == "download_failed"
    assert "HF_HUB_OFFLINE" in outcome.message
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_told(hub: FakeHub, tmp_path: Path) -> None:
    outcome = resolve(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")

    assert outcome.code == "download_failed"
    assert "HF_ENDPOINT" in outcome.message
    assert "127.0.0.1" not in outcome.message


def test_a_model_the_hub_does_not_know_is_told(hub: FakeHub, tmp_path: Path) -> None:
    outcome = resolve(hub, tmp_path, model_id="someone/misspelt")

    assert outcome.code == "model_not_found"
    assert "HF_TOKEN" in outcome.message


def test_a_model_behind_a_licence_is_told(hub: FakeHub, tmp_path: Path) -> None:
    hub.status, hub.error_code = 403, "GatedRepo"

    outcome = resolve(hub, tmp_path)

    assert outcome.code == "download_failed"
    assert "licence" in outcome.message


def test_a_failing_hub_is_told_with_its_status(hub: FakeHub, tmp_path: Path) -> None:
    hub.status = 418

    outcome = resolve(hub, tmp_path)

    assert outcome.code == "download_failed"
    assert "418" in outcome.message


def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.files["config.json"] = b'{"model_type": "whisper"}'

    outcome = resolve(hub, tmp_path)

    assert outcome.code == "unsupported_model"
    assert hub.fetched() == {"config.json"}


def test_a_model_in_the_layout_of_transformers_5_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["config.json"] = b'{"model_type": "qwen3_asr"}'
    hub.files["processor_config.json"] = b'{"feature_extractor": {}}'
    del hub.files["preprocessor_config.json"]

    outcome = resolve(hub, tmp_path)

    assert outcome.folder is not None
    assert {WEIGHTS, "processor_config.json"} <= hub.fetched()


def test_a_model_with_pickled_weights_only_is_refused_before_anything_is_fetched(
    hub: FakeHub, tmp_path: Path
) -> None:
    del hub.files[WEIGHTS]

    outcome = resolve(hub, tmp_path)

    assert outcome.code == "unsupported_model"
    assert hub.fetched() == set()


@pytest.mark.parametrize("model_id", ["not a name", "a/b/c", "/nowhere", "./nowhere", "~/nowhere"])
def test_what_is_neither_folder_nor_hub_id_is_told(
    hub: FakeHub, tmp_path: Path, model_id: str
) -> None:
    assert resolve(hub, tmp_path, model_id=model_id).code == "model_not_found"
    assert hub.requests == []


def test_a_disk_too_small_is_told_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(EngineFailure) as caught:
        _require_space(tmp_path, 4_700_000_000)
    assert caught.value.code == "download_failed"
    assert "4.7 GB" in caught.value.message
    assert "1.0 GB" in caught.value.message


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Make room"), (errno.EACCES, "right to write"), (errno.EROFS, "write")],
)
def test_errors_of_the_disk_say_what_to_do(number: int, advice: str) -> None:
    failure = _explained(OSError(number, os.strerror(number), "/somewhere/blob"), TRANSCRIBER)

    assert failure.code == "download_failed"
    assert advice in failure.message
    assert "/somewhere" not in failure.message


def test_failures_name_the_setting_that_names_the_model(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="folder that FORCED_ALIGNER_ID names") as caught:
        download_snapshot(str(tmp_path / "nowhere"), tmp_path, lambda _progress: None, ALIGNER)

    assert caught.value.code == "model_not_found"
    assert "MODEL_ID" not in caught.value.message
