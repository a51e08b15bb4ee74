"""Where the model runs and how many chunks fit there: device, number type, attention, batch."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from pathlib import Path

import torch

from worker.engine.interface import EngineFailure

CPU_BATCH = 8
"""On CPU: enough to share a step's fixed cost; more would hold back answers without a gain."""
LARGEST_BATCH = 32

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "[CUDA]: out of memory",  # Triton's
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_CGROUP = Path("/sys/fs/cgroup")

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(wanted: str) -> torch.device:
    """auto takes CUDA where there is a device. Raises EngineFailure for one that is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EngineFailure(
            "device_missing", f"There is no device {wanted!r}: use auto, cpu, cuda or cuda:N."
        ) from error
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not _has_cuda_device(device.index or 0):
        raise EngineFailure(
            "device_missing",
            f"The device {wanted} is not there. Check the driver, the container's GPU access and"
            " the torch build, or use cpu.",
        )
    return device


def make_current(device: torch.device) -> None:
    """Streams, events and Triton work on the current device; and float32 means float32 there."""
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
        torch.backends.cudnn.allow_tf32 = False


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """auto: float32 on CPU; on CUDA bfloat16, or float16 where the GPU lacks bfloat16."""
    if wanted in _DTYPES:
        return _DTYPES[wanted]
    if wanted != "auto":
        raise EngineFailure(
            "unsupported_model",
            f"There is no number type {wanted!r}: use auto, float32, bfloat16 or float16.",
        )
    if device.type == "cpu":
        return torch.float32
    # Turing and older emulate bfloat16 in software, several times slower than float16.
    return torch.bfloat16 if _has_native_bfloat16(device) else torch.float16


def choose_attention(device: torch.device, dtype: torch.dtype) -> str:
    """flash_attention_2 where it is installed and can run, else torch's own kernels."""
    if device.type != "cuda" or dtype == torch.float32:
        return "sdpa"
    return "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"


def chunks_that_fit(free_bytes: int, bytes_per_chunk: int) -> int:
    """Chunks per batch that take half of the free memory; activations get the other half."""
    return max(1, min(LARGEST_BATCH, free_bytes // 2 // bytes_per_chunk))


def free_bytes(device: torch.device) -> int:
    """What a CUDA device has left, torch's own reserve included."""
    free, _total = torch.cuda.mem_get_info(device)
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + reserve)


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors may take on the device, CPU included."""
    return _free_host_memory() if device.type == "cpu" else free_bytes(device)


def is_out_of_memory(error: Exception) -> bool:
    """torch's own error, and what its CPU allocator, the driver and libraries raise instead."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def lacks_compiler(error: BaseException | None) -> bool:
    """Whether inductor found no compiler. By name, so that torch.compile is not imported for it."""
    while error is not None:
        if type(error).__name__ == "InvalidCxxCompiler":
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__
    return False


def compiler_missing() -> EngineFailure:
    """What to do about it."""
    return EngineFailure(
        "backend_missing",
        "TORCH_COMPILE needs a C++ compiler: install g++ and Python's headers, or unset it.",
    )


def is_lost(device: torch.device) -> bool:
    """Whether the device answers nothing any more: a CUDA error that only a new process cures."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def _free_host_memory() -> int:
    """What the machine could give, or less where the container's limit is nearer."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError), open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":") for line in file)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    with suppress(OSError):  # no cgroup v2 here, or the root group: no limit
        limit = (_CGROUP / "memory.max").read_text("ascii").strip()
        used = int((_CGROUP / "memory.current").read_text("ascii"))
        if limit != "max":
            available = min(available, max(0, int(limit) - used))
    return available


def _has_cuda_device(index: int) -> bool:
    return bool(torch.cuda.is_available() and index < torch.cuda.device_count())


def _has_native_bfloat16(device: torch.device) -> bool:
    major, _minor = torch.cuda.get_device_capability(device)
    return bool(major >= 8)
