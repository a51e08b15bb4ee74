"""Steps of growing utterances on an engine, the same audio afresh, and the work of either."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from worker.engine.interface import ChunkFailure, ChunkKey, ChunkRequest, ChunkText
from worker.engine.native import NativeEngine
from worker.engine.rows import DecodeRow, TokenRun
from worker.engine.runner import Launched

RATE = 16_000
FRAME = 160
WINDOW = 8 * RATE

Samples = npt.NDArray[np.float32]


def answered(engine: NativeEngine, key: ChunkKey, chunk: ChunkRequest) -> ChunkText:
    engine.submit(key, chunk)
    return finished(engine)[key]


def finished(engine: NativeEngine) -> dict[ChunkKey, ChunkText]:
    answers: dict[ChunkKey, ChunkText | ChunkFailure] = {}
    while engine.has_work:
        answers |= dict(engine.step(lambda: None))
    assert all(isinstance(answer, ChunkText) for answer in answers.values()), answers
    return {key: answer for key, answer in answers.items() if isinstance(answer, ChunkText)}


def fresh(engine: NativeEngine, samples: Samples, **fields: Any) -> ChunkText:
    """What the engine says of this audio with nothing kept and nothing drafted."""
    return answered(engine, ("fresh", 0), ChunkRequest(samples, **fields))


class Speaker:
    """One utterance on an engine. Each step's draft is the answer of the step before."""

    def __init__(self, engine: NativeEngine, audio: Samples, name: str = "talk") -> None:
        self.engine = engine
        self.audio = audio
        self.name = name
        self.steps = 0
        self.said: tuple[int, ...] = ()

    def chunk(self, samples: int, **fields: Any) -> ChunkRequest:
        fields = {"draft": self.said, "utterance": self.name} | fields
        return ChunkRequest(self.audio[:samples], **fields)

    def submit(self, samples: int, **fields: Any) -> ChunkKey:
        self.steps += 1
        key = self.name, self.steps
        self.engine.submit(key, self.chunk(samples, **fields))
        return key

    def step(self, samples: int, **fields: Any) -> ChunkText:
        key = self.submit(samples, **fields)
        answer = finished(self.engine)[key]
        self.said = answer.token_ids
        return answer

    def says_what_a_fresh_engine_says(self, lengths: Iterable[int], **fields: Any) -> None:
        for samples in lengths:
            answer = self.step(samples, **fields)
            assert answer == fresh(self.engine, self.audio[:samples]), f"{samples} samples"


@dataclass
class Work:
    windows: int = 0
    tokens: int = 0
    """Of all passes of Extend."""
    passes: int = 0
    """Of Extend."""
    decoded: int = 0


class CountingRunner:
    """Stands before an engine's runner and counts what it does."""

    def __init__(self, engine: NativeEngine) -> None:
        self.work = Work()
        self._runner = engine._model.runner
        engine._model.runner = self  # type: ignore[assignment]

    def taken(self) -> Work:
        """The work since this was asked last."""
        work, self.work = self.work, Work()
        return work

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        return self._runner.embed(token_ids)

    def encode(self, windows: Sequence[Tensor]) -> tuple[list[Tensor], Launched]:
        self.work.windows += len(windows)
        return self._runner.encode(windows)

    def extend(self, runs: Sequence[TokenRun]) -> Launched:
        self.work.tokens += sum(len(run.hidden) for run in runs)
        self.work.passes += 1
        return self._runner.extend(runs)

    def decode(self, rows: Sequence[DecodeRow]) -> Launched:
        self.work.decoded += len(rows)
        return self._runner.decode(rows)
