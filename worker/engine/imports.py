"""Imports the official package's model without what it does not need.

Its package imports gradio, librosa and nagisa, and transformers imports scikit-learn, pandas and
scipy where it finds them: 2.5 s and 110 MB that a cold start does not have to spend.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from worker.engine.interface import EngineFailure

# Optional to transformers, unused by the model; each costs import time and memory.
_UNUSED = ("accelerate", "librosa", "pandas", "PIL", "scipy", "sklearn", "soundfile")

_BACKEND = "qwen_asr.core.transformers_backend"


def import_modeling() -> Any:
    """The module with Qwen3ASRForConditionalGeneration. Raises EngineFailure where not installed.

    Afterwards sys.modules is as an ordinary import would leave it, so the hidden packages can still
    be imported by others; transformers alone goes on believing that they are not installed.
    """
    try:
        with ExitStack() as clean_up:
            clean_up.enter_context(_hidden(_UNUSED))
            clean_up.enter_context(_without_init("qwen_asr"))
            clean_up.enter_context(_without_init(_BACKEND))
            return importlib.import_module(f"{_BACKEND}.modeling_qwen3_asr")
    except ModuleNotFoundError as error:
        raise package_missing(error, extras="worker,official") from error


def package_missing(error: ModuleNotFoundError, extras: str = "worker") -> EngineFailure:
    """What to do about a package of these extras that is not installed."""
    return EngineFailure(
        "backend_missing",
        f"The Python package {error.name} is missing. Install qwen3-asr-server[{extras}].",
    )


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Within, these packages look not installed, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the import system's own convention
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


@contextmanager
def _without_init(name: str) -> Iterator[None]:
    """Within, submodules of a package can be imported without running its __init__."""
    if name in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[name] = package
    try:
        yield
    finally:
        sys.modules.pop(name, None)
