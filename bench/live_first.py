"""How long live requests wait beside a film, against an idle engine.

    python -m bench.live_first [--requests 40] [--minutes 10] [--model 1.7b] [--json out]

A recording of ten minutes is in work all the time: when it is finished it begins again. Short live
requests (2 to 4 s of speech, LIVE_FINAL) arrive at random moments, the same in every row, one every
0.4 s on average. Delay: from the moment of arrival to the answer. Idle: the same requests, each
alone. Rows of one engine differ by the film's priority; where live requests are expected the native
engine cuts a film's batches as small as if one were there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.engines import (
    Recording,
    chunk_seconds,
    forced_lengths,
    recording,
    text_of,
)
from bench.measuring import PASSES, percentile, reset_threads
from bench.options import Setting, parser, setting
from bench.report import Table
from bench.throughput import installed
from worker.engine.interface import (
    SAMPLE_RATE,
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    Engine,
)
from worker.sequence import Priority

_FILM = "film"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A live request and the seconds from the start at which it comes."""

    moment: float
    chunk: ChunkRequest


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine works on beside the live requests."""

    film: Recording
    expects_live: bool = False


@dataclass(slots=True)
class Outcome:
    """Delays of the live requests, and what became of the film meanwhile."""

    delays: list[float] = field(default_factory=list)
    film_seconds: float = 0.0
    seconds: float = 0.0


def main() -> None:
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--requests", type=int, default=40)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--gap", type=float, default=0.4, help="seconds between two, mean")
    options = arguments.parse_args()
    chosen = setting("live_first", options)
    with forced_lengths():
        engines = installed(chosen)
        longest = min(chunk_seconds(engine) for engine in engines.values())
        arrivals = arriving(options.requests, options.gap)
        seconds = 60 * options.minutes
        bulk = recording(_FILM, seconds, longest, Priority.BULK)
        loads = {
            "bulk film": Load(bulk),
            "bulk film, live expected": Load(bulk, expects_live=True),
            "interactive film": Load(recording(_FILM, seconds, longest)),
        }
        chosen.report.show(measured(chosen, engines, arrivals, loads))
    chosen.report.close()


def arriving(count: int, gap: float) -> list[Arrival]:
    """Seeded."""
    random = np.random.default_rng(11)
    moments = np.cumsum(random.exponential(gap, count))
    lengths = random.uniform(2, 4, count)
    return [
        Arrival(float(moment), _live_chunk(float(seconds)))
        for moment, seconds in zip(moments, lengths, strict=True)
    ]


def _live_chunk(seconds: float) -> ChunkRequest:
    return recording("live", seconds, 4.0, Priority.LIVE_FINAL).chunks[0]


def measured(
    chosen: Setting,
    engines: dict[str, Engine],
    arrivals: list[Arrival],
    loads: dict[str, Load],
) -> Table:
    """Rows in turns; the idle one of each engine is what its others are compared with."""
    outcomes: dict[tuple[str, str], list[Outcome]] = {
        (name, load): []
        for name in engines
        for load in ("idle", *loads)
        if name == "native" or not (load in loads and loads[load].expects_live)
    }
    for engine in engines.values():
        idle(engine, arrivals[:5])
    for _ in range(PASSES * chosen.rounds):
        for (name, load), several in outcomes.items():
            several.append(run(engines[name], arrivals, loads.get(load)))
    table = Table(
        f"{PASSES * chosen.rounds * len(arrivals)} live requests",
        ("", "p50 × idle", "p95 × idle", "p50 ms", "p95 ms", "worst ms", "film, audio s/s"),
    )
    for (name, load), several in outcomes.items():
        table.add(f"{name}, {load}", *_cells(several, outcomes[name, "idle"]))
    return table


def run(engine: Any, arrivals: list[Arrival], load: Load | None) -> Outcome:
    """All requests once, beside a load or, without one, each alone."""
    reset_threads()
    if load is None:
        return idle(engine, arrivals)
    if engine.name == "native":
        engine._scheduler.live_expected = load.expects_live
    return beside(engine, arrivals, load.film)


def _cells(several: list[Outcome], alone: list[Outcome]) -> list[float | None]:
    """A row of the table behind its name."""
    delays, idle_delays = _delays(several), _delays(alone)
    p50, p95 = percentile(delays, 0.5), percentile(delays, 0.95)
    film_pace = sum(one.film_seconds for one in several) / sum(one.seconds for one in several)
    return [
        p50 / percentile(idle_delays, 0.5),
        p95 / percentile(idle_delays, 0.95),
        1000 * p50,
        1000 * p95,
        1000 * max(delays),
        film_pace or None,
    ]


def _delays(outcomes: list[Outcome]) -> list[float]:
    return [delay for outcome in outcomes for delay in outcome.delays]


def idle(engine: Engine, arrivals: list[Arrival]) -> Outcome:
    """Each request alone."""
    outcome = Outcome()
    begun = time.perf_counter()
    for number, arrival in enumerate(arrivals):
        sent = time.perf_counter()
        engine.submit((f"live {number}", 0), arrival.chunk)
        while not (answers := engine.step(lambda: None)):
            pass
        text_of(answers[0][1])
        outcome.delays.append(time.perf_counter() - sent)
    outcome.seconds = time.perf_counter() - begun
    return outcome


def beside(engine: Engine, arrivals: list[Arrival], film: Recording) -> Outcome:
    """All requests while the film is in work; it is taken away when the last is answered."""
    return _Beside(engine, arrivals, film).run()


class _Beside:
    """State of one run: what is to come, and what the engine has."""

    def __init__(self, engine: Engine, arrivals: list[Arrival], film: Recording) -> None:
        self._engine = engine
        self._film = film
        self._to_come = list(reversed(arrivals))
        self._due: dict[str, float] = {}
        """Moments of arrival of the requests that are with the engine."""
        self._names: Iterator[int] = itertools.count()
        self._film_chunks: Iterator[int] = itertools.count()
        self._film_open: set[ChunkKey] = set()
        self._outcome = Outcome()

    def run(self) -> Outcome:
        self._warm_up()
        self._begun = time.perf_counter()
        while self._to_come or self._due:
            self._feed_film()
            self._admit()
            for key, answer in self._engine.step(self._admit):
                self._receive(key, answer)
        self._outcome.seconds = time.perf_counter() - self._begun
        for key in self._film_open:
            self._engine.cancel(key)
        while self._engine.has_work:
            self._engine.step(lambda: None)
        return self._outcome

    def _warm_up(self) -> None:
        """Until the film's first chunk is finished: the film is in full swing."""
        self._begun = float("inf")
        while self._outcome.film_seconds == 0:
            self._feed_film()
            for key, answer in self._engine.step(lambda: None):
                self._receive(key, answer)
        self._outcome.film_seconds = 0.0

    def _feed_film(self) -> None:
        while len(self._film_open) < max(4, self._engine.chunks_ahead):
            number = next(self._film_chunks)
            key = (f"{_FILM} {number // len(self._film.chunks)}", number % len(self._film.chunks))
            self._engine.submit(key, self._film.chunks[key[1]])
            self._film_open.add(key)

    def _admit(self) -> None:
        now = time.perf_counter() - self._begun
        while self._to_come and self._to_come[-1].moment <= now:
            arrival = self._to_come.pop()
            name = f"live {next(self._names)}"
            self._due[name] = arrival.moment
            self._engine.submit((name, 0), arrival.chunk)

    def _receive(self, key: ChunkKey, answer: ChunkText | ChunkFailure) -> None:
        text_of(answer)
        if key in self._film_open:
            self._film_open.remove(key)
            self._outcome.film_seconds += len(self._film.chunks[key[1]].samples) / SAMPLE_RATE
        else:
            moment = self._due.pop(key[0])
            self._outcome.delays.append(time.perf_counter() - self._begun - moment)


if __name__ == "__main__":
    main()
