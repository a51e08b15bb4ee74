"""Folders that look like checkpoints, for tests: the embedded one, changed or cut down."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.engine.checkpoints import resolve_checkpoint

EMBEDDED = resolve_checkpoint("embedded", Path("unused"), lambda _progress: None)


def copied(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A copy of the embedded checkpoint in folder, lacking some files."""
    shutil.copytree(EMBEDDED, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    for name in without:
        (folder / name).unlink()
    return folder


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
