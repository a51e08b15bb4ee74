"""Voice activity: 16 kHz samples -> the probability of speech in each step of 32 ms.

Silero's network in the form that takes many steps a call, run by onnxruntime on one thread.
Figures behind the choice: docs/benchmarks.md, "Voice activity".
"""

import importlib.util
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Probabilities = NDArray[np.float32]

STEP_SAMPLES: Final = 512
"""What the network judges at a time."""

CONTEXT_SAMPLES: Final = 64
"""It sees each step behind the end of the one before."""

# Always as many steps a call, wherever the samples came apart: sums of floats depend on the shapes
# of matrices, and cuts must not. 32 steps are 1.02 s; more save little.
STEPS_PER_CALL: Final = 32

_STATE_SHAPE: Final = (1, 1, 128)
_MODEL_FILE: Final = "silero_vad_16k_sequence.onnx"


class SpeechModel:
    """The network, one for all recordings of a process. Thread-safe; loaded by its first use."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._session: Any = None

    def load(self) -> None:
        """Takes some 0.1 s and 30 MB; again is free. Raises ModuleNotFoundError."""
        with self._loading:
            if self._session is None:
                self._session = silero_session(_MODEL_FILE)

    def infer(
        self, steps: Samples, hidden: Samples, cell: Samples
    ) -> tuple[Probabilities, Samples, Samples]:
        """Steps with their contexts (n, 576) and the state before -> (n,) and the state after."""
        self.load()
        probabilities, hidden, cell = self._session.run(
            None, {"input": steps, "h": hidden, "c": cell}
        )
        return probabilities, hidden, cell

    def __repr__(self) -> str:
        return f"<SpeechModel {'not loaded' if self._session is None else 'loaded'}>"


class VoiceActivity:
    """Listens to one stream. What it says depends on the samples alone, not on their delivery."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)
        self._heard: Samples = np.zeros(CONTEXT_SAMPLES, np.float32)
        """Context, then samples too few for a call."""
        self._steps = 0

    def push(self, samples: Samples) -> Probabilities:
        """Mono at 16 kHz, any number; speech probabilities of the steps that became complete."""
        self._heard = np.concatenate([self._heard, samples])
        whole = (len(self._heard) - CONTEXT_SAMPLES) // (STEPS_PER_CALL * STEP_SAMPLES)
        return self._joined([self._take(STEPS_PER_CALL) for _ in range(whole)])

    def finish(self) -> Probabilities:
        """The rest; the last step counts as if silence followed. Call once, after the last push."""
        rest = len(self._heard) - CONTEXT_SAMPLES
        steps = -(-rest // STEP_SAMPLES)
        self._heard = np.pad(self._heard, (0, steps * STEP_SAMPLES - rest))
        return self._joined([self._take(steps)] if steps else [])

    def __repr__(self) -> str:
        return f"<VoiceActivity {self._steps} steps>"

    def _take(self, steps: int) -> Probabilities:
        taken = steps * STEP_SAMPLES
        frames = np.lib.stride_tricks.sliding_window_view(
            self._heard[: taken + CONTEXT_SAMPLES], CONTEXT_SAMPLES + STEP_SAMPLES
        )[::STEP_SAMPLES]
        probabilities, self._hidden, self._cell = self._model.infer(
            np.ascontiguousarray(frames), self._hidden, self._cell
        )
        self._heard = self._heard[taken:]
        self._steps += steps
        return probabilities

    @staticmethod
    def _joined(parts: list[Probabilities]) -> Probabilities:
        return np.concatenate([np.empty(0, np.float32), *parts])


def silero_session(name: str) -> Any:
    """The package's network of this file name, on one thread. Raises ModuleNotFoundError."""
    import onnxruntime  # here, as it takes longer than all the rest of this package

    # The package's own modules import torch's audio half; only its file is wanted.
    package = importlib.util.find_spec("silero_vad")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "silero-vad is missing: install the extra 'worker'.", name="silero_vad"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a step is too small to share out
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        Path(package.origin).parent / "data" / name, options, providers=["CPUExecutionProvider"]
    )
