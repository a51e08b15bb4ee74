"""How many live utterances an engine keeps up with, without the network: bench.live --engine.

Every utterance has a step each `cadence` seconds, evenly spread over the streams; measured is from
the moment a step is due to its answer, while all utterances grow to the length of the row. A step
that is due while the one before it is in work waits, and its waiting counts. All streams have the
same audio and say the same text, 4 tokens a second: what the model picks is replaced, so that
random weights work as hard as real ones. Time in which the engine has nothing to do is skipped.

* verify: audio and KV rows are kept, all of the old text is verified; `edits` of its tokens are
  wrong, at random places.
* rollback + caches: audio and KV rows are kept, the last 5 tokens are decoded again.
* full: the audio so far as if it were a file.

A number of streams counts where its 95th percentile is below the target; it is doubled, then
narrowed to an eighth, and one that fails is tried twice.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.engines import TOKENS_PER_SECOND, forced_lengths, ready_engine, recording, text_of
from bench.live_steps import ROLLED_BACK, WRONG, ForcedRunner, token_at
from bench.measuring import percentile, reset_threads
from bench.options import Setting
from bench.report import Cell, Table
from worker.engine.interface import SAMPLE_RATE, ChunkRequest, ChunkText
from worker.engine.native import NativeEngine
from worker.sequence import Priority

POLICIES = ("verify", "rollback + caches", "full")
STEPS = 4
"""Of each utterance in a wave, as far as its length allows."""
LEAST_MEASURED = 40
"""Steps behind a figure; few streams make several waves."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table."""

    policy: str
    seconds: int
    """That utterances reach."""
    cadence: float
    """Seconds between two steps."""
    edits: float
    """Wrong tokens of a draft, in percent."""

    @property
    def steps(self) -> int:
        return max(1, min(STEPS, math.ceil(self.seconds / self.cadence) - 1))

    def lengths(self) -> list[float]:
        """Seconds of audio at the step before the first and at each one."""
        return [self.seconds - self.cadence * left for left in range(self.steps, -1, -1)]


@dataclass(frozen=True, slots=True)
class Found:
    """What so many streams came to, in seconds."""

    streams: int
    delays: Sequence[float]
    cpu: float = 0.0
    """Of this process, for each step: what other work on the machine hardly changes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this mode."""
    parser.add_argument("--seconds", default="10,30,60", help="--engine: lengths of utterances")
    parser.add_argument("--cadence", default="0.5,1,2", help="--engine: seconds between two steps")
    parser.add_argument("--edits", default="0,2,5,10", help="--engine: wrong tokens, %%")
    parser.add_argument("--grid", action="store_true", help="--engine: every combination of them")
    parser.add_argument("--step-target-ms", type=float, default=200.0, help="--engine")
    parser.add_argument("--most", type=int, default=2048, help="streams at which the search ends")


def show(chosen: Setting, options: argparse.Namespace) -> None:
    """Measure and print."""
    cases = cases_of(options)
    target = options.step_target_ms / 1000
    with forced_lengths():
        engine = ready_engine("native", chosen)
        assert isinstance(engine, NativeEngine)
        streams = Streams(engine, max(case.seconds for case in cases))
        title = f"streams of which 95 % of the steps take below {options.step_target_ms:g} ms"
        columns = ("", "audio s", "cadence s", "edits %", "streams", "p50 ms", "p95 ms", "p99 ms")
        more = ("CPU ms a step", "alone p50 ms", "alone p95 ms", "alone CPU ms")
        table = Table(title, (*columns, *more))
        for case in cases:
            table.add(*row(streams, case, target, options.most))
            print(table.lines()[-1], flush=True)
    chosen.report.show(table)


