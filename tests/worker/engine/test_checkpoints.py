import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker.engine.checkpoint_folders import EMBEDDED, copied, edit_json
from worker.engine.checkpoints import (
    ALIGNER,
    is_complete,
    read_checkpoint,
    refuse_hf_layout,
    resolve_checkpoint,
)
from worker.engine.interface import EngineFailure, EngineSettings, LoadProgress
from worker.engine.official import OfficialTransformersEngine
from worker.engine.vllm_backend import OfficialVllmEngine


def ignore(_progress: LoadProgress) -> None:
    pass


def refusal(folder: Path) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        read_checkpoint(folder)
    assert str(folder) not in caught.value.message
    return caught.value


def test_embedded_names_the_checkpoint_inside_the_package() -> None:
    folder = resolve_checkpoint("embedded", Path("unused"), ignore)

    checkpoint = read_checkpoint(folder)
    assert checkpoint.weight_files == (folder / "model.safetensors",)
    assert checkpoint.end_token_ids


def test_an_existing_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve_checkpoint(str(tmp_path), tmp_path / "cache", ignore) == tmp_path
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure) as caught:
        resolve_checkpoint(str(tmp_path / "nowhere"), tmp_path, ignore)

    assert caught.value.code == "model_not_found"
    assert str(tmp_path) not in caught.value.message


def test_a_limit_on_chunks_is_read_from_the_configuration(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(max_chunk_seconds=15))

    assert read_checkpoint(folder).max_chunk_seconds == 15.0


