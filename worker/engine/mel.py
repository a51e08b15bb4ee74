"""Log-mel features as the checkpoints' feature extractor makes them, on any device.

Equal to transformers' WhisperFeatureExtractor without padding, to 1e-4.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worker.engine.interface import SAMPLE_RATE, EngineFailure
from worker.engine.limits import LEAST_SAMPLES

logger = logging.getLogger(__name__)

HOP_SAMPLES = 160
"""A mel frame is 10 ms: positions and windows of the audio encoder are counted in them."""

_HIGHEST_HZ = 8000.0
_LEAST_POWER = 1e-10
DYNAMIC_RANGE = 8.0
"""The floor of all levels, in powers of ten below the loudest."""

_EXTRACTORS = ("WhisperFeatureExtractor", "Qwen3ASRFeatureExtractor")


def frame_count(samples: int) -> int:
    """Mel frames of so many samples."""
    return samples // HOP_SAMPLES


class LogMel:
    """Features of one chunk at a time, for its loudest bin sets the floor of all of them."""

    def __init__(self, preprocessor: Mapping[str, Any], device: torch.device) -> None:
        """Takes a checkpoint's settings. Raises EngineFailure: unsupported_model."""
        _require_known(preprocessor)
        self.mel_bins = _count(preprocessor, "feature_size")
        self._fft_samples = _count(preprocessor, "n_fft")
        self._device = device
        self._window = torch.hann_window(self._fft_samples, device=device)
        filters = mel_filters(self.mel_bins, self._fft_samples)
        self._filters = filters.to(device, torch.float32).T.contiguous()  # (bins, mel_bins)

    def __repr__(self) -> str:
        return f"<LogMel {self.mel_bins} bins on {self._device}>"

    def __call__(self, samples: Tensor) -> Tensor:
        """(samples,) float32, 16 kHz, on the device -> (mel_bins, frame_count(samples)) float32."""
        levels = self.levels(samples)
        levels = torch.maximum(levels, levels.max() - DYNAMIC_RANGE)
        return features_of(levels)

    def levels(self, samples: Tensor, first: int = 0) -> Tensor:
        """Powers of ten before the floor is applied: (frames from `first` on, mel_bins)."""
        _require_samples(samples)
        # Left of a later frame lie samples; left of the first ones and right of the last, mirrors.
        begin = max(0, first * HOP_SAMPLES - self.reach)
        mirrored = max(0, self.reach - first * HOP_SAMPLES)
        padded = torch.nn.functional.pad(
            samples[None, begin:], (mirrored, self.reach), mode="reflect"
        )[0]
        # One frame more would fit behind these; the reference leaves it out.
        frames = padded.unfold(0, self._fft_samples, HOP_SAMPLES)
        frames = frames[: frame_count(len(samples)) - first]
        spectrum = torch.fft.rfft(frames * self._window)  # (frames, bins)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self._filters).clamp_(min=_LEAST_POWER).log10_()

    @property
    def reach(self) -> int:
        """Samples on either side of a frame's place that it is made of."""
        return self._fft_samples // 2


def features_of(levels: Tensor) -> Tensor:
    """Levels no lower than the floor (frames, mel_bins), used up -> features (mel_bins, frames)."""
    return levels.add_(4).div_(4).T


def mel_filters(mel_bins: int, fft_samples: int) -> Tensor:
    """Triangles of equal area on Slaney's mel scale: (mel_bins, fft_samples // 2 + 1) float64."""
    top = _mels_of(_HIGHEST_HZ)
    edges = _hertz_of(torch.linspace(0, top, mel_bins + 2, dtype=torch.float64))
    bins = torch.linspace(0, SAMPLE_RATE / 2, fft_samples // 2 + 1, dtype=torch.float64)
    low, centre, high = (edges[start : start + mel_bins, None] for start in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)


# Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, 27 steps to a factor of 6.4 above.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MELS = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = math.log(6.4) / 27


def _mels_of(hertz: float) -> float:
    """For frequencies above the break."""
    return _BREAK_MELS + math.log(hertz / _BREAK_HZ) / _LOG_STEP


def _hertz_of(mels: Tensor) -> Tensor:
    above = _BREAK_HZ * torch.exp(_LOG_STEP * (mels - _BREAK_MELS))
    return torch.where(mels < _BREAK_MELS, mels * _LINEAR_HZ, above)


def _require_samples(samples: Tensor) -> None:
    if samples.dim() != 1 or samples.dtype != torch.float32:
        raise ValueError(
            f"samples are one row of float32, not {tuple(samples.shape)} of {samples.dtype}"
        )
    if len(samples) < LEAST_SAMPLES:
        raise ValueError(f"pad a chunk of {len(samples)} samples to {LEAST_SAMPLES}")


def _require_known(preprocessor: Mapping[str, Any]) -> None:
    for name, known in (
        ("feature_extractor_type", _EXTRACTORS),
        ("sampling_rate", (SAMPLE_RATE,)),
        ("hop_length", (HOP_SAMPLES,)),
        ("dither", (0,)),
        ("do_normalize", (False,)),
    ):
        if preprocessor.get(name, known[0]) not in known:
            raise _unsupported(name, preprocessor[name])


_USUAL_COUNTS = {"feature_size": 128, "n_fft": 400}


def _count(preprocessor: Mapping[str, Any], name: str) -> int:
    value = preprocessor.get(name, _USUAL_COUNTS[name])
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= LEAST_SAMPLES:
        raise _unsupported(name, value)
    return value


def _unsupported(name: str, value: object) -> EngineFailure:
    logger.error("features cannot be made so, %s=%.40r", name, value)
    return EngineFailure(
        "unsupported_model",
        f"The feature extractor's setting {name} is not one that the native engine follows. Set"
        " MODEL_ID to Qwen/Qwen3-ASR-1.7B or Qwen/Qwen3-ASR-0.6B, or try ENGINE=official.",
    )
