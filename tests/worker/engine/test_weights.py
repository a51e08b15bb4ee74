import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.worker.engine.checkpoint_folders import EMBEDDED, copied, edit_json
from worker.engine.checkpoints import read_checkpoint
from worker.engine.interface import EngineFailure, LoadProgress
from worker.engine.weights import load_parameters, parameter_bytes, random_parameters
from worker.model.audio_encoder import AudioEncoder
from worker.model.config import (
    AudioEncoderConfig,
    ModelConfig,
    TextDecoderConfig,
    read_model_config,
)
from worker.model.operations import TorchOperations, packed_extents
from worker.model.parameters import Affine, ModelParameters
from worker.model.text_decoder import KvCache, PackedTokens, TextDecoder

CPU = torch.device("cpu")
PREFIX = "thinker."


def load(
    folder: Path, progress: list[LoadProgress] | None = None, dtype: torch.dtype = torch.float32
) -> ModelParameters:
    checkpoint = read_checkpoint(folder)
    return load_parameters(
        checkpoint,
        read_model_config(checkpoint.config),
        device=CPU,
        dtype=dtype,
        report=(progress if progress is not None else []).append,
    )


def refusal(folder: Path) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        load(folder)
    assert str(folder) not in caught.value.message
    return caught.value


def stored() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(EMBEDDED / "model.safetensors")
    return tensors


def with_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = stored()
    change(tensors)
    save_file(tensors, copied(folder) / "model.safetensors")
    return folder


def all_tensors(parameters: ModelParameters) -> list[Tensor]:
    """Each tensor once, the embedding's first place in the decoder counting."""
    encoder, decoder = parameters.encoder, parameters.decoder
    whole: list[Tensor | Affine] = [*encoder.convolutions, encoder.conv_out, encoder.final_norm]
    whole += [encoder.projector_in, encoder.projector_out]
    for audio_layer in encoder.layers:
        whole += [audio_layer.attention_norm, audio_layer.qkv, audio_layer.attention_out]
        whole += [audio_layer.ffn_norm, audio_layer.ffn_in, audio_layer.ffn_out]
    whole += [decoder.embedding, decoder.final_norm]
    for layer in decoder.layers:
        whole += [layer.attention_norm, layer.qkv, layer.query_norm, layer.key_norm]
        whole += [layer.attention_out, layer.ffn_norm, layer.gate_up, layer.down]
    if decoder.head is not decoder.embedding:
        whole.append(decoder.head)
    return [tensor for item in whole for tensor in (item if isinstance(item, Affine) else (item,))]


def assert_same(ours: ModelParameters, theirs: ModelParameters) -> None:
    assert ours.config == theirs.config
    for mine, other in zip(all_tensors(ours), all_tensors(theirs), strict=True):
        assert torch.equal(mine, other)


def renamed_to_hf(name: str) -> str:
    """A tensor's name in the checkpoints that transformers 5 writes."""
    name = name.removeprefix(PREFIX)
    name = re.sub(r"^audio_tower\.proj(\d)", r"multi_modal_projector.linear_\1", name)
    name = re.sub(r"^model\.", "language_model.", name)
    return name if name.startswith("lm_head") else f"model.{name}"


def in_hf_layout(folder: Path) -> Path:
    copied(folder)
    tensors = {renamed_to_hf(name): tensor for name, tensor in stored().items()}
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    thinker = config["thinker_config"]
    text = thinker["text_config"] | {"rope_scaling": None, "rope_theta": None}
    text["rope_parameters"] = {"rope_theta": 1_000_000.0, "rope_type": "default"}
    hf = {"model_type": "qwen3_asr", "audio_config": thinker["audio_config"], "text_config": text}
    (folder / "config.json").write_text(json.dumps(hf))
    return folder


