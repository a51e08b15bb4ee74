"""The environment of transformers 5, beside the one that runs this: the two cannot be one, for the
official package needs transformers 4."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "second-oracle"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def oracle_python() -> Path:
    """Its interpreter; made at the first call and whenever the requirements change.

    torch is that of the environment that runs this, so that one torch computes both.
    """
    python = FOLDER / "bin" / "python"
    installed = FOLDER / "installed.txt"
    wanted = _REQUIREMENTS.read_text()
    if installed.exists() and installed.read_text() == wanted:
        return python
    venv.create(FOLDER, clear=True, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", _REQUIREMENTS], check=True)
    _shared_packages(python).write_text(sysconfig.get_path("purelib") + "\n")
    installed.write_text(wanted)
    return python


def _shared_packages(python: Path) -> Path:
    """A path file: what it names comes behind the environment's own packages."""
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    answer = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    return Path(answer.stdout.strip()) / "shared.pth"
