"""Small environments of other people's clients, made on demand in build/clients and kept there.

What goes into one is pinned beside these files, and part of its folder's name. A package registry
that is not reached, or hangs, means a skip, never a failure.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / "clients"
LOG = "installation.log"
TIME_LIMIT = 60.0
"""Seconds an installation may take; those here take 3 to 20. Two that hang: two minutes."""


class NotAvailable(Exception):
    """The environment cannot be made here; the message says why."""


@dataclass
class Environments:
    """Makes what is missing. After one installer has failed, none of its kind is asked again."""

    pins: Path = HERE
    cache: Path = CACHE
    time_limit: float = TIME_LIMIT
    failures: dict[str, str] = field(default_factory=dict)

    def python(self, name: str) -> Path:
        """The interpreter of an environment with NAME/requirements.txt."""
        return self._environment("pip", name, self._make_python) / "bin" / "python"

    def node(self, name: str) -> Path:
        """A folder with the modules of NAME/package-lock.json."""
        if shutil.which("npm") is None or shutil.which("node") is None:
            raise NotAvailable("node and npm are not installed")
        return self._environment("npm", name, self._make_node)

    def _environment(self, tool: str, name: str, make: Callable[[Path, Path], None]) -> Path:
        pins = self.pins / name
        folder = self.cache / f"{name}-{_fingerprint(pins)}"
        if folder.exists():
            return folder
        if tool in self.failures:
            raise NotAvailable(self.failures[tool])
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        unfinished.mkdir(parents=True)
        try:
            make(pins, unfinished)
            unfinished.rename(folder)  # a virtual environment moves well: nothing in it is a script
        except NotAvailable as reason:
            log = (unfinished / LOG).rename(self.cache / f"{tool}.log")
            self.failures[tool] = f"{tool} could not install {name}: {reason}; see {log.name}"
            raise NotAvailable(self.failures[tool]) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def _make_python(self, pins: Path, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"))
        options = "--no-deps --only-binary :all: --retries 1 --timeout 10"
        requirements = pins / "requirements.txt"
        self._run([*pip, "install", *options.split(), "--requirement", str(requirements)], folder)

    def _make_node(self, pins: Path, folder: Path) -> None:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(pins / name, folder)
        options = "--ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=10000"
        self._run(["npm", "ci", *options.split()], folder)

    def _run(self, command: Sequence[str], folder: Path) -> None:
        with (folder / LOG).open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )
            try:
                status = process.wait(self.time_limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise NotAvailable(f"not done after {self.time_limit:g} s") from None
        if status != 0:
            raise NotAvailable(f"it ended with {status}")


def _fingerprint(pins: Path) -> str:
    """Of what is pinned and of the interpreter it is for."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(pins.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
