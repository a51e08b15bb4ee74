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


def scrambled(folder: Path) -> Path:
    """The embedded checkpoint's shape with random weights, scaled so that each token hangs on all
    of the audio: its long, senseless answers show every mix-up that sound answers would forgive."""
    import torch
    from safetensors.torch import load_file, save_file

    copied(folder)
    generator = torch.Generator().manual_seed(7)
    tensors = load_file(EMBEDDED / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.dim() > 1:
            scale = _scale(name) * tensor[0].numel() ** -0.5
            tensors[name] = torch.randn(tensor.shape, generator=generator) * scale
        elif "q_norm" in name or "k_norm" in name:
            tensors[name] = torch.full_like(tensor, 2.0)
    save_file(tensors, folder / "model.safetensors")
    return folder


def _scale(name: str) -> float:
    if "audio_tower" in name:
        return 1.5
    return 3.0 if "o_proj" in name or "v_proj" in name else 1.0
