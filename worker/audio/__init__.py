"""Sound on its way to the model: decoding of any file, cutting into chunks. Imports no torch."""

from typing import Final

SAMPLE_RATE: Final = 16_000
"""Samples per second everywhere behind the decoder; what Qwen3-ASR was trained on."""
