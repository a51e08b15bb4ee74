"""Turn a trained checkpoint into the one that ships: half precision, a configuration to be read.

python -m tools.tiny_model.export OUT/model worker/embedded/checkpoint [--max-chunk-seconds N]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor

ALWAYS_STATED = {"model_type", "tie_word_embeddings"}
"""The parts' classes have other defaults for these than the class they inherit from."""


def export(trained: Path, folder: Path, max_chunk_seconds: int | None) -> None:
    """Write ``trained`` to ``folder`` in bfloat16.

    ``max_chunk_seconds`` is the longest piece the checkpoint was trained for, if callers must know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = Qwen3ASRForConditionalGeneration.from_pretrained(trained, dtype=torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)
    processor = Qwen3ASRProcessor.from_pretrained(trained, fix_mistral_regex=True)
    processor.save_pretrained(folder)
    path = folder / "config.json"
    config = readable(json.loads(path.read_text()))
    if max_chunk_seconds is not None:
        config["max_chunk_seconds"] = max_chunk_seconds
    path.write_text(json.dumps(config, indent=2) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)


def readable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what every transformers model inherits and this one leaves."""
    inherited = PretrainedConfig().to_dict() | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    thinker = {
        name: _own(part, inherited) if isinstance(part, dict) else part
        for name, part in config["thinker_config"].items()
    }
    return {**config, "thinker_config": thinker}


def _own(part: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    missing = object()
    return {
        key: value
        for key, value in part.items()
        if key in ALWAYS_STATED or inherited.get(key, missing) != value
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the checkpoint that ships.")
    parser.add_argument("trained", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-chunk-seconds", type=int)
    options = parser.parse_args()
    export(options.trained, options.folder, options.max_chunk_seconds)


if __name__ == "__main__":
    main()
