"""What a script prints and, where a folder is given, writes as JSON: the machine, then tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch

Cell = str | float | None
"""None: not measured."""

_PACKAGES = ("torch", "triton", "transformers", "qwen-asr", "numpy")


@dataclass(slots=True)
class Table:
    """Rows are added as they are measured; numbers are printed with three digits."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for the columns {self.columns}")
        self.rows.append(list(cells))

    def lines(self) -> list[str]:
        texts = [list(self.columns), *([text_of(cell) for cell in row] for row in self.rows)]
        columns = [self._aligned(place, [row[place] for row in texts]) for place in self._places]
        return ["  ".join(parts).rstrip() for parts in zip(*columns, strict=True)]

    @property
    def _places(self) -> range:
        return range(len(self.columns))

    def _aligned(self, place: int, texts: list[str]) -> list[str]:
        """Numbers to the right, words to the left."""
        width = max(map(len, texts))
        is_words = all(isinstance(row[place], str) for row in self.rows)
        return [text.ljust(width) if is_words else text.rjust(width) for text in texts]


class Report:
    """The tables of one run."""

    def __init__(self, script: str, device: torch.device, folder: Path | None) -> None:
        self._script = script
        self._folder = folder
        self._machine = machine(device)
        self._tables: list[Table] = []
        self._notes: list[str] = []
        for name, value in self._machine.items():
            print(f"{name}: {value}")

    def note(self, text: str) -> None:
        """Something a reader of the figures has to know: a peer that is absent, say."""
        self._notes.append(text)
        print(f"note: {text}", flush=True)

    def show(self, table: Table) -> None:
        self._tables.append(table)
        print(f"\n{table.title}", *table.lines(), sep="\n", flush=True)

    def close(self) -> None:
        """Writes the JSON file."""
        load = load_average()
        print(f"\nload average at the end: {load}")
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {
            "script": self._script,
            "machine": self._machine,
            "load_average_at_the_end": load,
            "notes": self._notes,
            "tables": [asdict(table) for table in self._tables],
        }
        (self._folder / f"{self._script}.json").write_text(json.dumps(content, indent=1) + "\n")


def text_of(cell: Cell) -> str:
    """Three digits that count; more before the point where there are more."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if cell >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.3g}"


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on."""
    facts = {
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "device": _device_name(device),
        "threads": str(torch.get_num_threads()),
        "load average at the start": load_average(),
    }
    if device.type == "cuda":
        facts["clocks"] = _clocks()
    return facts


def load_average() -> str:
    """Of 1, 5 and 15 minutes, this script included."""
    return ", ".join(f"{load:.1f}" for load in os.getloadavg())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpus = len(os.sched_getaffinity(0))
    return f"{cpus} CPUs, {torch.backends.cpu.get_cpu_capability()}"


def _clocks() -> str:
    wanted = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit"
    command = ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown: nvidia-smi does not answer"
    return f"{answer.stdout.strip()} ({wanted})"
