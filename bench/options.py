"""The command line that the engine's benchmarks share."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.measuring import use_threads
from bench.models import MODELS
from bench.report import Report
from worker.engine.placement import choose_device, choose_dtype


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and what a script measures."""

    device: torch.device
    dtype: torch.dtype
    model: str
    threads: int
    rounds: int
    report: Report

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """With the options that setting() reads; `rounds` is how often cases take turns by default."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument(
        "--model", choices=MODELS, help="embedded has weights, the others random ones of that shape"
    )
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--rounds", type=int, default=rounds, help="in each of the two passes")
    made.add_argument("--json", type=Path, metavar="FOLDER", help="write the tables there as well")
    return made


def setting(script: str, arguments: argparse.Namespace) -> Setting:
    """Prints what the figures depend on. The model is embedded on a CPU and 0.6b on a GPU."""
    use_threads(arguments.threads)
    device = choose_device(arguments.device)
    model = arguments.model or ("0.6b" if device.type == "cuda" else "embedded")
    report = Report(script, device, arguments.json)
    dtype = choose_dtype("auto", device)
    print(f"model: {model}, {str(dtype).removeprefix('torch.')}")
    return Setting(device, dtype, model, arguments.threads, arguments.rounds, report)


def numbers(text: str) -> list[int]:
    """1,8,32 -> [1, 8, 32]."""
    return [int(part) for part in text.split(",")]