def cases_of(options: argparse.Namespace) -> list[Case]:
    """Each option against the usual others, or with --grid against all."""
    seconds = [int(part) for part in options.seconds.split(",")]
    cadences = [float(part) for part in options.cadence.split(",")]
    edits = [float(part) for part in options.edits.split(",")]
    usual = Case("verify", _usual(seconds, 30), _usual(cadences, 1.0), _usual(edits, 5.0))
    if options.grid:
        found = [Case(*each) for each in itertools.product(POLICIES, seconds, cadences, edits)]
    else:
        found = [replace(usual, policy=p, seconds=s) for p in POLICIES for s in seconds]
        found += [replace(usual, cadence=cadence) for cadence in cadences]
        found += [replace(usual, edits=edit) for edit in edits]
    return list(dict.fromkeys(replace(case, edits=_edits(case)) for case in found))


def _edits(case: Case) -> float:
    return case.edits if case.policy == "verify" else 0.0


def _usual(values: Sequence[Number], usual: Number) -> Number:
    return usual if usual in values else values[0]


def row(streams: Streams, case: Case, target: float, most: int) -> list[Cell]:
    """The search for one case."""
    name = case.policy
    alone = streams.found(case, 1)
    assert alone is not None, "there is no limit"
    found = most_within(lambda count: _within(streams, case, count, target), most)
    kept: list[Cell] = [None] * 4
    if found is not None:
        kept = [*_milliseconds(found.delays, 0.5, 0.95, 0.99), 1000 * found.cpu]
    count = found.streams if found else 0
    edits = case.edits if case.policy == "verify" else None
    head: list[Cell] = [name, case.seconds, case.cadence, edits, count]
    return [*head, *kept, *_milliseconds(alone.delays, 0.5, 0.95), 1000 * alone.cpu]


def _milliseconds(delays: Sequence[float], *shares: float) -> list[Cell]:
    return [1000 * percentile(delays, share) for share in shares]


def _within(streams: Streams, case: Case, count: int, target: float) -> Found | None:
    for _ in range(2):  # what is met for the first time is recorded, and so takes longer
        found = streams.found(case, count, target)
        if found is not None and percentile(found.delays, 0.95) < target:
            return found
    return None


