import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worker.engine.checkpoint_folders import EMBEDDED, copied
from worker.engine.checkpoints import read_checkpoint
from worker.engine.imports import import_modeling
from worker.engine.interface import EngineFailure, LoadProgress
from worker.engine.official_weights import load_model


def load(folder: Path, progress: list[LoadProgress] | None = None, dtype: str = "float32") -> Any:
    return load_model(
        import_modeling(),
        read_checkpoint(folder),
        device=torch.device("cpu"),
        dtype=getattr(torch, dtype),
        attention="sdpa",
        report=(progress if progress is not None else []).append,
    )


def refusal(folder: Path) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        load(folder)
    assert str(folder) not in caught.value.message
    return caught.value


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_is_the_one_the_package_loads(dtype: str) -> None:
    reference = import_modeling().Qwen3ASRForConditionalGeneration.from_pretrained(
        EMBEDDED, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )

    ours = load(EMBEDDED, dtype=dtype)

    assert_same(dict(ours.named_parameters()), dict(reference.named_parameters()))
    assert_same(dict(ours.named_buffers()), dict(reference.named_buffers()))
    thinker = ours.thinker
    assert thinker.lm_head.weight is thinker.get_input_embeddings().weight
    assert thinker.model.config._attn_implementation == "sdpa"
    assert not ours.training


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


def test_progress_counts_the_bytes_of_all_files() -> None:
    progress: list[LoadProgress] = []

    load(EMBEDDED, progress)

    size_bytes = (EMBEDDED / "model.safetensors").stat().st_size
    done = [step.done_bytes for step in progress]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, size_bytes)
    assert len(set(done)) > 50
    assert {(step.stage, step.total_bytes) for step in progress} == {("weights", size_bytes)}


def test_weights_in_several_files_give_the_same_model(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("model.safetensors",))
    tensors = load_file(EMBEDDED / "model.safetensors")
    halves = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for file, names in halves.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in halves.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    assert_same(dict(load(folder).named_parameters()), dict(load(EMBEDDED).named_parameters()))


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])

    assert refusal(folder).code == "model_corrupt"


def test_a_file_that_is_no_safetensors_is_told(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    shutil.copyfile(EMBEDDED / "config.json", folder / "model.safetensors")

    assert refusal(folder).code == "model_corrupt"


def test_a_tensor_that_is_missing_is_told(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tensors = load_file(EMBEDDED / "model.safetensors")
    tensors.pop("thinker.audio_tower.conv_out.weight")
    save_file(tensors, folder / "model.safetensors")

    assert refusal(folder).code == "model_corrupt"


def test_a_tensor_of_another_shape_is_told(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tensors = load_file(EMBEDDED / "model.safetensors")
    tensors["thinker.audio_tower.conv_out.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors")

    assert refusal(folder).code == "model_corrupt"
