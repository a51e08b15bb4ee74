import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.project import REPOSITORY, installed_requirements, needed_by

PINNED_BY_TORCH = {"triton"}
"""Its builds for CUDA ask for one version, which a pin of ours would contradict."""


def _pin_lines() -> list[str]:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _pins() -> dict[str, Version]:
    pins = [Requirement(line) for line in _pin_lines()]
    return {canonicalize_name(pin.name): Version(str(pin.specifier)[2:]) for pin in pins}


def test_every_pin_is_one_plain_version_without_local_tag_url_or_hash() -> None:
    odd = [line for line in _pin_lines() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9a-z.]+", line)]

    assert odd == []


def test_no_distribution_is_pinned_twice() -> None:
    assert len(_pins()) == len(_pin_lines())


def test_every_dependency_is_pinned_at_a_version_that_pyproject_allows() -> None:
    pins = _pins()

    outside = [
        str(requirement)
        for requirement in installed_requirements()
        if requirement.name not in PINNED_BY_TORCH
        and (
            (pin := pins.get(canonicalize_name(requirement.name))) is None
            or pin not in requirement.specifier
        )
    ]

    assert outside == []


def test_what_the_dependencies_need_is_pinned_too() -> None:
    # torch itself pins the CUDA packages that its build for GPUs needs.
    needed = needed_by(installed_requirements(), stop_at="torch")

    assert needed - _pins().keys() == PINNED_BY_TORCH
    assert PINNED_BY_TORCH & _pins().keys() == set()
