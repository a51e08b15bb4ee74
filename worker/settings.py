"""The settings of supervisor and engine process, read once at start from environment variables."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.environment import (
    BadSettings,
    choice,
    default_data_dir,
    flag,
    folder,
    number,
    one_line,
    read_settings,
    setting,
    whole_number,
)
from protocol.sockets import link_setting

FOREVER = 10 * 365 * 86400.0
"""Upper end of the ranges of timeouts."""
MOST_USEFUL_THREADS = 16
"""Matrices of one sequence do not keep more cores busy."""


def usable_cpus() -> int:
    """CPUs this process may use: affinity and the container's quota, never less than 1."""
    allowed = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            return min(allowed, quota_cpus(file.read()) or allowed)
    except OSError:  # no cgroup v2 here, or the root group: no quota
        return allowed


def quota_cpus(cpu_max: str) -> int | None:
    """Whole CPUs in the text of a cgroup's cpu.max, at least 1; None without a quota."""
    quota, period = cpu_max.split()
    return None if quota == "max" else max(1, int(quota) // int(period))


def _threads() -> int:
    return min(usable_cpus(), MOST_USEFUL_THREADS)


def _host_name() -> str:
    return os.uname().nodename or "worker"


def _worker_id(text: str) -> str:
    if not text.isprintable() or len(text) > 64:
        raise ValueError("must be one line of at most 64 characters")
    return text


LEAST_VRAM_BYTES = 64 * 1024**2
"""Below this no model fits: a budget of 6 was meant to be 6GB."""
_BYTES_OF_UNIT = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
    **{letter: 1024**power for power, letter in enumerate("KMGT", start=1)},
}
_AMOUNT = re.compile(r"([0-9]{1,18}|[0-9]{0,18}\.[0-9]{1,18}) ?([a-z]{0,3}|%)", re.ASCII | re.I)


def vram_budget(text: str) -> int | float:
    """Parser of device memory: bytes as an int, or a share above 0 and at most 1 as a float.

    Units with an i, and K, M, G, T alone as everywhere in the settings, are powers of 1024.
    """
    fault = "must be a size such as 6GB, or a share of the free memory such as 0.8 or 80%"
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(fault)
    amount, unit = float(match[1]), match[2].upper()
    if unit == "%":
        amount, unit = amount / 100, ""
    if unit == "" and 0 < amount <= 1:
        return amount
    if match[2] == "%" or unit not in _BYTES_OF_UNIT:
        raise ValueError(fault)
    budget = int(amount * _BYTES_OF_UNIT[unit])
    if budget < LEAST_VRAM_BYTES:
        raise ValueError(fault)
    return budget


@dataclass(frozen=True)
class WorkerSettings:
    """What an operator can set; docs/configuration.md has a line for each variable."""

    model_id: str = setting("MODEL_ID", "Qwen/Qwen3-ASR-1.7B", one_line)
    """A model hub id, a folder, or `embedded`."""
    data_dir: Path = setting("DATA_DIR", default_data_dir, folder)
    """Holds the sockets to the gateway, the spool of uploads and the caches."""
    worker_id: str = setting("WORKER_ID", _host_name, _worker_id)
    """Tells workers of one gateway apart."""
    worker_link: str = setting("WORKER_LINK", "ipc", link_setting)
    """`ipc` (sockets in DATA_DIR), or the tcp://HOST:PORT at which the gateway listens."""
    worker_link_keys: Path | None = setting("WORKER_LINK_KEYS", None, folder)
    """Folder with the keys of a tcp link; protocol.keys has its layout."""
    engine: str = setting("ENGINE", "native", choice("native", "official"))
    """Our own engine, or the official qwen-asr package, which has to be installed."""
    forced_aligner_id: str | None = setting("FORCED_ALIGNER_ID", None, one_line)
    """A hub id or a folder of the model that measures times of words."""
    vram_budget: int | float | None = setting("VRAM_BUDGET", None, vram_budget)
    """Device memory the native engine takes: bytes, a share of what is free, or its default."""
    official_backend: str = setting(
        "OFFICIAL_BACKEND", "transformers", choice("transformers", "vllm")
    )
    """What the official engine runs on."""
    device: str = setting("DEVICE", "auto", choice("auto", "cpu", "cuda"))
    dtype: str = setting("DTYPE", "auto", choice("auto", "float32", "bfloat16", "float16"))
    """Type of weights and activations; auto is bfloat16 where the device has it."""
    torch_compile: bool = setting("TORCH_COMPILE", False, flag)
    """Compile the model at the first start: slower to load, faster to run."""
    chunk_seconds: float = setting("CHUNK_SECONDS", 30.0, number(5, 1200))
    """Length that recordings are cut to, at pauses."""
    max_chunk_seconds: float = setting("MAX_CHUNK_SECONDS", 60.0, number(5, 1200))
    """A chunk is cut here even where nobody pauses."""
    max_audio_seconds: float = setting("MAX_AUDIO_SECONDS", 12 * 3600.0, number(1, FOREVER))
    """Longer recordings are refused."""
    decoders: int = setting("DECODERS", 2, whole_number(1, 64))
    """Recordings decoded at the same time."""
    omp_num_threads: int = setting("OMP_NUM_THREADS", _threads, whole_number(1, 1024))
    """Threads of the engine's CPU code; by default the CPUs it may use."""
    mkl_num_threads: int = setting("MKL_NUM_THREADS", _threads, whole_number(1, 1024))
    """The same for matrix products; by default as OMP_NUM_THREADS."""
    engine_load_stall_timeout: float = setting(
        "ENGINE_LOAD_STALL_TIMEOUT", 300.0, number(1, FOREVER)
    )
    """Seconds without loading progress after which an engine process is ended."""
    engine_step_timeout: float = setting("ENGINE_STEP_TIMEOUT", 120.0, number(1, FOREVER))
    """Seconds of work without a finished step after which an engine process is ended."""
    log_level: str = setting("LOG_LEVEL", "info", choice("debug", "info", "warning", "error"))


def read_worker_settings(environment: Mapping[str, str]) -> WorkerSettings:
    """Settings from the environment; raises BadSettings with a line for each bad value."""
    threads = environment.get("OMP_NUM_THREADS", "")
    if not environment.get("MKL_NUM_THREADS", "").strip():
        environment = {**environment, "MKL_NUM_THREADS": threads}
    settings = read_settings(WorkerSettings, environment)
    if settings.max_chunk_seconds < settings.chunk_seconds:
        raise BadSettings("MAX_CHUNK_SECONDS: must not be below CHUNK_SECONDS")
    return settings