def test_no_limit_on_chunks_is_none(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_json(folder / "config.json", lambda config: config.pop("max_chunk_seconds", None))

    assert read_checkpoint(folder).max_chunk_seconds is None


@pytest.mark.parametrize("limit", [0, -1, "15", True])
def test_a_limit_that_is_no_length_is_refused(tmp_path: Path, limit: object) -> None:
    folder = copied(tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(max_chunk_seconds=limit))

    assert refusal(folder).code == "model_corrupt"


def test_weights_in_several_files_are_found_through_their_index(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("model.safetensors",))
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (folder / name).touch()
    index = {"weight_map": {"a": names[1], "b": names[0], "c": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert read_checkpoint(folder).weight_files == tuple(folder / name for name in names)


def test_an_index_cannot_name_files_outside_its_folder(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert refusal(folder).code == "model_corrupt"


def in_hf_layout(folder: Path, architecture: str = "Qwen3ASRForConditionalGeneration") -> Path:
    """config.json with the entries of transformers 5's, the other files unchanged."""
    copied(folder)

    def rewrite(config: dict[str, Any]) -> None:
        thinker = config.pop("thinker_config")
        config.update(
            architectures=[architecture],
            audio_config=thinker["audio_config"],
            text_config=thinker["text_config"],
        )

    edit_json(folder / "config.json", rewrite)
    return folder


def test_the_layout_of_transformers_5_is_told_from_the_published_one(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(in_hf_layout(tmp_path))

    assert checkpoint.is_hf_layout
    assert checkpoint.end_token_ids == read_checkpoint(EMBEDDED).end_token_ids
    assert not read_checkpoint(EMBEDDED).is_hf_layout


def test_an_engine_may_refuse_the_layout_of_transformers_5_with_the_way_out(
    tmp_path: Path,
) -> None:
    with pytest.raises(EngineFailure) as caught:
        refuse_hf_layout(read_checkpoint(in_hf_layout(tmp_path)))

    assert caught.value.code == "unsupported_model"
    assert "ENGINE=native" in caught.value.message
    assert "Qwen/Qwen3-ASR-1.7B" in caught.value.message
    refuse_hf_layout(read_checkpoint(EMBEDDED))


@pytest.mark.parametrize("engine", [OfficialTransformersEngine, OfficialVllmEngine])
def test_the_official_engines_refuse_it_before_they_import_anything(
    tmp_path: Path, engine: type[OfficialTransformersEngine | OfficialVllmEngine]
) -> None:
    stages: list[LoadProgress] = []
    settings = EngineSettings(str(in_hf_layout(tmp_path)), Path("unused"), engine="official")

    with pytest.raises(EngineFailure) as caught:
        engine(settings).load(stages.append)

    assert "ENGINE=native" in caught.value.message
    assert stages == []


def test_the_feature_extractor_is_found_inside_the_processor(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    alone = json.loads((folder / "preprocessor_config.json").read_text())
    whole = {"feature_extractor": alone, "processor_class": "Qwen3ASRProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    (folder / "preprocessor_config.json").unlink()

    assert read_checkpoint(folder).preprocessor == alone


def test_a_processor_without_feature_extractor_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("preprocessor_config.json",))
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen3ASRProcessor"}')

    failure = refusal(folder)
    assert failure.code == "model_corrupt"
    assert "processor_config.json" in failure.message


def test_a_configuration_of_another_shape_is_damaged(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(thinker_config=[]))

    assert refusal(folder).code == "model_corrupt"


def test_another_model_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "config.json").write_text('{"model_type": "whisper"}')

    failure = refusal(folder)
    assert failure.code == "unsupported_model"
    assert "not a Qwen3-ASR" in failure.message


def test_the_forced_aligner_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_json(
        folder / "config.json",
        lambda config: config["thinker_config"].update(model_type="qwen3_forced_aligner"),
    )

    failure = refusal(folder)
    assert failure.code == "unsupported_model"
    assert "aligner" in failure.message


def test_the_forced_aligner_is_refused_in_the_layout_of_transformers_5(tmp_path: Path) -> None:
    failure = refusal(in_hf_layout(tmp_path, architecture="Qwen3ASRForTokenClassification"))

    assert failure.code == "unsupported_model"
    assert "aligner" in failure.message


def test_where_the_aligner_is_wanted_nothing_else_is_taken(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="Set FORCED_ALIGNER_ID to Qwen/") as caught:
        read_checkpoint(copied(tmp_path), ALIGNER)

    assert caught.value.code == "unsupported_model"


def test_an_incomplete_aligner_is_told_apart_from_another_model(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("model.safetensors",))
    edit_json(
        folder / "config.json", lambda config: config["thinker_config"].update(classify_num=9)
    )

    with pytest.raises(EngineFailure, match="folder of FORCED_ALIGNER_ID holds no model") as caught:
        read_checkpoint(folder, ALIGNER)

    assert caught.value.code == "model_not_found"
    assert not is_complete(folder, ALIGNER)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("model.safetensors",))
    (folder / "pytorch_model.bin").touch()

    failure = refusal(folder)
    assert failure.code == "unsupported_model"
    assert "safetensors" in failure.message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    failure = refusal(copied(tmp_path, without=(name,)))

    assert failure.code == "model_not_found"
    assert name in failure.message


def test_vocabulary_and_merges_do_where_there_is_no_tokenizer_json(tmp_path: Path) -> None:
    assert read_checkpoint(copied(tmp_path, without=("tokenizer.json",))).folder == tmp_path


def test_no_tokenizer_at_all_is_refused(tmp_path: Path) -> None:
    failure = refusal(copied(tmp_path, without=("tokenizer.json", "vocab.json")))

    assert failure.code == "model_not_found"
    assert "vocab.json" in failure.message


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_damaged_configuration_is_told_apart_from_a_missing_one(
    tmp_path: Path, content: str
) -> None:
    folder = copied(tmp_path)
    (folder / "config.json").write_text(content)

    assert refusal(folder).code == "model_corrupt"


def test_end_tokens_come_from_the_generation_configuration(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')

    assert read_checkpoint(folder).end_token_ids == (7,)


def test_end_tokens_come_from_the_model_where_generation_names_none(tmp_path: Path) -> None:
    folder = copied(tmp_path, without=("generation_config.json",))
    edit_json(folder / "config.json", lambda config: config.update(eos_token_id=[5, 6]))

    assert read_checkpoint(folder).end_token_ids == (5, 6)


def test_a_checkpoint_is_complete_with_all_its_files_and_not_without(tmp_path: Path) -> None:
    assert is_complete(EMBEDDED)
    assert not is_complete(copied(tmp_path, without=("merges.txt", "tokenizer.json")))
