"""Voice activity of many live streams at once: one call of the network for all that have a step.

Callers are quiet, and nobody can ask them to come closer: each stream has a gain of its own. The
network is Silero's in the form for one step a call, with a state for each stream. Figures:
docs/benchmarks.md, "Voice activity".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.audio import SAMPLE_RATE
from worker.audio.vad import CONTEXT_SAMPLES, STEP_SAMPLES, silero_session

Samples = NDArray[np.float32]

MAX_BATCH: Final = 64
"""Streams a call: more save nothing."""

_STATE_SHAPE: Final = (2, 128)
# Half the size of the file for both rates, and the same answers.
_MODEL_FILE: Final = "silero_vad_16k_op15.onnx"
# Power of digital silence: below the last bit of 16-bit audio, -90 dBFS.
_QUIETEST: Final = 1e-10

# What the network hears is raised until the loudest of late is at -25 dBFS, by 18 dB at most. Of
# 250 digits said alone at -48 dBFS it then misses 1 and not 6, at -55 dBFS 2 and not 63; of 320
# sounds without words it takes 4 for speech and not 3, all music.
_HEARD_AT: Final = -25.0
_MAX_GAIN: Final = 18.0
_FORGOTTEN_PER_STEP: Final = 0.5 * STEP_SAMPLES / SAMPLE_RATE
"""Of the loudest of late, in dB."""
# A constant offset is no sound, and A-law has one in its silence, as it has no code for zero. This
# share of a step's is believed: the mean settles in a third of a second.
_OFFSET_SHARE: Final = np.float32(0.1)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSteps:
    """What was heard in successive steps of STEP_SAMPLES; arrays of one length."""

    probabilities: Samples
    """That somebody speaks."""
    levels: Samples
    """Mean power in dBFS, as received but for a constant offset; digital silence is -100."""

    def __len__(self) -> int:
        return len(self.probabilities)


class LiveVoiceActivity:
    """One stream's state. Only LiveVad looks inside."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As if nothing had been heard: where the stream's sound does not go on."""
        self.state = np.zeros(_STATE_SHAPE, np.float32)
        self.heard: Samples = np.zeros(CONTEXT_SAMPLES, np.float32)
        """Context, then samples of a step that is not complete."""
        self.offset: float | None = None
        self.loudest = -math.inf

    @property
    def waiting_samples(self) -> int:
        """Heard, but of a step that is not complete."""
        return len(self.heard) - CONTEXT_SAMPLES

    def __repr__(self) -> str:
        return f"<LiveVoiceActivity, {1000 * self.waiting_samples // SAMPLE_RATE} ms waiting>"


class LiveVad:
    """The network, one for all streams of a process; not for two threads at once."""

    def __init__(self) -> None:
        """Takes some 0.1 s and 30 MB. Raises ModuleNotFoundError without the extra 'worker'."""
        self._session: Any = silero_session(_MODEL_FILE)
        self._rate = np.array(SAMPLE_RATE, np.int64)

    def judge(self, heard: Sequence[tuple[LiveVoiceActivity, Samples]]) -> list[JudgedSteps]:
        """Streams, each at most once, with their next samples (16 kHz, any number) -> the steps
        that became complete, in the order given. What is said of a stream does not depend on its
        packets, and but for rounding not on the other streams."""
        steps = [_complete_steps(stream, samples) for stream, samples in heard]
        judged = [JudgedSteps(*np.empty((2, len(each)), np.float32)) for each in steps]
        # Each stream's steps follow each other, so round by round those that have one more.
        for step in range(max(map(len, steps), default=0)):
            due = [index for index, each in enumerate(steps) if step < len(each)]
            for first in range(0, len(due), MAX_BATCH):
                batch = due[first : first + MAX_BATCH]
                streams = [heard[index][0] for index in batch]
                heard_steps, levels = _raised(
                    streams, np.array([steps[index][step] for index in batch])
                )
                probabilities = self._infer(streams, heard_steps)
                for place, index in enumerate(batch):
                    judged[index].probabilities[step] = probabilities[place]
                    judged[index].levels[step] = levels[place]
        return judged

    def __repr__(self) -> str:
        return "<LiveVad>"

    def _infer(self, streams: list[LiveVoiceActivity], steps: Samples) -> Samples:
        """One step, with its context, of each stream: (streams, 576) -> (streams,)."""
        states = np.array([stream.state for stream in streams]).swapaxes(0, 1)
        probabilities, states = self._session.run(
            None,
            {"input": steps, "state": np.ascontiguousarray(states), "sr": self._rate},
        )
        for index, stream in enumerate(streams):
            stream.state = states[:, index].copy()
        found: Samples = probabilities[:, 0]
        return found


def _complete_steps(stream: LiveVoiceActivity, samples: Samples) -> list[Samples]:
    """Each with its context, (576,); the rest is kept for the next call."""
    heard = np.concatenate([stream.heard, samples])
    whole = (len(heard) - CONTEXT_SAMPLES) // STEP_SAMPLES * STEP_SAMPLES
    stream.heard = heard[whole:].copy() if whole else heard
    return [
        heard[start : start + CONTEXT_SAMPLES + STEP_SAMPLES]
        for start in range(0, whole, STEP_SAMPLES)
    ]


def _raised(streams: list[LiveVoiceActivity], steps: Samples) -> tuple[Samples, Samples]:
    """One step of each stream -> without offset, as loud as the network needs it; and levels."""
    means = np.mean(steps[:, CONTEXT_SAMPLES:], axis=1)
    before = np.array([stream.offset for stream in streams], np.float32)  # None becomes NaN
    before = np.where(np.isnan(before), means, before)
    offsets = before + _OFFSET_SHARE * (means - before)
    centred = steps - offsets[:, None]
    levels = 10 * np.log10(np.mean(centred[:, CONTEXT_SAMPLES:] ** 2, axis=1) + _QUIETEST)
    loudest = np.maximum(levels, [stream.loudest - _FORGOTTEN_PER_STEP for stream in streams])
    for stream, offset, loud in zip(streams, offsets, loudest, strict=True):
        stream.offset, stream.loudest = float(offset), float(loud)
    gains = 10 ** (np.clip(_HEARD_AT - loudest, 0, _MAX_GAIN) / 20)
    return centred * gains[:, None].astype(np.float32), levels
