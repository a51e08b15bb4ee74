"""One recording alone in an engine: seconds to its first token, its first text and its last.

    python -m bench.e2e [--lengths 30,120,3600] [--chunk 30] [--model 1.7b] [--json out]

Recordings are cut to equal chunks (30 s, or what the model takes) with four tokens a second of
audio. From the first submit: features, encoder and prefill are part of it; reading and cutting the
file and the network are not. Text comes with the first finished chunk.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from bench.engines import (
    CHUNK_SECONDS,
    TOKENS_PER_SECOND,
    Recording,
    TokenClock,
    chunk_seconds,
    closed_loop,
    forced_lengths,
    recording,
)
from bench.measuring import PASSES
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from bench.throughput import installed
from worker.engine.interface import Engine

_LONG = 600
"""Seconds of audio from which a recording runs once a pass: it holds its own repetitions."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the first submit."""

    token: float
    text: float
    final: float


def main() -> None:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--lengths", type=numbers, default=[30, 120, 3600])
    arguments.add_argument("--chunk", type=float, default=CHUNK_SECONDS)
    arguments.add_argument("--tokens-per-second", type=float, default=TOKENS_PER_SECOND)
    options = arguments.parse_args()
    chosen = setting("e2e", options)
    with forced_lengths(options.tokens_per_second):
        engines = installed(chosen)
        clocks = {name: TokenClock(engine) for name, engine in engines.items()}
        longest = min(chunk_seconds(engine, options.chunk) for engine in engines.values())
        for length in options.lengths:
            one = recording("alone", float(length), longest)
            chosen.report.show(measured(chosen, engines, clocks, one))
    chosen.report.close()


def measured(
    chosen: Setting, engines: dict[str, Engine], clocks: dict[str, TokenClock], one: Recording
) -> Table:
    """One row an engine; they take turns."""
    runs: dict[str, list[Times]] = {name: [] for name in engines}
    is_long = one.seconds >= _LONG
    if not is_long:
        for name, engine in engines.items():
            timed(engine, clocks[name], one)
    for _ in range(PASSES * (1 if is_long else chosen.rounds)):
        for name, engine in engines.items():
            runs[name].append(timed(engine, clocks[name], one))
    baseline = next(iter(engines))
    finals = {
        name: statistics.median(one.final for one in several) for name, several in runs.items()
    }
    table = Table(
        f"{one.seconds:.0f} s in {len(one.chunks)} chunks, alone",
        ("", f"× {baseline}", "first token s", "first text s", "final s", "× real time"),
    )
    for name, several in runs.items():
        table.add(
            name,
            finals[baseline] / finals[name],
            statistics.median(one.token for one in several),
            statistics.median(one.text for one in several),
            finals[name],
            one.seconds / finals[name],
        )
    return table


def timed(engine: Engine, clock: TokenClock, one: Recording) -> Times:
    """One run."""
    clock.start()
    begun = time.perf_counter()
    outcome = closed_loop(engine, [one], 1)
    assert clock.first is not None
    assert outcome.first_text is not None
    return Times(clock.first - begun, outcome.first_text, outcome.seconds)


if __name__ == "__main__":
    main()
