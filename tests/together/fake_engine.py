"""An engine process with everything real but the models: `python -m tests.together.fake_engine`.

Takes every sound for speech. Answers each chunk with its number of samples. FAKE_ENGINE_HOLDS=N
makes the first N inferences of all processes hang, each leaving a file DATA_DIR/held-<n> that names
its process.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

from worker import process
from worker.audio.vad import STEP_SAMPLES, SpeechModel
from worker.engine.batches import BatchEngine
from worker.engine.interface import ChunkFailure, ChunkRequest, ChunkText, ReportProgress


class FakeEngine:
    """A model that needs no weights."""

    name = "fake"
    max_chunk_seconds = None
    max_batch = 4

    def __init__(self, folder: Path, holds: int) -> None:
        self._folder = folder
        self._holds = holds

    def load(self, report: ReportProgress) -> None:
        """Nothing to load."""

    def warm_up(self) -> None:
        """Nothing to warm."""

    def memory(self) -> dict[str, int]:
        return {}

    def transcribe(
        self, chunks: Sequence[ChunkRequest], on_step: Callable[[], None]
    ) -> list[ChunkText | ChunkFailure]:
        self._hold()
        on_step()
        return [
            ChunkText("English", f"{len(chunk.samples)}{chunk.context}", 9, 7, 2)
            for chunk in chunks
        ]

    def _hold(self) -> None:
        held = len(list(self._folder.glob("held-[0-9]")))
        if held < self._holds:
            marker = self._folder / f"held-{held}"
            marker.with_suffix(".new").write_text(str(os.getpid()))
            marker.with_suffix(".new").rename(marker)
            os.read(os.pipe()[0], 1)  # nobody writes: until killed


class EverythingIsSpeech:
    """In place of worker.audio.vad.VoiceActivity."""

    def __init__(self, model: SpeechModel) -> None:
        self._samples = 0
        self._steps = 0

    def push(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self._samples += len(samples)
        return self._certain(self._samples // STEP_SAMPLES)

    def finish(self) -> npt.NDArray[np.float32]:
        return self._certain(-(-self._samples // STEP_SAMPLES))

    def _certain(self, steps: int) -> npt.NDArray[np.float32]:
        new, self._steps = steps - self._steps, steps
        return np.ones(new, np.float32)


def main() -> int:
    """The real engine process around the fake engine."""
    engine = FakeEngine(Path(os.environ["DATA_DIR"]), int(os.environ["FAKE_ENGINE_HOLDS"]))
    with (
        mock.patch.object(process, "create_engine", return_value=BatchEngine(engine)),
        mock.patch.object(process, "load_speech_model", SpeechModel),  # which loads by its use
        mock.patch.object(process, "VoiceActivity", EverythingIsSpeech),
    ):
        return process.main()


if __name__ == "__main__":
    sys.exit(main())
