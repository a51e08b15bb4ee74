import json
from pathlib import Path

import torch

from tools.tiny_model.export import export
from tools.tiny_model.qwen import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration


def without_types(config: dict[str, object]) -> dict[str, object]:
    return {
        key: without_types(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in ("dtype", "_name_or_path")
    }


def test_shortened_configuration_loads_as_the_whole_one(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    export(small_checkpoint, tmp_path, max_chunk_seconds=None)

    original = Qwen3ASRConfig.from_pretrained(small_checkpoint).to_dict()
    exported = Qwen3ASRConfig.from_pretrained(tmp_path).to_dict()

    assert without_types(exported) == without_types(original)
    size = (tmp_path / "config.json").stat().st_size
    assert size < 0.5 * (small_checkpoint / "config.json").stat().st_size


def test_weights_are_halved_and_otherwise_the_same(small_checkpoint: Path, tmp_path: Path) -> None:
    export(small_checkpoint, tmp_path, max_chunk_seconds=None)

    original = Qwen3ASRForConditionalGeneration.from_pretrained(small_checkpoint)
    exported = Qwen3ASRForConditionalGeneration.from_pretrained(tmp_path, dtype="auto")

    for one, other in zip(original.parameters(), exported.parameters(), strict=True):
        assert other.dtype == torch.bfloat16
        torch.testing.assert_close(one.bfloat16(), other)


def test_longest_chunk_is_named_only_where_there_is_one(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    export(small_checkpoint, tmp_path / "any", max_chunk_seconds=None)
    export(small_checkpoint, tmp_path / "short", max_chunk_seconds=15)

    assert "max_chunk_seconds" not in json.loads((tmp_path / "any/config.json").read_text())
    assert json.loads((tmp_path / "short/config.json").read_text())["max_chunk_seconds"] == 15
