import pytest

from worker.engine.cost_priors import (
    A_CPU_CORE,
    A_GPU,
    decoder_weights,
    prior_costs,
    window_operations,
)
from worker.model.config import AudioEncoderConfig, ModelConfig, TextDecoderConfig

SMALL = ModelConfig(
    AudioEncoderConfig(128, 896, 18, 14, 3584, 480, 1024),
    TextDecoderConfig(1024, 28, 16, 8, 128, 3072, 151_936, is_tied=True),
)
LARGE = ModelConfig(
    AudioEncoderConfig(128, 1024, 24, 16, 4096, 480, 2048),
    TextDecoderConfig(2048, 28, 16, 8, 128, 6144, 151_936, is_tied=True),
)


@pytest.mark.parametrize(("config", "operations"), [(SMALL, 9.0e9), (LARGE, 12.5e9)])
def test_a_second_of_audio_takes_the_operations_counted_for_the_published_encoders(
    config: ModelConfig, operations: float
) -> None:
    assert window_operations(config.audio) / 8 == pytest.approx(operations, rel=0.05)


@pytest.mark.parametrize(("config", "weights"), [(SMALL, 440.4e6), (LARGE, 1409.3e6)])
def test_the_published_decoders_have_as_many_weights(config: ModelConfig, weights: float) -> None:
    assert decoder_weights(config.text) == pytest.approx(weights, rel=0.001)


def test_on_a_processor_the_first_batch_of_a_large_model_is_small() -> None:
    costs = prior_costs(LARGE, parameter_bytes=8_000_000_000, speed=A_CPU_CORE)

    assert costs.windows_within(0.25) == 1
    assert costs.tokens_within(0.25) == 64


def test_on_a_card_a_whole_file_is_encoded_and_prefilled_at_once() -> None:
    costs = prior_costs(SMALL, parameter_bytes=1_600_000_000, speed=A_GPU)

    assert costs.windows_within(0.25) > 30
    assert costs.tokens_within(0.25) > 4096
