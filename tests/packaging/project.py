"""The project's own files, as the packaging tests read them."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILES = ("Dockerfile.gateway", "Dockerfile.worker")
Instruction = tuple[str, str]


def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def base_requirements() -> list[Requirement]:
    """What every installation gets."""
    return [Requirement(line) for line in pyproject()["project"]["dependencies"]]


def extra(name: str) -> list[Requirement]:
    """What one extra adds."""
    lines = pyproject()["project"]["optional-dependencies"][name]
    return [Requirement(line) for line in lines]


def installed_requirements() -> list[Requirement]:
    """What scripts/set-up installs: base, extras `worker` and `official`, group `dev`."""
    development = [Requirement(line) for line in pyproject()["dependency-groups"]["dev"]]
    return base_requirements() + extra("worker") + extra("official") + development


def needed_by(requirements: list[Requirement], *, stop_at: str = "") -> set[str]:
    """Names of all distributions that these need here; what `stop_at` needs is left out."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [one for one in requirements if not one.marker or one.marker.evaluate()]
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in found:
            continue
        found.add((name, extras))
        if name != stop_at:
            waiting += _requirements_of(name, extras)
    return {name for name, _ in found}


def _requirements_of(name: str, extras: frozenset[str]) -> list[Requirement]:
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    requirements = [Requirement(line) for line in lines]
    return [
        one
        for one in requirements
        if one.marker is None
        or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def compose() -> dict[str, Any]:
    """compose.yaml, its anchors resolved and its variables as written."""
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))
    return loaded


def instructions(dockerfile: str) -> list[Instruction]:
    """A Dockerfile's instructions as (name, arguments), continued lines joined."""
    lines = (REPOSITORY / dockerfile).read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    split = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(name.upper(), arguments.strip()) for name, _, arguments in split]


def last_stage(dockerfile: str) -> list[Instruction]:
    """The instructions that make the image itself."""
    every = instructions(dockerfile)
    start = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    return every[start:]


def image_environment(dockerfile: str) -> dict[str, str]:
    """The ENV of the image."""
    words = " ".join(arguments for name, arguments in last_stage(dockerfile) if name == "ENV")
    return dict(word.split("=", 1) for word in words.split())
