import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
import protocol
import worker
from gateway.cli import WORKER_MODULES
from gateway.version import VERSION
from tests.packaging.project import (
    REPOSITORY,
    base_requirements,
    extra,
    needed_by,
    pyproject,
)

HEAVY = ("torch", "numpy", "transformers", "qwen_asr", "librosa", "soundfile", "soxr", "av")

# Of the extra "official", or needed by it alone.
OFFICIAL = ("qwen_asr", "transformers", "accelerate", "gradio", "librosa", "soundfile", "soxr")

BLOCK_IMPORTS = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} was imported, which is not installed")

sys.meta_path.insert(0, Blocker())
"""
BLOCK_HEAVY_IMPORTS = BLOCK_IMPORTS.format(blocked=HEAVY)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", [gateway, protocol, worker])
def test_the_packages_imported_are_the_ones_of_this_repository(package: object) -> None:
    path = getattr(package, "__file__", None)

    assert path is not None
    assert Path(path).resolve().parent.parent == REPOSITORY


@pytest.mark.parametrize("top", ["gateway", "protocol", "worker", "tests"])
def test_every_folder_with_python_files_is_a_package(top: str) -> None:
    folders = {path.parent for path in (REPOSITORY / top).rglob("*.py")}
    # A folder between two packages has to be one as well.
    folders |= {
        parent
        for folder in folders
        for parent in folder.parents
        if parent.is_relative_to(REPOSITORY / top)
    }

    assert [str(one) for one in folders if not (one / "__init__.py").is_file()] == []


def test_the_worker_package_itself_imports_nothing() -> None:
    assert (REPOSITORY / "worker" / "__init__.py").read_text("utf-8") == ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from the working tree without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    built = _run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_has_the_embedded_model_and_its_card(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    checkpoint = REPOSITORY / "worker" / "embedded" / "checkpoint"
    files = {str(path.relative_to(REPOSITORY)) for path in checkpoint.iterdir()}

    assert "worker/embedded/checkpoint/model.safetensors" in files
    assert files <= names
    assert "worker/embedded/MODEL_CARD.md" in names


def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gateway",
        "protocol",
        "worker",
    }
    assert [name for name in wheel.namelist() if "test" in Path(name).name] == []


def test_the_wheel_carries_both_licences(wheel: zipfile.ZipFile) -> None:
    licences = {
        name.partition(".dist-info/licenses/")[2]
        for name in wheel.namelist()
        if ".dist-info/licenses/" in name
    }

    assert licences == {"LICENSE", "worker/embedded/MODEL_CARD.md"}


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    [path] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]

    assert "qwen3-asr = gateway.cli:main" in wheel.read(path).decode()


def test_the_command_prints_the_version_that_pyproject_names() -> None:
    shown = _run("-m", "gateway", "--version")

    assert (shown.returncode, shown.stdout) == (0, f"qwen3-asr {VERSION}\n")
    assert pyproject()["project"]["version"] == VERSION


@pytest.mark.parametrize(
    "module", ["gateway.main", "gateway.cli", "gateway.healthcheck", "worker.start", "worker"]
)
def test_gateway_and_supervisor_work_without_the_packages_of_the_engine(module: str) -> None:
    imported = _run("-c", f"{BLOCK_HEAVY_IMPORTS}\nimport {module}")

    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize(
    "module",
    [
        "worker.process",
        "worker.audio.decode_child",
        "worker.engine.native",
        "worker.engine.native_model",
    ],
)
def test_the_native_engine_works_without_the_official_package(module: str) -> None:
    imported = _run("-c", f"{BLOCK_IMPORTS.format(blocked=OFFICIAL)}\nimport {module}")

    assert imported.returncode == 0, imported.stderr


def test_a_worker_has_the_official_package_only_where_asked_for() -> None:
    names = {name.replace("_", "-") for name in OFFICIAL}

    assert needed_by(base_requirements() + extra("worker")) & names == set()
    assert {"qwen-asr", "transformers", "librosa"} <= needed_by(extra("official"))
    assert "qwen3-asr-server[official]" in {str(one) for one in extra("vllm")}


def test_each_module_whose_absence_serve_notices_is_of_the_worker_packages() -> None:
    missing = set(WORKER_MODULES) - {
        one.name.replace("-", "_") for one in extra("worker") if one.marker is None
    }

    assert missing == set()


def test_serve_says_which_packages_a_base_installation_lacks() -> None:
    hide = BLOCK_HEAVY_IMPORTS.replace("raise ImportError", "raise ModuleNotFoundError")
    pretend = "import importlib.util; importlib.util.find_spec = lambda name: None"

    served = _run("-c", f"{hide}\n{pretend}\nfrom gateway.cli import main; main(['serve'])")

    assert served.returncode == 1
    assert "torch" in served.stderr
    assert 'pip install "qwen3-asr-server[worker]"' in served.stderr
