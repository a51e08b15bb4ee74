import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.settings import Settings
from protocol.environment import read_settings
from tests.packaging.project import (
    DOCKERFILES,
    REPOSITORY,
    base_requirements,
    image_environment,
    instructions,
    last_stage,
    needed_by,
    pyproject,
)
from worker.settings import read_worker_settings

LAYER_BUDGET_BYTES = 100_000_000


def _argument(dockerfile: str, name: str) -> str:
    [found] = [arguments for kind, arguments in last_stage(dockerfile) if kind == name]
    return found


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_linter_has_nothing_to_say(dockerfile: str) -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")

    lint = subprocess.run(
        [linter, dockerfile], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert (lint.returncode, lint.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_from_the_repository_exists_and_is_not_ignored(dockerfile: str) -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line[1:] for line in ignore if line.startswith("!")]
    copied = [
        source
        for name, arguments in instructions(dockerfile)
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
        if source != "."
    ]

    assert [path for path in [*copied, *kept] if not (REPOSITORY / path).exists()] == []
    assert [one for one in copied if not any(fnmatch.fnmatch(one, line) for line in kept)] == []


def test_the_build_context_has_all_that_the_wheel_is_made_of() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    project = pyproject()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], project["project"]["readme"], "pyproject.toml", "constraints.txt"}
    needed |= {path.split("/")[0] for path in project["project"]["license-files"]}

    assert needed - {line.removeprefix("!") for line in ignore} == set()
    assert ignore[1] == "*"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_main_process_is_the_installed_command_itself(dockerfile: str) -> None:
    entry_point = json.loads(_argument(dockerfile, "ENTRYPOINT"))
    [subcommand] = json.loads(_argument(dockerfile, "CMD"))

    assert entry_point == ["qwen3-asr"]
    assert "qwen3-asr" in pyproject()["project"]["scripts"]
    assert subcommand in COMMANDS
    assert dockerfile == f"Dockerfile.{subcommand}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_image_runs_as_an_ordinary_user(dockerfile: str) -> None:
    user = _argument(dockerfile, "USER")

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_any_user_can_write_to_a_new_volume(dockerfile: str) -> None:
    made = [arguments for name, arguments in last_stage(dockerfile) if name == "RUN"]

    assert made == ["install -d -m 1777 /data /data/cache /data/cache/tmp"]
    assert _argument(dockerfile, "VOLUME") == "/data"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_compiled_files_are_part_of_the_image(dockerfile: str) -> None:
    text = (REPOSITORY / dockerfile).read_text("utf-8")

    assert "PYTHONDONTWRITEBYTECODE" not in text
    assert "--no-compile" not in text
    assert "PIP_NO_COMPILE" not in text


def test_the_gateway_image_listens_for_other_machines_and_keeps_its_files_on_the_volume() -> None:
    settings = read_settings(Settings, image_environment("Dockerfile.gateway"))

    assert (settings.host, settings.port, str(settings.data_dir)) == ("0.0.0.0", 8000, "/data")
    assert _argument("Dockerfile.gateway", "HEALTHCHECK").endswith(
        'CMD ["qwen3-asr", "healthcheck"]'
    )


def test_the_worker_image_keeps_every_cache_on_the_volume() -> None:
    environment = image_environment("Dockerfile.worker")
    settings = read_worker_settings(environment)

    assert settings.omp_num_threads == 2
    assert environment["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    for variable in ("DATA_DIR", "HOME", "TMPDIR", "NUMBA_CACHE_DIR"):
        assert Path(environment[variable]).is_relative_to("/data")


def test_the_worker_image_can_compile_kernels() -> None:
    [stage] = [
        arguments
        for name, arguments in instructions("Dockerfile.worker")
        if name == "RUN" and "apt-get" in arguments and "ca-certificates" in arguments
    ]

    assert {"gcc", "g++", "libc6-dev", "python3-dev"} <= set(stage.split())
    assert last_stage("Dockerfile.worker")[0] == ("FROM", "python")


@pytest.mark.parametrize(
    ("engine", "backend", "aligner", "extras"),
    [
        ("native", "transformers", "", "[worker]"),
        ("native", "transformers", "Qwen/Qwen3-ForcedAligner-0.6B", "[worker,official]"),
        ("native", "vllm", "", "[worker]"),
        ("official", "transformers", "", "[worker,official]"),
        ("official", "vllm", "", "[worker,vllm]"),
        ("rocket", "transformers", "", ""),
        ("official", "tea", "", ""),
    ],
)
def test_the_worker_image_has_the_packages_of_the_engine_asked_for(
    engine: str, backend: str, aligner: str, extras: str
) -> None:
    [install] = [
        arguments
        for name, arguments in instructions("Dockerfile.worker")
        if name == "RUN" and "case" in arguments
    ]
    said = subprocess.run(
        ["sh", "-c", install.replace("/opt/qwen3-asr/bin/pip", "echo")],
        env={
            **os.environ,
            "ENGINE": engine,
            "BACKEND": backend,
            "FORCED_ALIGNER_ID": aligner,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.stdout.strip().removeprefix("install ").split(" ")[-1].strip(".") == extras
    assert (said.returncode == 0) == bool(extras)


def test_the_gateway_image_stays_below_its_budget() -> None:
    installed = sum(_installed_bytes(name) for name in needed_by(base_requirements()))
    packages = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    own = sum(_folder_bytes(REPOSITORY / package) for package in packages)

    # Installed files of this environment, compiled ones included, as the image copies them.
    assert 0 < installed + own < LAYER_BUDGET_BYTES


def _installed_bytes(name: str) -> int:
    files = distribution(name).files or []
    located = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in located if path.is_file())


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
