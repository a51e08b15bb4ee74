import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import WITHOUT_EFFECT, Settings
from protocol.environment import variables
from worker.settings import WorkerSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text("utf-8")
DEPENDING_ON_THE_MACHINE = {
    "WORKER_ID": "the host's name",
    "OMP_NUM_THREADS": "the CPUs it may use",
    "MKL_NUM_THREADS": "as `OMP_NUM_THREADS`",
}


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _documented(title: str) -> dict[str, str]:
    """Variable to default, of the table in one section."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", _section(title), re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def _faults(settings_type: type[Any], documented: dict[str, str]) -> list[str]:
    """Variables whose documented default is not the one that is used."""
    defaults = settings_type()
    return [
        field.metadata["variable"]
        for field in dataclasses.fields(settings_type)
        if not _agrees(
            documented[field.metadata["variable"]],
            getattr(defaults, field.name),
            field.metadata,
        )
    ]


def _agrees(text: str, default: object, metadata: Any) -> bool:
    if metadata["variable"] in DEPENDING_ON_THE_MACHINE:
        return text == DEPENDING_ON_THE_MACHINE[metadata["variable"]]
    if default in (None, ()):
        return text == "none"
    return bool(metadata["parse"](text.strip("`")) == default)


def test_every_variable_is_documented_and_no_other() -> None:
    shared = set(_documented("Gateway and worker"))

    assert shared | set(_documented("Gateway")) == set(variables(Settings))
    assert shared | set(_documented("Worker")) == set(variables(WorkerSettings))
    assert shared == set(variables(Settings)) & set(variables(WorkerSettings))


def test_the_documented_defaults_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    shared = _documented("Gateway and worker")

    assert _faults(Settings, shared | _documented("Gateway")) == []
    assert _faults(WorkerSettings, shared | _documented("Worker")) == []


def test_variables_without_effect_are_listed() -> None:
    [listed] = [line for line in _section("Without effect").splitlines() if line.startswith("`")]

    assert listed == ", ".join(f"`{name}`" for name in sorted(WITHOUT_EFFECT))
