"""The reference is transformers' WhisperFeatureExtractor, by numpy (float64) and by torch."""

import importlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests import speech
from tests.worker.engine.checkpoint_folders import EMBEDDED
from worker.engine.imports import import_modeling
from worker.engine.interface import EngineFailure
from worker.engine.limits import LEAST_SAMPLES
from worker.engine.mel import LogMel, frame_count, mel_filters

Samples = npt.NDArray[np.float32]

PREPROCESSOR: dict[str, Any] = json.loads((EMBEDDED / "preprocessor_config.json").read_text())
CPU = torch.device("cpu")


def ours(samples: Samples) -> Samples:
    features: Samples = LogMel(PREPROCESSOR, CPU)(torch.from_numpy(samples)).numpy()
    return features


def transformers(module: str) -> Any:
    """A module of transformers, imported behind the official package's for the tests that follow:
    transformers asks but once which other packages there are."""
    import_modeling()
    return importlib.import_module(f"transformers.{module}")


def references(samples: Samples) -> list[Samples]:
    module = transformers("models.whisper.feature_extraction_whisper")
    extractor = module.WhisperFeatureExtractor.from_dict(PREPROCESSOR)
    paths = extractor._np_extract_fbank_features, extractor._torch_extract_fbank_features
    return [path(samples[None], "cpu")[0] for path in paths]


def assert_as_the_reference(samples: Samples) -> None:
    features = ours(samples)
    for reference in references(samples):
        assert features.shape == reference.shape
        assert np.abs(features - reference).max() < 1e-4


def noise(samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * np.float32(0.1)


@pytest.mark.parametrize(
    "samples", [8000, 8001, 8159, 8160, 15_999, 16_000, 16_161, 127_999, 128_000, 128_041, 480_000]
)
def test_any_length_is_as_the_reference(samples: int) -> None:
    assert_as_the_reference(noise(samples))


@speech.needs_human_speech
def test_speech_is_as_the_reference() -> None:
    for spoken in speech.digit_strings("theo", count=5, seed=11):
        assert_as_the_reference(spoken.samples.astype(np.float32))


@speech.needs_human_speech
def test_speech_through_a_telephone_is_as_the_reference() -> None:
    (spoken,) = speech.digit_strings("george", count=1, seed=12)

    assert_as_the_reference(speech.at_level(speech.mulaw_8k(spoken.samples), -45))


def test_other_sounds_are_as_the_reference() -> None:
    for sound in speech.non_speech_clips()[::7]:
        if len(sound.samples) >= LEAST_SAMPLES:
            assert_as_the_reference(np.asarray(sound.samples, dtype=np.float32))


def test_a_loud_click_in_silence_sets_the_floor_of_all_frames() -> None:
    samples = np.zeros(32_000, dtype=np.float32)
    samples[20_000] = 1.0

    assert_as_the_reference(samples)
    features = ours(samples)
    assert features[:, 0].max() == features.min() == pytest.approx(features.max() - 2, abs=1e-6)


def test_silence_is_flat() -> None:
    features = ours(np.zeros(16_000, dtype=np.float32))

    assert features.shape == (128, 100)
    assert set(features.ravel().tolist()) == {-1.5}


def test_frames_are_counted_before_they_are_made() -> None:
    log_mel = LogMel(PREPROCESSOR, CPU)

    for samples in (8000, 8159, 8160, 16_001, 128_040):
        assert log_mel(torch.zeros(samples)).shape == (log_mel.mel_bins, frame_count(samples))


def test_the_filters_are_those_of_the_reference() -> None:
    mel_filter_bank = transformers("audio_utils").mel_filter_bank

    for bins in (80, 128):
        reference = mel_filter_bank(201, bins, 0.0, 8000.0, 16_000, "slaney", "slaney")
        assert np.abs(mel_filters(bins, 400).numpy() - reference.T).max() < 1e-12


def test_settings_are_read() -> None:
    other = PREPROCESSOR | {"feature_size": 80}

    assert LogMel(other, CPU)(torch.zeros(8000)).shape == (80, 50)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_extractor_type", "SeamlessM4TFeatureExtractor"),
        ("sampling_rate", 24_000),
        ("hop_length", 320),
        ("dither", 0.1),
        ("do_normalize", True),
        ("feature_size", 0),
        ("feature_size", "128"),
        ("n_fft", True),
        ("n_fft", 100_000),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(name: str, value: object) -> None:
    with pytest.raises(EngineFailure) as caught:
        LogMel(PREPROCESSOR | {name: value}, CPU)

    assert caught.value.code == "unsupported_model"
    assert name in caught.value.message


@pytest.mark.parametrize(
    "samples",
    [torch.zeros(LEAST_SAMPLES - 1), torch.zeros(1, 16_000), torch.zeros(16_000).double()],
)
def test_other_than_enough_samples_in_a_row_are_refused(samples: torch.Tensor) -> None:
    log_mel = LogMel(PREPROCESSOR, CPU)

    with pytest.raises(ValueError, match="samples"):
        log_mel(samples)
