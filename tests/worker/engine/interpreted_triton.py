"""Loads the kernels as they can run: compiled on a CUDA device, else under Triton's interpreter."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from triton.runtime import interpreter  # type: ignore[import-untyped]

KERNELS = "worker.engine.kernels"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def runnable_kernels() -> Iterator[ModuleType]:
    """worker.engine.kernels, or without a CUDA device an interpreted copy nobody else sees."""
    if DEVICE.type == "cuda":
        yield importlib.import_module(KERNELS)
        return
    with _interpreter():
        yield _private_copy()


@contextmanager
def _interpreter() -> Iterator[None]:
    """Triton chooses when a function is decorated, so its own library, imported by whoever was
    first, is made interpreted here and compiled again behind. bfloat16 is rounded to the nearest,
    as devices do; the interpreter cuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for module in (tl, tl.standard):
            for name, function in list(vars(module).items()):
                if isinstance(function, triton.JITFunction):
                    patch.setattr(module, name, triton.jit(function.fn))
        patch.setattr(interpreter, "_convert_float", _rounding(interpreter._convert_float))
        yield


def _rounding(cutting: Callable[..., Any]) -> Callable[..., Any]:
    def convert(numbers: Any, source: Any, target: Any, mode: Any) -> Any:
        if (source, target) != (tl.float32, tl.bfloat16):
            return cutting(numbers, source, target, mode)
        return torch.tensor(numbers).bfloat16().view(torch.uint16).numpy()

    return convert


def _private_copy() -> ModuleType:
    spec = importlib.util.find_spec(KERNELS)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # a dataclass looks its module up by name
        patch.setitem(sys.modules, KERNELS, copy)
        spec.loader.exec_module(copy)
    return copy
