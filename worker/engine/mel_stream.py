"""Log-mel of a recording that grows: each frame is computed once its samples are there.

The loudest bin so far sets the floor of all frames, so levels are kept as they are and the floor is
applied when features are asked for. On the host: which windows change has to be known there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worker.engine.limits import LEAST_SAMPLES
from worker.engine.mel import DYNAMIC_RANGE, HOP_SAMPLES, LogMel, features_of, frame_count


class MelStream:
    """Equal to LogMel of all samples so far, to the rounding of float32."""

    def __init__(self, log_mel: LogMel, window_frames: int) -> None:
        self._log_mel = log_mel
        self._window_frames = window_frames
        self._levels: list[Tensor] = []
        """(frames, mel_bins) of each window, frames that are not final included."""
        self._least: list[float] = []
        """Lowest level of each window."""
        self._loudest = -float("inf")
        """Highest level of final frames."""
        self._final_frames = 0
        self.samples = 0
        """Given so far."""
        self.floor = -float("inf")
        """No feature is made of a lower level."""

    def __repr__(self) -> str:
        return f"<MelStream {self.samples} samples, {self.windows} windows>"

    @property
    def windows(self) -> int:
        """Windows begun so far."""
        return len(self._levels)

    def extend(self, samples: Tensor) -> None:
        """All samples so far (samples,) float32 on the host; those given before come first."""
        if len(samples) < self.samples:
            raise ValueError(f"{len(samples)} samples after {self.samples}")
        if self.windows and len(samples) == self.samples:
            return
        padded = torch.nn.functional.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))
        if frame_count(len(padded)) == self._final_frames:  # too few more for another
            self.samples = len(samples)
            return
        levels = self._log_mel.levels(padded, self._final_frames)
        final = self._final_count(len(samples))
        settled = levels[: final - self._final_frames]
        if len(settled):
            self._loudest = max(self._loudest, float(settled.max()))
        self.floor = max(self._loudest, float(levels.max())) - DYNAMIC_RANGE
        self._append(levels)
        self._final_frames, self.samples = final, len(samples)

    def is_final(self, window: int) -> bool:
        """Whether its levels stay as they are, whatever follows."""
        return (window + 1) * self._window_frames <= self._final_frames

    def is_alike(self, window: int, floor: float) -> bool:
        """Whether its features are the same under the floor of now as under that one."""
        return floor == self.floor or self._least[window] >= max(floor, self.floor)

    def features(self, window: int) -> Tensor:
        """(mel_bins, at most window_frames)."""
        return features_of(self._levels[window].clamp(min=self.floor))

    def _final_count(self, samples: int) -> int:
        """Frames that lie within the samples; neither mirrored at their end nor padded."""
        within = (samples - self._log_mel.reach) // HOP_SAMPLES + 1
        return max(0, min(within, frame_count(samples)))

    def _append(self, levels: Tensor) -> None:
        """Puts frames behind the final ones, in place of those that were not."""
        kept, begun = divmod(self._final_frames, self._window_frames)
        if begun:
            levels = torch.cat((self._levels[kept][:begun], levels))
        windows = levels.split(self._window_frames)
        self._levels[kept:] = windows
        self._least[kept:] = [float(window.min()) for window in windows]
