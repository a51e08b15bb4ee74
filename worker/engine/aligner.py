"""What the engine asks of a forced aligner, whatever runs inside. Without torch and numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from worker.engine.interface import ReportProgress
from worker.text.alignment import TimedUnit

if TYPE_CHECKING:
    import numpy as np


class Aligner(Protocol):
    """Says when the units of a known text are said. Used from the engine's thread; load first."""

    @property
    def working_bytes(self) -> int:
        """Device memory that an alignment takes beside the weights; known after load."""

    def load(self, report: ReportProgress) -> None:
        """Download where needed, put the weights on the device, align once. Raises EngineFailure
        with the codes and manners of Engine.load."""

    def knows(self, language: str | None) -> bool:
        """Whether it was made for this language, by its English name; known after load."""

    def align(
        self, samples: np.ndarray, text: str, language: str, on_step: Callable[[], None]
    ) -> tuple[TimedUnit, ...]:
        """The text's units in order, with times as they come; none where it fails.

        samples: float32, 16 kHz, mono, in which this text is said and no other. on_step is called
        often. Raises what on_step raises, and EngineFailure: device_lost.
        """
