import json
from copy import deepcopy
from typing import Any

import pytest

from tests.worker.engine.checkpoint_folders import EMBEDDED
from worker.model.config import (
    AudioEncoderConfig,
    ModelConfig,
    TextDecoderConfig,
    UnsupportedConfig,
    is_hf_layout,
    read_model_config,
)

Config = dict[str, Any]

PUBLISHED: Config = json.loads((EMBEDDED / "config.json").read_text())

# As transformers 5.23's save_pretrained writes it (order and unused entries aside).
HF: Config = {
    "architectures": ["Qwen3ASRForConditionalGeneration"],
    "audio_config": {
        "activation_function": "gelu",
        "d_model": 1024,
        "downsample_hidden_size": 480,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "encoder_layers": 24,
        "max_position_embeddings": 13,
        "model_type": "qwen3_asr_encoder",
        "n_window": 50,
        "n_window_infer": 800,
        "num_mel_bins": 128,
        "output_dim": 2048,
    },
    "audio_token_id": 151676,
    "eos_token_id": [151643, 151645],
    "model_type": "qwen3_asr",
    "text_config": {
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "max_position_embeddings": 65536,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "tie_word_embeddings": True,
}


def changed(config: Config, path: str, value: Any) -> Config:
    copy = deepcopy(config)
    *sections, name = path.split(".")
    target = copy
    for section in sections:
        target = target[section]
    target[name] = value
    return copy


def without(config: Config, path: str) -> Config:
    copy = deepcopy(config)
    *sections, name = path.split(".")
    target = copy
    for section in sections:
        target = target[section]
    del target[name]
    return copy


def test_the_published_layout_is_read() -> None:
    assert not is_hf_layout(PUBLISHED)
    assert read_model_config(PUBLISHED) == ModelConfig(
        AudioEncoderConfig(
            mel_bins=128,
            width=144,
            layers=4,
            heads=4,
            ffn_width=576,
            conv_channels=32,
            output_width=144,
            block_frames=100,
            window_frames=800,
        ),
        TextDecoderConfig(
            width=144,
            layers=4,
            heads=4,
            kv_heads=2,
            head_width=32,
            ffn_width=432,
            vocabulary=496,
            is_tied=True,
            norm_epsilon=1e-6,
            rope_theta=1e6,
            max_positions=65_536,
        ),
    )


def test_the_layout_of_transformers_5_is_read() -> None:
    assert is_hf_layout(HF)
    assert read_model_config(HF) == ModelConfig(
        AudioEncoderConfig(
            mel_bins=128,
            width=1024,
            layers=24,
            heads=16,
            ffn_width=4096,
            conv_channels=480,
            output_width=2048,
        ),
        TextDecoderConfig(
            width=2048,
            layers=28,
            heads=16,
            kv_heads=8,
            head_width=128,
            ffn_width=6144,
            vocabulary=151_936,
            is_tied=True,
        ),
    )


def test_each_layout_ties_the_embedding_where_its_package_looks() -> None:
    untied_text = changed(PUBLISHED, "thinker_config.text_config.tie_word_embeddings", False)

    assert not read_model_config(untied_text).text.is_tied
    assert not read_model_config(changed(HF, "tie_word_embeddings", False)).text.is_tied
    assert read_model_config(without(HF, "tie_word_embeddings")).text.is_tied
    assert not read_model_config(
        without(PUBLISHED, "thinker_config.text_config.tie_word_embeddings")
    ).text.is_tied


def test_rope_theta_is_found_in_either_place() -> None:
    in_one = changed(HF, "text_config.rope_parameters.rope_theta", 5e5)
    apart = changed(PUBLISHED, "thinker_config.text_config.rope_theta", 5e5)

    assert read_model_config(in_one).text.rope_theta == 5e5
    assert read_model_config(apart).text.rope_theta == 5e5


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("audio_config.activation_function", "relu", "audio_config.activation_function is relu"),
        ("audio_config.n_window", 100, "must be 50"),
        ("audio_config.n_window_infer", 850, "a multiple of 2 * n_window"),
        ("audio_config.d_model", 1023, "a multiple of encoder_attention_heads, 16"),
        ("audio_config.encoder_layers", 0, "a whole number above 0"),
        ("audio_config.encoder_layers", True, "a whole number above 0"),
        ("audio_config.output_dim", 1024, "audio tokens have 1024 values"),
        ("text_config.hidden_act", "gelu", "text_config.hidden_act is gelu, but must be silu"),
        ("text_config.attention_bias", True, "attention_bias is True, but must be false"),
        ("text_config.use_sliding_window", True, "use_sliding_window"),
        ("text_config.num_key_value_heads", 3, "a multiple of num_key_value_heads, 3"),
        ("text_config.head_dim", 65, "text_config.head_dim is 65, but must be an even number"),
        ("text_config.rope_parameters.rope_type", "yarn", "rope_type is yarn"),
        ("text_config.rope_parameters.partial_rotary_factor", 0.5, "partial_rotary_factor"),
        ("text_config.rms_norm_eps", float("nan"), "a number above 0"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings is yes, but must be true or false"),
        ("audio_config", [], "audio_config is [], but must be an object"),
    ],
)
def test_a_shape_that_cannot_be_run_is_refused(path: str, value: Any, told: str) -> None:
    with pytest.raises(UnsupportedConfig) as caught:
        read_model_config(changed(HF, path, value))

    assert told in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["audio_config.d_model", "text_config.head_dim", "text_config", "audio_config.n_window_infer"],
)
def test_a_missing_entry_is_named(path: str) -> None:
    with pytest.raises(UnsupportedConfig) as caught:
        read_model_config(without(HF, path))

    assert str(caught.value) == f"config.json names no {path}"


def test_the_published_layout_refuses_other_rotary_embeddings() -> None:
    scaled = changed(PUBLISHED, "thinker_config.text_config.rope_scaling.rope_type", "dynamic")

    with pytest.raises(UnsupportedConfig, match=r"thinker_config\.text_config\.rope_scaling"):
        read_model_config(scaled)
