"""What each part of the native engine brings: one thing is switched off at a time.

    python -m bench.ablate [--at-once 8] [--model 1.7b] [--json out]

First table: audio seconds per second in a closed loop (see bench.throughput), switches in turns.
Second: the delay of live requests beside a film (see bench.live_first), with the scheduler's
priorities and without. Switches that need a GPU are left out on a CPU.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from bench.engines import (
    Outcome,
    chunk_seconds,
    closed_loop,
    forced_lengths,
    ready_engine,
    recording,
)
from bench.live_first import Arrival, arriving, beside
from bench.measuring import PASSES, percentile
from bench.options import Setting, parser, setting
from bench.report import Table
from bench.throughput import recordings
from worker.engine.compiled_operations import CompiledOperations
from worker.engine.native_model import NativeModel
from worker.model.operations import TorchOperations
from worker.scheduler import Scheduler
from worker.sequence import Priority

_WHOLE = "the engine as it is"

Switch = Callable[[], contextlib.AbstractContextManager[None]]


def main() -> None:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--at-once", type=int)
    arguments.add_argument("--recordings", type=int)
    arguments.add_argument("--requests", type=int, default=40)
    arguments.add_argument("--minutes", type=float, default=10.0, help="of the film")
    options = arguments.parse_args()
    chosen = setting("ablate", options)
    at_once = options.at_once or (128 if chosen.on_gpu else 8)
    with forced_lengths():
        engine = ready_engine("native", chosen)
        count = options.recordings or at_once
        chosen.report.show(paces(chosen, engine, at_once, count))
        chosen.report.show(delays(engine, options.requests, options.minutes))
    chosen.report.close()


def switches(chosen: Setting, engine: Any) -> Iterator[tuple[str, Switch]]:
    """By what is off within."""
    runner = engine._loaded.runner
    decoder = runner._decoder
    limits = engine._loaded.plan.limits
    plain = TorchOperations()
    yield _WHOLE, contextlib.nullcontext
    yield "one sequence at a time", lambda: _scheduled(engine, replace(limits, rows=1))
    yield "one window at a time", lambda: _scheduled(engine, replace(limits, windows=1))
    if chosen.on_gpu:
        yield "no CUDA graphs", lambda: _set(runner, "_graphs", None)
        yield (
            "no Triton, no CUDA graphs",
            lambda: _both(_set(runner, "_graphs", None), _set(decoder, "_operations", plain)),
        )
        yield "each batch is read before the next", _read_at_once
        yield (
            "elementwise compiled, no CUDA graphs",
            lambda: _both(
                _set(runner, "_graphs", None),
                _set(decoder, "_operations", CompiledOperations(decoder._operations)),
            ),
        )
    else:
        compiled = CompiledOperations(plain)
        yield "elementwise compiled", lambda: _set(decoder, "_operations", compiled)
        if chosen.threads > 1:
            yield "one thread", lambda: _set(runner, "_threads", (1, 1))
            every = (chosen.threads, chosen.threads)
            yield "the decoder in all threads", lambda: _set(runner, "_threads", every)


def paces(chosen: Setting, engine: Any, at_once: int, count: int) -> Table:
    """One row a switch."""
    load = recordings(count, [5, 60], {"native": engine})
    kinds = dict(switches(chosen, engine))
    runs: dict[str, list[Outcome]] = {name: [] for name in kinds}
    for switch in kinds.values():
        with switch():
            closed_loop(engine, load, at_once)
    for _ in range(PASSES * chosen.rounds):
        for name, switch in kinds.items():
            with switch():
                runs[name].append(closed_loop(engine, load, at_once))
    medians = {
        name: statistics.median(one.audio_seconds / one.seconds for one in several)
        for name, several in runs.items()
    }
    table = Table(
        f"closed loop, {at_once} of {count} recordings at once",
        ("", f"× {_WHOLE}", "audio s/s", "spread %"),
    )
    for name, several in runs.items():
        each = [one.audio_seconds / one.seconds for one in several]
        spread = (max(each) - min(each)) / medians[name]
        table.add(name, medians[name] / medians[_WHOLE], medians[name], 100 * spread)
    return table


def delays(engine: Any, requests: int, minutes: float) -> Table:
    """With priorities, and with live requests that are like any other's."""
    film = recording("film", 60 * minutes, chunk_seconds(engine), Priority.INTERACTIVE)
    live = arriving(requests, 0.4)
    kinds = {_WHOLE: live, "no priorities": [_as_interactive(arrival) for arrival in live]}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(PASSES):
        for name, arrivals in kinds.items():
            seconds[name] += beside(engine, arrivals, film).delays
    table = Table("live requests beside a film", ("", f"p95 × {_WHOLE}", "p50 ms", "p95 ms"))
    for name, each in seconds.items():
        p95 = percentile(each, 0.95)
        ratio = p95 / percentile(seconds[_WHOLE], 0.95)
        table.add(name, ratio, 1000 * percentile(each, 0.5), 1000 * p95)
    return table


def _as_interactive(arrival: Arrival) -> Arrival:
    return replace(arrival, chunk=replace(arrival.chunk, priority=Priority.INTERACTIVE))


@contextlib.contextmanager
def _scheduled(engine: Any, limits: Any) -> Iterator[None]:
    """Within, an engine that has nothing in work batches up to other limits."""
    scheduler = Scheduler(
        engine._loaded.arena,
        engine._costs,
        most_rows=limits.rows,
        most_windows=limits.windows,
        most_tokens=limits.prefill_tokens,
    )
    with patch.object(engine, "_scheduler", scheduler):
        yield


@contextlib.contextmanager
def _set(owner: Any, name: str, value: object) -> Iterator[None]:
    with patch.object(owner, name, value):
        yield


@contextlib.contextmanager
def _both(
    one: contextlib.AbstractContextManager[None], other: contextlib.AbstractContextManager[None]
) -> Iterator[None]:
    with one, other:
        yield


@contextlib.contextmanager
def _read_at_once() -> Iterator[None]:
    with patch.object(NativeModel, "reads_behind", 0):
        yield


if __name__ == "__main__":
    main()