def test_query_key_and_value_lie_below_each_other() -> None:
    parameters, tensors = load(EMBEDDED), stored()

    def fused(layer: str, kind: str) -> Tensor:
        parts = [tensors[f"{PREFIX}{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
        return torch.cat(parts).float()

    audio = parameters.encoder.layers[2].qkv
    assert torch.equal(audio.weight, fused("audio_tower.layers.2", "weight"))
    assert torch.equal(audio.bias, fused("audio_tower.layers.2", "bias"))
    assert torch.equal(parameters.decoder.layers[1].qkv, fused("model.layers.1", "weight"))


def test_gate_lies_above_up() -> None:
    tensors = stored()

    fused = load(EMBEDDED).decoder.layers[3].gate_up

    mlp = f"{PREFIX}model.layers.3.mlp"
    expected = torch.cat([tensors[f"{mlp}.{part}_proj.weight"] for part in ("gate", "up")])
    assert torch.equal(fused, expected.float())


def test_every_stored_number_arrives() -> None:
    loaded = load(EMBEDDED, dtype=torch.bfloat16)

    assert sum(map(Tensor.numel, all_tensors(loaded))) == sum(map(Tensor.numel, stored().values()))
    checksum = sum(tensor.double().sum() for tensor in all_tensors(loaded))
    expected = sum(tensor.double().sum() for tensor in stored().values())
    assert abs(float(checksum) - float(expected)) < 1e-6
    assert {tensor.dtype for tensor in all_tensors(loaded)} == {torch.bfloat16}


def test_norms_and_projectors_come_to_their_places() -> None:
    parameters, tensors = load(EMBEDDED), stored()

    encoder, decoder = parameters.encoder, parameters.decoder
    for name, tensor in {
        "audio_tower.conv2d3.bias": encoder.convolutions[2].bias,
        "audio_tower.conv_out.weight": encoder.conv_out,
        "audio_tower.layers.0.self_attn_layer_norm.weight": encoder.layers[0].attention_norm.weight,
        "audio_tower.layers.0.final_layer_norm.bias": encoder.layers[0].ffn_norm.bias,
        "audio_tower.layers.1.fc1.weight": encoder.layers[1].ffn_in.weight,
        "audio_tower.layers.1.fc2.bias": encoder.layers[1].ffn_out.bias,
        "audio_tower.ln_post.weight": encoder.final_norm.weight,
        "audio_tower.proj1.weight": encoder.projector_in.weight,
        "audio_tower.proj2.weight": encoder.projector_out.weight,
        "model.embed_tokens.weight": decoder.embedding,
        "model.layers.0.input_layernorm.weight": decoder.layers[0].attention_norm,
        "model.layers.0.post_attention_layernorm.weight": decoder.layers[0].ffn_norm,
        "model.layers.0.self_attn.q_norm.weight": decoder.layers[0].query_norm,
        "model.layers.0.self_attn.k_norm.weight": decoder.layers[0].key_norm,
        "model.layers.0.self_attn.o_proj.weight": decoder.layers[0].attention_out,
        "model.layers.0.mlp.down_proj.weight": decoder.layers[0].down,
        "model.norm.weight": decoder.final_norm,
    }.items():
        assert torch.equal(tensor, tensors[PREFIX + name].float()), name


def test_the_layout_of_transformers_5_gives_the_same_model(tmp_path: Path) -> None:
    assert_same(load(in_hf_layout(tmp_path)), load(EMBEDDED))


def test_a_tied_head_is_the_embedding_even_where_the_file_holds_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = torch.zeros(496, 144)
    folder = with_weights(
        tmp_path, lambda tensors: tensors.update({"thinker.lm_head.weight": head})
    )

    loaded = load(folder)

    assert loaded.decoder.head is loaded.decoder.embedding
    assert_same(loaded, load(EMBEDDED))
    assert not caplog.records


def untied(folder: Path) -> None:
    edit_json(
        folder / "config.json",
        lambda config: config["thinker_config"]["text_config"].update(tie_word_embeddings=False),
    )


def test_an_untied_head_is_read(tmp_path: Path) -> None:
    head = torch.randn(496, 144)
    folder = with_weights(
        tmp_path, lambda tensors: tensors.update({"thinker.lm_head.weight": head})
    )
    untied(folder)

    assert torch.equal(load(folder).decoder.head, head)


def test_an_untied_head_must_be_there(tmp_path: Path) -> None:
    untied(copied(tmp_path))

    assert refusal(tmp_path).code == "model_corrupt"


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
    tensors = stored()
    halves = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for file, names in halves.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in halves.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    assert_same(load(folder), load(EMBEDDED))


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])

    assert refusal(folder).code == "model_corrupt"


def test_a_tensor_that_is_missing_is_told(tmp_path: Path) -> None:
    name = "thinker.model.layers.2.self_attn.k_proj.weight"

    folder = with_weights(tmp_path, lambda tensors: tensors.pop(name))

    assert refusal(folder).code == "model_corrupt"


def test_a_tensor_of_another_shape_is_told(tmp_path: Path) -> None:
    wrong = {"thinker.audio_tower.conv_out.weight": torch.zeros(144, 1)}

    folder = with_weights(tmp_path, lambda tensors: tensors.update(wrong))

    assert refusal(folder).code == "model_corrupt"


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    quantised = {"thinker.audio_tower.conv_out.weight": torch.zeros(144, 512, dtype=torch.int8)}

    folder = with_weights(tmp_path, lambda tensors: tensors.update(quantised))

    failure = refusal(folder)
    assert failure.code == "unsupported_model"
    assert "quantised" in failure.message


