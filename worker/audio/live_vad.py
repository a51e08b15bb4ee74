"""Voice activity of many live streams at once: one call of the network for all that have a step.

The network is Silero's in the form for one step a call, with a state for each stream. Figures:
docs/benchmarks.md, "Voice activity".
"""

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
# Of digital silence: below the quietest step of 16-bit audio, -90 dBFS.
_QUIETEST: Final = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSteps:
    """What was heard in successive steps of STEP_SAMPLES; arrays of one length."""

    probabilities: Samples
    """That somebody speaks."""
    levels: Samples
    """Mean power in dBFS; digital silence is -100."""

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
        that became complete, in the order given. A stream's answers do not depend on how its
        samples were delivered, nor on the other streams."""
        steps = [_complete_steps(stream, samples) for stream, samples in heard]
        probabilities = [np.empty(len(each), np.float32) for each in steps]
        # Each stream's steps follow each other, so round by round those that have one more.
        for step in range(max(map(len, steps), default=0)):
            due = [index for index, each in enumerate(steps) if step < len(each)]
            for first in range(0, len(due), MAX_BATCH):
                batch = due[first : first + MAX_BATCH]
                streams = [heard[index][0] for index in batch]
                found = self._infer(streams, np.stack([steps[index][step] for index in batch]))
                for index, probability in zip(batch, found, strict=True):
                    probabilities[index][step] = probability
        return [
            JudgedSteps(each, _levels(own_steps))
            for each, own_steps in zip(probabilities, steps, strict=True)
        ]

    def __repr__(self) -> str:
        return "<LiveVad>"

    def _infer(self, streams: list[LiveVoiceActivity], steps: Samples) -> Samples:
        """One step, with its context, of each stream: (streams, 576) -> (streams,)."""
        states = np.stack([stream.state for stream in streams], axis=1)
        probabilities, states = self._session.run(
            None, {"input": steps, "state": states, "sr": self._rate}
        )
        for index, stream in enumerate(streams):
            stream.state = states[:, index].copy()
        found: Samples = probabilities[:, 0]
        return found


def _complete_steps(stream: LiveVoiceActivity, samples: Samples) -> Samples:
    """(steps, 576), and the rest kept for the next call."""
    heard = np.concatenate([stream.heard, samples])
    count = (len(heard) - CONTEXT_SAMPLES) // STEP_SAMPLES
    stream.heard = heard[count * STEP_SAMPLES :].copy()
    if not count:
        return np.empty((0, CONTEXT_SAMPLES + STEP_SAMPLES), np.float32)
    return np.lib.stride_tricks.sliding_window_view(
        heard[: CONTEXT_SAMPLES + count * STEP_SAMPLES], CONTEXT_SAMPLES + STEP_SAMPLES
    )[::STEP_SAMPLES]


def _levels(steps: Samples) -> Samples:
    power = np.mean(steps[:, CONTEXT_SAMPLES:] ** 2, axis=1)
    levels: Samples = 10 * np.log10(power + np.float32(_QUIETEST))
    return levels
