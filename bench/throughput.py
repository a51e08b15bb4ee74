"""Audio transcribed per second with many recordings at once: the native engine and the official.

    python -m bench.throughput [--at-once 1,4,16] [--model 1.7b] [--json out]

A closed loop: so many recordings of 5 to 60 s (seeded) are in work at any time, each cut into
chunks as the server cuts them; when one is finished the next begins. Latency is from the first
submit of a recording to its last answer. Both engines get the same recordings in turns.
"""

from __future__ import annotations

import statistics

import numpy as np

from bench.engines import (
    TOKENS_PER_SECOND,
    Outcome,
    Recording,
    chunk_seconds,
    closed_loop,
    forced_lengths,
    ready_engine,
    recording,
)
from bench.measuring import PASSES, percentile
from bench.models import PeerAbsent
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from worker.engine.interface import Engine

_LEAST_RECORDINGS = 8
_ENDLESS = 1.25
"""Recordings for each place in the loop, beyond which it runs empty."""


def main() -> None:
    arguments = parser(__doc__, rounds=2)
    arguments.add_argument("--at-once", type=numbers)
    arguments.add_argument("--seconds", type=numbers, default=[5, 60], help="shortest,longest")
    arguments.add_argument("--tokens-per-second", type=float, default=TOKENS_PER_SECOND)
    options = arguments.parse_args()
    chosen = setting("throughput", options)
    loads = options.at_once or ([1, 16, 64, 256, 512] if chosen.on_gpu else [1, 4, 16])
    with forced_lengths(options.tokens_per_second):
        engines = installed(chosen)
        for at_once in loads:
            chosen.report.show(measured(chosen, engines, at_once, options.seconds))
    chosen.report.close()


def installed(chosen: Setting) -> dict[str, Engine]:
    """The engines that can be run here, by name; the baseline first."""
    engines = {}
    for kind in ("official", "native"):
        try:
            engines[kind] = ready_engine(kind, chosen)
        except PeerAbsent as absent:
            chosen.report.note(f"absent: {kind} engine: {absent}")
    return engines


def measured(
    chosen: Setting, engines: dict[str, Engine], at_once: int, seconds: list[int]
) -> Table:
    """One row an engine."""
    load = recordings(max(_LEAST_RECORDINGS, int(_ENDLESS * at_once)), seconds, engines)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in engines}
    for engine in engines.values():
        closed_loop(engine, load[: max(1, at_once // 2)], at_once)
    for _ in range(PASSES * chosen.rounds):
        for name, engine in engines.items():
            outcomes[name].append(closed_loop(engine, load, at_once))
    paces = {
        name: statistics.median(one.audio_seconds / one.seconds for one in several)
        for name, several in outcomes.items()
    }
    baseline = next(iter(engines))
    total = outcomes[baseline][0].audio_seconds
    table = Table(
        f"{at_once} at once, {len(load)} recordings of {total:.0f} s together",
        ("", f"× {baseline}", "audio s/s", "tokens/s", "p50 s", "p95 s", "spread %"),
    )
    for name, several in outcomes.items():
        latencies = [second for one in several for second in one.latencies]
        each = [one.audio_seconds / one.seconds for one in several]
        table.add(
            name,
            paces[name] / paces[baseline],
            paces[name],
            statistics.median(one.tokens / one.seconds for one in several),
            percentile(latencies, 0.5),
            percentile(latencies, 0.95),
            100 * (max(each) - min(each)) / paces[name],
        )
    return table


def recordings(count: int, seconds: list[int], engines: dict[str, Engine]) -> list[Recording]:
    """Of lengths between the two given, the same in every run."""
    shortest, longest = seconds
    random = np.random.default_rng(7)
    most = min(chunk_seconds(engine) for engine in engines.values())
    return [
        recording(f"recording {number}", float(length), most)
        for number, length in enumerate(random.uniform(shortest, longest, count))
    ]


if __name__ == "__main__":
    main()
