import stat
import time
from pathlib import Path

import pytest

from tests.clients.environments import HERE, Environments, NotAvailable


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that stands for npm, and for node; its calls are counted in calls.log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "node").symlink_to("/bin/true")
    script = folder / "npm"
    script.touch(mode=stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return script


def does(script: Path, what: str) -> None:
    script.write_text(f"#!/bin/sh\necho called >> {script.parent}/calls.log\n{what}\n")


def calls(script: Path) -> int:
    return len((script.parent / "calls.log").read_text().splitlines())


def environments(tmp_path: Path, time_limit: float = 30.0) -> Environments:
    return Environments(HERE, tmp_path / "cache", time_limit)


def test_an_environment_is_made_once_and_kept(installer: Path, tmp_path: Path) -> None:
    does(installer, "mkdir node_modules")
    first = environments(tmp_path).node("openai_node_6")

    assert (first / "node_modules").is_dir()
    assert environments(tmp_path).node("openai_node_6") == first
    assert calls(installer) == 1


def test_a_registry_that_hangs_is_given_up_and_not_asked_again(
    installer: Path, tmp_path: Path
) -> None:
    does(installer, "exec sleep 600")
    ours = environments(tmp_path, time_limit=0.2)
    started = time.monotonic()
    with pytest.raises(NotAvailable, match="openai_node_6: not done after"):
        ours.node("openai_node_6")
    with pytest.raises(NotAvailable):
        ours.node("openai_node_7")

    assert time.monotonic() - started < 300
    assert calls(installer) == 1


def test_of_an_installation_that_fails_only_its_log_is_kept(
    installer: Path, tmp_path: Path
) -> None:
    does(installer, "mkdir node_modules; echo registry is away >&2; exit 1")
    with pytest.raises(NotAvailable, match=r"npm could not install openai_node_6: .*npm\.log"):
        environments(tmp_path).node("openai_node_6")

    [log] = (tmp_path / "cache").iterdir()
    assert log.name == "npm.log"
    assert log.read_text() == "registry is away\n"


def test_without_node_its_clients_are_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAvailable, match="not installed"):
        environments(tmp_path).node("openai_node_6")


def test_everything_is_pinned_and_no_registry_is_named() -> None:
    for lock in HERE.glob("*/package-lock.json"):
        assert '"resolved"' not in lock.read_text(), lock
        assert '"integrity"' in lock.read_text(), lock
    for requirements in HERE.glob("*/requirements.txt"):
        assert all("==" in line for line in requirements.read_text().splitlines()), requirements
