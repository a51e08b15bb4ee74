"""CUDA graphs by bucket: a sequence of launches, recorded at its first use, replayed in one go.

A graph reads and writes fixed addresses: inputs are copied in, and what it puts out is overwritten
by the next replay of any bucket, for all of them share one memory pool.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

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
        self._graphs: dict[Hashable, _Graph | None] = {}
        """None where recording failed: such a bucket is run launch by launch."""

    def __repr__(self) -> str:
        return f"<GraphCache {sum(graph is not None for graph in self._graphs.values())} graphs>"

    def run(self, key: Hashable, body: Body, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What body(*inputs) gives. Inputs of one key always have the same shapes and types, and
        body always does the same; outputs are valid until the next run. Raises what body raises."""
        if key not in self._graphs:
            self._graphs[key] = self._record(key, body, inputs)
        graph = self._graphs[key]
        if graph is None:
            return body(*inputs)
        for target, source in zip(graph.inputs, inputs, strict=True):
            target.copy_(source)
        graph.replay()
        return graph.outputs

    def _record(self, key: Hashable, body: Body, inputs: Sequence[Tensor]) -> _Graph | None:
        fixed = tuple(tensor.clone() for tensor in inputs)
        try:
            replay, outputs = self._capture(body, fixed)
        except RuntimeError as error:  # out of memory too: a graph needs some for itself
            logger.warning("a graph could not be recorded key=%s error=%s", key, error)
            return None
        logger.debug("graph was recorded key=%s", key)
        return _Graph(fixed, replay, outputs)


class CudaCapture:
    """See Capture; all graphs share one memory pool."""

    def __init__(self) -> None:
        self._pool: tuple[int, int] | None = None

    def __call__(
        self, body: Body, inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        # Once without recording: kernels are compiled and libraries make their workspaces, which
        # must not happen inside a recording. Batches are repeatable, so running twice is harmless.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            body(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = body(*inputs)
        self._pool = graph.pool()
        return graph.replay, outputs
