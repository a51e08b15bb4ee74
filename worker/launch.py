"""How a supervisor starts an engine process: its arguments and its environment. Torch-free."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from worker.value import Value

if TYPE_CHECKING:
    from worker.settings import WorkerSettings

ENGINE_COMMAND = (sys.executable, "-P", "-m", "worker.process")

WITHHELD = ("API_KEYS", "API_KEYS_FILE", "OPENAI_API_KEY")
"""Secrets of the gateway that no model code needs to see."""


class Launch(Value):
    """What one engine process is told on its command line."""

    epoch: int
    status_descriptor: int
    """The writing end of its status pipe."""
    supervisor_pid: int
    """Its parent, to be checked by die_with_parent."""

    def arguments(self) -> list[str]:
        """To append to ENGINE_COMMAND."""
        values = (self.epoch, self.status_descriptor, self.supervisor_pid)
        return [text for pair in zip(OPTIONS, map(str, values), strict=True) for text in pair]


OPTIONS = ("--epoch", "--status-pipe", "--supervisor")


def parse_launch(arguments: Sequence[str]) -> Launch:
    """The launch behind sys.argv[1:]; raises ValueError where a person typed something else."""
    names, values = tuple(arguments[::2]), arguments[1::2]
    if names != OPTIONS or len(values) != 3 or not all(value.isdecimal() for value in values):
        raise ValueError("the engine process is started by its supervisor: run qwen3-asr worker")
    epoch, status_descriptor, supervisor_pid = map(int, values)
    return Launch(epoch, status_descriptor, supervisor_pid)


def engine_environment(
    settings: "WorkerSettings", environment: Mapping[str, str]
) -> dict[str, str]:
    """The supervisor's environment, with caches under DATA_DIR so that a second start downloads
    and compiles nothing. What the operator has set stays."""
    caches = settings.data_dir / "cache"
    defaults = {
        "HF_HOME": str(caches / "huggingface"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "CUDA_CACHE_PATH": str(caches / "cuda"),
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "VLLM_CACHE_ROOT": str(caches / "vllm"),
        "PYTHONUNBUFFERED": "1",
    }
    kept = {name: value for name, value in environment.items() if name not in WITHHELD}
    unset = {name: value for name, value in defaults.items() if not kept.get(name)}
    return {
        **kept,
        **unset,
        "OMP_NUM_THREADS": str(settings.omp_num_threads),
        "MKL_NUM_THREADS": str(settings.mkl_num_threads),
    }