def most_within(attempt: Callable[[int], Found | None], most: int) -> Found | None:
    """Doubles from one until an attempt fails, then halves the gap down to an eighth."""
    best: Found | None = None
    failed = most + 1
    while (best.streams if best else 0) + 1 < failed:
        low = best.streams if best else 0
        if failed <= most and best is not None and failed - low <= max(1, low // 8):
            break
        count = min(2 * low or 1, most) if failed > most else (low + failed) // 2
        found = attempt(count)
        best, failed = (found, failed) if found else (best, count)
        if best is not None and best.streams == most:
            break
    return best


class Streams:
    """Utterances that grow at the same time on one engine."""

    def __init__(self, engine: NativeEngine, longest: int) -> None:
        self._engine = engine
        ForcedRunner(engine)
        self._audio = recording("talk", longest, longest).chunks[0].samples
        self._numbers = itertools.count()

    def found(self, case: Case, count: int, target: float | None = None) -> Found | None:
        """So many streams; None where it is soon clear that too many steps take longer than the
        target."""
        reset_threads()
        measured: list[float] = []
        cpu = 0.0
        steps = case.steps * count
        for _ in range(max(1, math.ceil(LEAST_MEASURED / steps))):
            wave = _Wave(self._engine, case, count, self._chunks(case, count))
            delays = wave.run(None if target is None else (target, int(0.05 * steps)))
            if not delays:
                return None
            measured += delays
            cpu += wave.cpu_seconds
        return Found(count, measured, cpu / len(measured))

    def _chunks(self, case: Case, count: int) -> list[Iterator[ChunkRequest]]:
        self._engine.expect_live(True)
        return [self._growing(case, next(self._numbers)) for _ in range(count)]

    def _growing(self, case: Case, number: int) -> Iterator[ChunkRequest]:
        """The steps of one utterance, the one that is not measured first."""
        chance = random.Random(number)
        known = 0
        for seconds in case.lengths():
            before = tuple(map(token_at, range(known)))
            yield ChunkRequest(
                self._audio[: round(seconds * SAMPLE_RATE)],
                priority=Priority.LIVE_PARTIAL,
                utterance=None if case.policy == "full" else f"stream {number}",
                draft=_edited(before, case.edits, chance) if case.policy == "verify" else (),
                prefix=before[:-ROLLED_BACK] if case.policy.startswith("rollback") else (),
            )
            known = math.floor(seconds * TOKENS_PER_SECOND)


def _edited(draft: Sequence[int], percent: float, chance: random.Random) -> tuple[int, ...]:
    return tuple(WRONG if 100 * chance.random() < percent else token for token in draft)


class _Wave:
    """State of one run: whose step is due when, and what the engine has."""

    def __init__(
        self, engine: NativeEngine, case: Case, count: int, chunks: list[Iterator[ChunkRequest]]
    ) -> None:
        self._engine = engine
        self._case = case
        self._count = count
        self._chunks = chunks
        self._due: deque[tuple[float, int]] = deque()
        """Steps to come: moment and stream."""
        self._waiting: list[deque[float]] = [deque() for _ in range(count)]
        """Moments of each stream's steps that were due and are not answered; the first one is
        with the engine."""
        self._asked = [0] * count
        """Samples of each stream's latest step."""
        self._skipped = 0.0
        self._delays: list[float] = []
        self.cpu_seconds = 0.0
        """Of the steps that are measured, together."""
        self._utterances: set[str] = set()

    def run(self, limit: tuple[float, int] | None) -> list[float]:
        """Delays of all steps; none where more than so many took longer than so long."""
        if self._case.policy == "full":
            for steps in self._chunks:
                next(steps)
        else:
            self._prepare()
        self._plan()
        begun = time.process_time()
        try:
            while self._due or any(self._waiting):
                self._skip_idle()
                for key, answer in self._engine.step(self._admit):
                    self._receive(key[1], text_of(answer))
                if limit is not None and self._late(limit[0]) > limit[1]:
                    return []
            self.cpu_seconds = time.process_time() - begun
            return self._delays
        finally:
            self._clear()

    def _prepare(self) -> None:
        for stream in range(self._count):
            self._submit(stream)
        while self._engine.has_work:
            for _, answer in self._engine.step(_nothing):
                text_of(answer)

    def _plan(self) -> None:
        cadence = self._case.cadence
        start = self._now()
        for step in range(self._case.steps):
            for stream in range(self._count):
                self._due.append((start + (step + stream / self._count) * cadence, stream))

    def _now(self) -> float:
        return time.perf_counter() + self._skipped

    def _skip_idle(self) -> None:
        if not self._engine.has_work and self._due:
            self._skipped += max(0.0, self._due[0][0] - self._now())

    def _admit(self) -> None:
        now = self._now()
        while self._due and self._due[0][0] <= now:
            moment, stream = self._due.popleft()
            self._waiting[stream].append(moment)
            if len(self._waiting[stream]) == 1:
                self._submit(stream)

    def _submit(self, stream: int) -> None:
        chunk = next(self._chunks[stream])
        if chunk.utterance is not None:
            self._utterances.add(chunk.utterance)
        self._asked[stream] = len(chunk.samples)
        self._engine.submit(("live", stream), chunk)

    def _receive(self, stream: int, answer: ChunkText) -> None:
        expected = math.ceil(self._asked[stream] * TOKENS_PER_SECOND / SAMPLE_RATE)
        if answer.token_ids != tuple(map(token_at, range(expected))):
            raise RuntimeError(f"a stream did not say its text: {answer.token_ids}")
        self._delays.append(self._now() - self._waiting[stream].popleft())
        if self._waiting[stream]:
            self._submit(stream)

    def _late(self, target: float) -> int:
        now = self._now()
        waits = sum(now - moment > target for moments in self._waiting for moment in moments)
        return waits + sum(delay > target for delay in self._delays)

    def _clear(self) -> None:
        for stream, moments in enumerate(self._waiting):
            if moments:
                self._engine.cancel(("live", stream))
        for utterance in self._utterances:
            self._engine.end_utterance(utterance)
        while self._engine.has_work:
            self._engine.step(_nothing)


def _nothing() -> None:
    pass
