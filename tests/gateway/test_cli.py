"""The command as people run it, in processes of their own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway import cli
from gateway.version import VERSION
from protocol.keys import (
    load_allowed_workers,
    load_gateway_keys,
    load_worker_keys,
    write_key_folders,
)

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        timeout=60,
        check=False,
    )


def test_help_names_every_subcommand_and_how_to_try_it() -> None:
    done = run("--help")

    assert done.returncode == 0
    for command in cli.COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "MODEL_ID=embedded qwen3-asr serve" in done.stdout


def test_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert run("--version").stdout == f"qwen3-asr {project['version']}\n"
    assert project["version"] == VERSION


@pytest.mark.parametrize("arguments", [[], ["sing"], ["serve", "--port=1"]])
def test_unknown_usage_is_answered_with_the_help(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: qwen3-asr" in done.stderr


def test_bad_settings_are_listed_together_and_stop_the_start() -> None:
    done = run("gateway", PORT="eighty", IDLE_TIMEOUT="soon")

    assert done.returncode == 1
    assert "PORT: " in done.stderr
    assert "IDLE_TIMEOUT: " in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_link_is_told_together_with_the_other_bad_settings() -> None:
    done = run("gateway", PORT="abc", WORKER_LINK="foo")

    assert done.returncode == 1
    assert 'WORKER_LINK: must be "ipc" or tcp://HOST:PORT' in done.stderr
    assert "PORT: " in done.stderr


def test_serving_over_a_network_link_is_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    write_key_folders(tmp_path)
    packages_installed = "from gateway import cli; cli.WORKER_MODULES = (); cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", packages_installed, "serve"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "DATA_DIR": str(tmp_path),
            "WORKER_LINK": "tcp://127.0.0.1:9100",
            "WORKER_LINK_KEYS": str(tmp_path / "gateway"),
        },
        cwd=ROOT,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "WORKER_LINK: " in done.stderr
    assert "qwen3-asr gateway" in done.stderr


def test_healthcheck_of_nothing_fails() -> None:
    assert run("healthcheck", PORT="1").returncode == 1


def test_serving_without_the_workers_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "WORKER_MODULES", ("torch", "no_such_package"))

    with pytest.raises(SystemExit) as caught:
        cli.main(["serve"])

    assert caught.value.code == 1
    assert "(no_such_package)" in capsys.readouterr().err


def test_worker_becomes_the_supervisor_in_the_same_process(tmp_path: Path) -> None:
    """Nothing of this command stays in memory: the process is replaced, and its id kept."""
    package = tmp_path / "worker"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os, sys\nprint(os.getpid(), sys.argv[1:])\n")
    with subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli import main; main(['worker'])"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output, _ = process.communicate(timeout=60)

    assert output == f"{process.pid} []\n"


def test_keys_makes_what_both_ends_of_a_link_need_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["keys", str(tmp_path)])
    assert ended.value.code == 0
    worker = load_worker_keys(tmp_path / "worker")
    assert load_allowed_workers(tmp_path / "gateway") == {worker.public}
    assert worker.gateway_public == load_gateway_keys(tmp_path / "gateway").public

    with pytest.raises(SystemExit) as ended:
        cli.main(["keys", str(tmp_path)])
    assert ended.value.code == 1
    assert "File exists" in capsys.readouterr().err
    assert load_worker_keys(tmp_path / "worker") == worker
