"""Our encoder against the official package's, one window at a time, on the same weights."""

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from tests.worker.model.tiny_models import SHAPES, TinyModel, embedded_model, tiny_model
from worker.engine.checkpoints import read_checkpoint
from worker.engine.encoder import encode_windows
from worker.engine.weights import load_parameters
from worker.model import audio_encoder
from worker.model.audio_encoder import AudioEncoder, similar_lengths

SPEECH = Path(__file__).parents[3] / "examples" / "speech"
LENGTHS = [1, 8, 9, 50, 99, 100, 101, 250, 799, 800]

MODELS = ["embedded", *SHAPES]


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other


def model_named(name: str) -> TinyModel:
    return embedded_model() if name == "embedded" else tiny_model(name)


def encoder_of(name: str) -> AudioEncoder:
    ours = model_named(name).ours
    return AudioEncoder(ours.encoder, ours.config.audio)


def noise(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(128, frames, generator=generator)


def as_the_package(name: str, window: Tensor) -> Tensor:
    """The package's own forward. A block below 1 s it leaves unpadded; there the reference is
    encode_windows, which tests/worker/engine/test_encoder.py holds to the block that is padded."""
    tower: Any = model_named(name).official.thinker.audio_tower
    frames = window.shape[1]
    if frames < 100:
        (encoded,) = encode_windows(tower, [window])
    else:
        encoded = tower(window, feature_lens=torch.tensor([frames])).last_hidden_state
    return encoded


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Values reach 10, so this is 1e-5 in all; 6e-6 was seen."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("name", MODELS)
def test_a_window_is_encoded_as_by_the_package(name: str, frames: int) -> None:
    (ours,) = encoder_of(name).encode([noise(frames)])

    assert_same(ours, as_the_package(name, noise(frames)))


def test_a_clip_longer_than_a_window_is_its_windows_in_a_row() -> None:
    clip = noise(801)

    ours = encoder_of("embedded").encode(clip.split(800, dim=1))

    assert [len(tokens) for tokens in ours] == [104, 1]
    (reference,) = encode_windows(embedded_model().official.thinker.audio_tower, [clip])
    assert_same(torch.cat(ours), reference)


@pytest.mark.parametrize("name", ["digits_long.flac", "digits_american.flac", "silence.flac"])
def test_speech_is_encoded_as_by_the_package(name: str) -> None:
    windows = log_mel_of(name).split(800, dim=1)

    ours = encoder_of("embedded").encode(windows)

    for tokens, window in zip(ours, windows, strict=True):
        assert_same(tokens, as_the_package("embedded", window))


def log_mel_of(name: str) -> Tensor:
    folder = embedded_model().folder  # first: it imports transformers as the engine does
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    samples, _rate = soundfile.read(SPEECH / name, dtype="float32")
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    features = extractor(samples, sampling_rate=16_000, truncation=False, return_tensors="pt")
    found: Tensor = features["input_features"][0]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_window_in_a_batch_of_others_is_encoded_as_if_alone(name: str) -> None:
    encoder = encoder_of(name)
    windows = [noise(frames, seed) for seed, frames in enumerate([*LENGTHS, 800, 333, 1, 700])]

    together = encoder.encode(windows)

    for tokens, window in zip(together, windows, strict=True):
        (alone,) = encoder.encode([window])
        assert_same(tokens, alone)


def test_a_window_is_the_same_to_the_last_bit_whatever_its_equally_long_neighbours_say() -> None:
    encoder = encoder_of("embedded")
    windows = [noise(800, 1), noise(790, 2), noise(700, 3), noise(90, 4)]
    before = encoder.encode(windows)

    windows[1] = 100 * noise(790, 5)
    after = encoder.encode(windows)

    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_what_is_not_finite_in_a_window_stays_in_it() -> None:
    encoder = encoder_of("embedded")
    windows = [noise(800, 1), torch.full((128, 795), torch.nan), noise(100, 2)]

    encoded = encoder.encode(windows)

    assert [tokens.isfinite().all().item() for tokens in encoded] == [True, False, True]


def test_packing_pads_to_the_whole_blocks_of_the_longest_window() -> None:
    mel, counts = encoder_of("embedded").pack([noise(101), noise(230), noise(1)])

    assert mel.shape == (3, 128, 300)
    assert counts.tolist() == [14, 30, 1]
    assert counts.dtype == torch.int32
    assert torch.equal(mel[0, :, :101], noise(101))
    assert not mel[0, :, 101:].any()


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_batch_of_fixed_shape_gives_what_encode_gives(name: str) -> None:
    encoder = encoder_of(name)
    windows = [noise(frames, seed) for seed, frames in enumerate([1, 99, 101, 640])]
    mel, counts = encoder.pack(windows)
    mel = torch.nn.functional.pad(mel, (0, 800 - mel.shape[2], 0, 0, 0, 3))
    counts = torch.nn.functional.pad(counts, (0, 3))

    encoded = encoder.forward(mel, counts)

    assert encoded.shape == (7, 104, model_named(name).ours.config.audio.output_width)
    assert encoded.isfinite().all()
    for tokens, alone in zip(encoded, encoder.encode(windows), strict=False):
        assert_same(tokens[: len(alone)], alone)


def test_blocks_convolved_in_parts_are_those_convolved_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows = [noise(800, seed) for seed in range(3)]
    at_once = encoder_of("embedded").encode(windows)

    monkeypatch.setattr(audio_encoder, "_CPU_CONVOLVED_BYTES", 2_000_000)
    in_parts = encoder_of("embedded").encode(windows)

    for ours, theirs in zip(in_parts, at_once, strict=True):
        assert_same(ours, theirs)


def test_a_window_shares_a_pass_only_with_those_to_whose_length_little_padding_is_missing() -> None:
    assert similar_lengths([104, 14, 88, 1, 104, 30]) == [[0, 4, 2], [5, 1], [3]]


def test_half_precision_is_held_within_its_range() -> None:
    checkpoint = read_checkpoint(embedded_model().folder)
    model = load_parameters(
        checkpoint,
        embedded_model().ours.config,
        device=torch.device("cpu"),
        dtype=torch.float16,
        report=lambda _progress: None,
    )
    for layer in model.encoder.layers:
        layer.ffn_out.bias[0] = 40_000.0  # the second layer's sum is beyond 65,504

    (encoded,) = AudioEncoder(model.encoder, model.config.audio).encode([noise(800)])

    assert encoded.dtype == torch.float16
    assert encoded.isfinite().all()


def test_no_windows_give_no_tokens() -> None:
    assert encoder_of("embedded").encode([]) == []
