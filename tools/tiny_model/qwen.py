"""The model and processor classes of qwen-asr, without its demo and alignment imports."""

import importlib.util
import sys
from types import ModuleType


def _bare_package(name: str) -> None:
    """Register ``name`` without running its ``__init__``, which imports gradio and librosa."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(
            f"{name} is not installed: pip install 'qwen3-asr-server[worker,official]'"
        )
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[name] = package


_bare_package("qwen_asr")

from qwen_asr.core.transformers_backend import (  # noqa: E402
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
)

__all__ = ["Qwen3ASRConfig", "Qwen3ASRForConditionalGeneration", "Qwen3ASRProcessor"]
