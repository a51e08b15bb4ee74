"""Whole engines with forced lengths, and the loads they are put under.

Forced: every chunk gets as many tokens as speech of its length has, whatever the model says, so
that engines do the same work and random weights do that of real ones.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench import models
from bench.measuring import reset_threads
from bench.options import Setting
from worker.engine import native_model
from worker.engine.checkpoints import Checkpoint
from worker.engine.creation import create_engine
from worker.engine.interface import (
    SAMPLE_RATE,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    Engine,
    EngineSettings,
)
from worker.model.config import ModelConfig
from worker.model.parameters import ModelParameters
from worker.sequence import Priority

TOKENS_PER_SECOND = 4.0
"""Of English speech, about (the technical report's texts and tokenizer)."""
CHUNK_SECONDS = 30.0
"""Recordings are cut to this, or less where the model takes less."""

_LEAST_RECORDINGS_AHEAD = 4  # as worker/chunks_ahead.py


@contextlib.contextmanager
def forced_lengths(tokens_per_second: float = TOKENS_PER_SECOND) -> Iterator[None]:
    """Within, engines take that for the length of every chunk's output."""

    def forced(samples: int) -> int:
        return max(1, math.ceil(tokens_per_second * samples / SAMPLE_RATE))

    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(native_model, "output_token_limit", forced))
        with contextlib.suppress(models.PeerAbsent):
            models.require_official()
            from worker.engine import transformers_model

            patches.enter_context(patch.object(transformers_model, "output_token_limit", forced))
        yield


def ready_engine(kind: str, chosen: Setting) -> Engine:
    """native or official, loaded and warmed up, which ends chunks by their length alone.

    To be made and used within forced_lengths(). Raises PeerAbsent.
    """
    if kind == "official":
        models.require_official()
    with tempfile.TemporaryDirectory() as folder, _random_weights(chosen):
        checkpoint = models.write_checkpoint(chosen.model, Path(folder) / "checkpoint")
        engine = create_engine(
            EngineSettings(
                model_id="embedded" if chosen.model == "embedded" else str(checkpoint),
                cache_dir=Path(folder),
                engine=kind,
                device=str(chosen.device),
                threads=chosen.threads,
            )
        )
        engine.load(lambda _progress: None)
    _end_by_length_alone(engine)
    engine.warm_up()
    return engine


def chunk_seconds(engine: Engine, wanted: float = CHUNK_SECONDS) -> float:
    """What recordings are cut to for this engine."""
    return min(wanted, engine.max_chunk_seconds or wanted)


@contextlib.contextmanager
def _random_weights(chosen: Setting) -> Iterator[None]:
    """Within, checkpoints other than the embedded one are not read."""
    if chosen.model == "embedded":
        yield
        return
    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(native_model, "load_parameters", _random_parameters))
        with contextlib.suppress(models.PeerAbsent):
            models.require_official()
            from worker.engine import transformers_model

            patches.enter_context(
                patch.object(transformers_model, "load_model", models.load_random_official)
            )
        yield


def _random_parameters(
    _checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    report: object,
) -> ModelParameters:
    return _shared_parameters(config, device, dtype)


@cache
def _shared_parameters(
    config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> ModelParameters:
    return models.random_parameters(config, device=device, dtype=dtype)


def _end_by_length_alone(engine: Any) -> None:
    if engine.name == "native":
        engine._loaded.end_token_ids = frozenset()
        return
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of an end token that is none
    engine._engine._model._end_token_ids = (-1,)


# --- loads --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    """Noise bursts, cut as the server cuts speech."""

    name: str
    chunks: tuple[ChunkRequest, ...]

    @property
    def seconds(self) -> float:
        return sum(len(chunk.samples) for chunk in self.chunks) / SAMPLE_RATE


def recording(
    name: str, seconds: float, longest: float, priority: Priority = Priority.INTERACTIVE
) -> Recording:
    """Cut into equal chunks of at most `longest` seconds."""
    count = math.ceil(seconds / longest)
    each = int(seconds * SAMPLE_RATE / count)
    noise = _noise(math.ceil(longest * SAMPLE_RATE))
    chunk = ChunkRequest(noise[:each], priority=priority)
    return Recording(name, (chunk,) * count)


@cache
def _noise(samples: int) -> np.ndarray:
    random = np.random.default_rng(1)
    loudness = np.repeat(random.uniform(0.0, 0.3, samples // 1600 + 1), 1600)[:samples]
    return (random.standard_normal(samples) * loudness).astype(np.float32)


@dataclass(slots=True)
class Outcome:
    """Of one load on one engine."""

    audio_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds from a recording's first submit to its last answer."""
    first_text: float | None = None
    """Seconds until the first chunk was answered."""


@dataclass(slots=True)
class _Open:
    recording: Recording
    begun: float
    submitted: int = 0
    answered: int = 0


def closed_loop(engine: Engine, recordings: Sequence[Recording], at_once: int) -> Outcome:
    """All recordings, so many in work at any time, each as far ahead as the server cuts."""
    reset_threads()
    waiting = deque(recordings)
    open_ones: dict[str, _Open] = {}
    outcome = Outcome()
    begun = time.perf_counter()
    while waiting or open_ones:
        while waiting and len(open_ones) < at_once:
            first = waiting.popleft()
            open_ones[first.name] = _Open(first, time.perf_counter())
            _submit_ahead(engine, open_ones[first.name])
        for key, answer in engine.step(_nothing):
            outcome.tokens += text_of(answer).output_tokens
            outcome.first_text = outcome.first_text or time.perf_counter() - begun
            one = open_ones[key[0]]
            one.answered += 1
            _submit_ahead(engine, one)
            if one.answered == len(one.recording.chunks):
                del open_ones[key[0]]
                outcome.latencies.append(time.perf_counter() - one.begun)
    outcome.seconds = time.perf_counter() - begun
    outcome.audio_seconds = sum(one.seconds for one in recordings)
    return outcome


def text_of(answer: ChunkText | ChunkFailure) -> ChunkText:
    """Raises where a chunk failed: figures of half the work say nothing."""
    if isinstance(answer, ChunkFailure):
        raise RuntimeError(f"a chunk failed: {answer}")
    return answer


def _submit_ahead(engine: Engine, one: _Open) -> None:
    ahead = max(_LEAST_RECORDINGS_AHEAD, engine.chunks_ahead)
    chunks = one.recording.chunks
    while one.submitted < len(chunks) and one.submitted - one.answered < ahead:
        engine.submit((one.recording.name, one.submitted), chunks[one.submitted])
        one.submitted += 1


def _nothing() -> None:
    pass


class TokenClock:
    """When the first token since start() was there; tells it of both engines."""

    def __init__(self, engine: Any) -> None:
        self.first: float | None = None
        if engine.name == "native":
            self._hear(engine, "_receive")
        else:
            from worker.engine.generation import StepControl

            self._hear(StepControl, "is_over")

    def start(self) -> None:
        self.first = None

    def _hear(self, owner: Any, method: str) -> None:
        heard: Callable[..., Any] = getattr(owner, method)

        def hears(*arguments: Any) -> Any:
            if self.first is None:
                self.first = time.perf_counter()
            return heard(*arguments)

        setattr(owner, method, hears)