def test_tensors_without_a_place_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strange = {"thinker.b": torch.zeros(1), "thinker.a": torch.zeros(1)}
    folder = with_weights(tmp_path, lambda tensors: tensors.update(strange))

    with caplog.at_level(logging.WARNING):
        load(folder)

    assert [record.message for record in caplog.records] == [
        "the checkpoint holds 2 tensors the model has no place for, first=thinker.a"
    ]


def published(width: int, layers: int, ffn: int, text_width: int) -> ModelConfig:
    """Shapes of the published models; counts of their parameters are known."""
    audio = AudioEncoderConfig(
        mel_bins=128,
        width=width,
        layers=layers,
        heads=width // 64,
        ffn_width=ffn,
        conv_channels=480,
        output_width=text_width,
    )
    text = TextDecoderConfig(
        width=text_width,
        layers=28,
        heads=16,
        kv_heads=8,
        head_width=128,
        ffn_width=3 * text_width,
        vocabulary=151_936,
        is_tied=True,
    )
    return ModelConfig(audio, text)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_told_before_loading_are_those_taken(is_tied: bool, dtype: torch.dtype) -> None:
    config = read_model_config(read_checkpoint(EMBEDDED).config)
    config = replace(config, text=replace(config.text, is_tied=is_tied))

    made = random_parameters(config, device=CPU, dtype=dtype)

    taken = {tensor.data_ptr(): tensor.nbytes for tensor in all_tensors(made)}
    assert parameter_bytes(config, dtype) == sum(taken.values())


def test_the_published_models_take_what_their_files_hold() -> None:
    """Parameters of Qwen3-ASR-0.6B and 1.7B: 4.698 GB is the larger file in bfloat16, in which the
    embedding stands twice."""
    small = published(width=896, layers=18, ffn=3584, text_width=1024)
    large = published(width=1024, layers=24, ffn=4096, text_width=2048)
    embeddings = 2 * 151_936 * 1024, 2 * 151_936 * 2048

    assert (parameter_bytes(small, torch.bfloat16) + embeddings[0]) / 1e9 == pytest.approx(
        1.876, abs=1e-3
    )
    assert (parameter_bytes(large, torch.bfloat16) + embeddings[1]) / 1e9 == pytest.approx(
        4.698, abs=1e-3
    )


def test_random_models_are_the_same_for_the_same_seed_and_in_each_type() -> None:
    config = read_model_config(read_checkpoint(EMBEDDED).config)

    first = random_parameters(config, device=CPU, dtype=torch.float32, seed=3)
    again = random_parameters(config, device=CPU, dtype=torch.bfloat16, seed=3)
    other = random_parameters(config, device=CPU, dtype=torch.float32, seed=4)

    for one, same, different in zip(*map(all_tensors, (first, again, other)), strict=True):
        assert torch.equal(one.bfloat16(), same)
        assert not torch.equal(one, different)


def random_scores(dtype: torch.dtype, seeds: range, layers: int = 28) -> Tensor:
    """Scores of the token after 104 audio tokens of noise: (seeds, vocabulary)."""
    config = read_model_config(read_checkpoint(EMBEDDED).config)
    deep = ModelConfig(replace(config.audio, layers=24), replace(config.text, layers=layers))
    parameters = random_parameters(deep, device=CPU, dtype=dtype)
    mels = [torch.randn(128, 800, generator=torch.Generator().manual_seed(s)) for s in seeds]
    audio = AudioEncoder(parameters.encoder, deep.audio).encode([mel.to(dtype) for mel in mels])
    decoder = TextDecoder(parameters.decoder, deep.text, TorchOperations())
    cache = KvCache(deep.text, sum(map(len, audio)), CPU, dtype)
    rows = torch.arange(cache.rows)
    counts = [len(tokens) for tokens in audio]
    spans = [(104 * index, count) for index, count in enumerate(counts)]
    tokens = PackedTokens(rows % 104, rows, packed_extents(spans, counts, CPU))
    hidden = decoder.forward(torch.cat(audio), tokens, cache)
    return decoder.scores(hidden[103::104]).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_random_models_as_deep_as_the_published_have_finite_scores(dtype: torch.dtype) -> None:
    scores = random_scores(dtype, range(2))

    assert scores.isfinite().all()
    assert 0.1 < scores.std() < 100


def test_scores_of_random_models_hang_on_the_audio() -> None:
    scores = random_scores(torch.float32, range(6))

    spread = scores.std(dim=0).mean() / scores.std()
    assert spread > 0.25
    assert len(set(scores.argmax(dim=1).tolist())) > 2
