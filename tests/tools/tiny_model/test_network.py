from pathlib import Path

import numpy as np
import pytest
import torch

from tools.tiny_model.network import audio_tokens, encode, log_mel, read
from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor


@pytest.fixture(scope="module")
def thinker(small_checkpoint: Path) -> torch.nn.Module:
    model = Qwen3ASRForConditionalGeneration.from_pretrained(small_checkpoint)
    # Biases are zero in a fresh model; trained ones make padding visible.
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    return model.thinker.eval()


def test_log_mel_is_the_reference_feature_extractor(small_checkpoint: Path) -> None:
    rng = np.random.default_rng(1)
    clip = rng.standard_normal(3 * 16_000).astype(np.float32) * 0.1
    extractor = Qwen3ASRProcessor.from_pretrained(small_checkpoint).feature_extractor

    features, frames = log_mel([clip], seconds=3)

    reference = extractor([clip], sampling_rate=16_000, padding=True, return_tensors="pt")
    torch.testing.assert_close(features, reference["input_features"], atol=1e-5, rtol=0)
    assert frames.tolist() == [300]


@pytest.mark.parametrize("frames", [1, 8, 9, 50, 99, 100, 101, 399, 800, 1234])
def test_token_count_is_the_reference_formula(frames: int) -> None:
    from qwen_asr.core.transformers_backend import modeling_qwen3_asr

    reference = modeling_qwen3_asr._get_feat_extract_output_lengths(torch.tensor(frames))
    assert audio_tokens(torch.tensor(frames)) == reference


@pytest.mark.parametrize("frames", [100, 150, 437, 800])
def test_encoder_equals_the_reference_within_one_window(
    thinker: torch.nn.Module, frames: int
) -> None:
    features = torch.randn(1, 128, 800, generator=torch.Generator().manual_seed(frames))

    with torch.inference_mode():
        audio, tokens = encode(thinker.audio_tower, features, torch.tensor([frames]))
        reference = thinker.audio_tower(
            features[0, :, :frames], feature_lens=torch.tensor([frames])
        ).last_hidden_state

    torch.testing.assert_close(audio[0, : int(tokens)], reference, atol=1e-4, rtol=0)


def test_what_is_said_later_than_eight_seconds_does_not_change_the_first_window(
    thinker: torch.nn.Module,
) -> None:
    features = torch.randn(1, 128, 1600, generator=torch.Generator().manual_seed(1))
    changed = features.clone()
    changed[:, :, 800:] += 1

    with torch.inference_mode():
        audio, _ = encode(thinker.audio_tower, features, torch.tensor([1600]))
        other, _ = encode(thinker.audio_tower, changed, torch.tensor([1600]))

    torch.testing.assert_close(audio[:, :104], other[:, :104])
    assert not torch.allclose(audio[:, 104:], other[:, 104:])


def test_a_clip_is_encoded_alike_alone_and_beside_a_longer_one(thinker: torch.nn.Module) -> None:
    features = torch.randn(2, 128, 1000, generator=torch.Generator().manual_seed(2))

    with torch.inference_mode():
        both, tokens = encode(thinker.audio_tower, features, torch.tensor([130, 1000]))
        alone, _ = encode(thinker.audio_tower, features[:1, :, :200], torch.tensor([130]))

    count = int(tokens[0])
    torch.testing.assert_close(both[0, :count], alone[0, :count], atol=1e-5, rtol=0)


def test_decoder_states_are_those_of_the_reference_on_one_sequence(
    thinker: torch.nn.Module,
) -> None:
    audio = torch.randn(2, 13, 32, generator=torch.Generator().manual_seed(4))
    before, after = [[1, 2], [3]], [[4, 5, 6], [7]]

    with torch.inference_mode():
        states = read(thinker, audio, torch.tensor([13, 5]), before, after)
        embed = thinker.model.embed_tokens
        row = torch.cat([embed(torch.tensor([3])), audio[1, :5], embed(torch.tensor([7]))])
        reference = thinker.model(inputs_embeds=row[None]).last_hidden_state

    torch.testing.assert_close(states[1, :7], reference[0], atol=1e-5, rtol=0)
