"""CUDA graphs by bucket: a sequence of launches, recorded at its first use, replayed in one go.

A graph reads and writes fixed addresses: inputs are copied in, and what it puts out is overwritten
by the next replay of any bucket, for all of them share one memory pool.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worker.engine.placement import is_out_of_memory

MOST_ATTEMPTS = 3
"""To record one bucket."""

logger = logging.getLogger(__name__)

Body = Callable[..., tuple[Tensor, ...]]


def bucket_of(count: int, buckets: Sequence[int]) -> int | None:
    """The smallest bucket that holds so many; None above the largest. Buckets ascend."""
    place = bisect_left(buckets, count)
    return buckets[place] if place < len(buckets) else None


class Capture(Protocol):
    """Records what body does with these inputs; returns how to replay it and what it puts out."""

    def __call__(
        self, body: Body, inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]: ...


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    outputs: tuple[Tensor, ...]


class GraphCache:
    """Graphs by key. Used from one thread; buckets nobody needs are never recorded."""

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = capture or CudaCapture()
        self._graphs: dict[Hashable, _Graph] = {}
        self._attempts: Counter[Hashable] = Counter()
        self._may_record = True

    def __repr__(self) -> str:
        return f"<GraphCache {len(self._graphs)} graphs>"

    def run(self, key: Hashable, body: Body, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What body(*inputs) gives. Inputs of one key always have the same shapes and types, and
        body always does the same; outputs are valid until the next run. Raises what body raises."""
        graph = self._graphs.get(key) or self._record(key, body, inputs)
        if graph is None:
            return body(*inputs)
        for target, source in zip(graph.inputs, inputs, strict=True):
            target.copy_(source)
        graph.replay()
        return graph.outputs

    def _record(self, key: Hashable, body: Body, inputs: Sequence[Tensor]) -> _Graph | None:
        """None where that fails. For want of memory (a graph keeps some for itself) a bucket is
        tried again a little later; any other failure ends all recording."""
        if not self._may_record or self._attempts[key] >= MOST_ATTEMPTS:
            return None
        self._attempts[key] += 1
        fixed = tuple(tensor.clone() for tensor in inputs)
        try:
            replay, outputs = self._capture(body, fixed)
        except RuntimeError as error:
            self._may_record = is_out_of_memory(error)
            logger.warning("a graph could not be recorded key=%s error=%s", key, error)
            return None
        logger.debug("graph was recorded key=%s", key)
        self._graphs[key] = _Graph(fixed, replay, outputs)
        return self._graphs[key]


class CudaCapture:
    """See Capture; all graphs share one memory pool."""

    def __init__(self) -> None:
        self._pool: tuple[int, int] | None = None
        # One for all: libraries keep a workspace for every stream they meet.
        self._aside = torch.cuda.Stream()

    def __call__(
        self, body: Body, inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        # Once without recording: kernels are compiled and libraries make their workspaces, which
        # must not happen inside a recording. Batches are repeatable, so running twice is harmless.
        current = torch.cuda.current_stream()
        self._aside.wait_stream(current)
        with torch.cuda.stream(self._aside):
            body(*inputs)
        current.wait_stream(self._aside)
        graph = torch.cuda.CUDAGraph()
        # The outer context brings the stream back where a recording breaks off.
        with torch.cuda.stream(current), torch.cuda.graph(graph, pool=self._pool):
            outputs = body(*inputs)
        self._pool = graph.pool()
        return graph.replay, outputs
