"""What a step of a growing utterance takes, by its length and by what is done again.

    python -m bench.live_steps [--seconds 5,10,20,30,60] [--model 1.7b] [--rounds 5] [--json out]

An utterance has a step every 2 s; measured is the one that reaches so many seconds, from submit to
answer, alone on the engine. All rows have the same audio and write the same text, 4 tokens a
second: what the model picks is replaced, so that random weights work as hard as real ones and old
text agrees with new as it does in speech.

* cached + verify: audio and KV rows are kept, all of the old text is verified.
* cached + verify, edits: every 20th token of the old text is wrong.
* cached + rollback: audio and KV rows are kept, the last 5 tokens are decoded again.
* rollback: only the text is kept, as the official package does.
* full: the audio so far as if it were a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.engines import TOKENS_PER_SECOND, forced_lengths, ready_engine, recording, text_of
from bench.measuring import Case, interleaved, repeated
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from worker.engine.interface import SAMPLE_RATE, ChunkRequest, ChunkText
from worker.engine.native import NativeEngine
from worker.engine.rows import DecodeRow, TokenRun
from worker.engine.runner import Launched
from worker.sequence import Priority

STEP_SECONDS = 2
ROLLED_BACK = 5
EDIT_EVERY = 20

POLICIES = (
    "cached + verify",
    "cached + verify, edits",
    "cached + rollback",
    "rollback",
    "full",
)

WRONG, _FIRST = 20, 30  # tokens that every vocabulary has and nothing means
_DIFFERENT = 150


def main() -> None:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--seconds", type=numbers, default=[5, 10, 20, 30, 60])
    options = arguments.parse_args()
    chosen = setting("live_steps", options)
    with forced_lengths():
        engine = ready_engine("native", chosen)
        assert isinstance(engine, NativeEngine)
        talk = Talk(engine, max(options.seconds))
        show(chosen, talk, options.seconds)
    chosen.report.close()


@dataclass(slots=True)
class Work:
    """Of one step."""

    windows: int = 0
    tokens: int = 0
    """Read in slices: prompt, prefix and draft."""
    passes: int = 0
    decode_steps: int = 0


class ForcedRunner:
    """Stands before the engine's runner: says the tokens of a text, and counts the work."""

    def __init__(self, engine: NativeEngine) -> None:
        self.work = Work()
        self._engine = engine
        self._inner: Any = engine._model.runner
        engine._model.runner = self  # type: ignore[assignment]

    def embed(self, token_ids: Sequence[int]) -> Any:
        return self._inner.embed(token_ids)

    def encode(self, windows: Sequence[Any]) -> Any:
        self.work.windows += len(windows)
        return self._inner.encode(windows)

    def extend(self, runs: Sequence[TokenRun]) -> ForcedPicks:
        self.work.tokens += sum(len(run.hidden) for run in runs)
        self.work.passes += 1
        prompts = self._prompt_tokens()
        ends = [(run.position + len(run.hidden) - prompts[run.slot], run.picks) for run in runs]
        places = [place for end, picks in ends for place in range(end - picks + 1, end + 1)]
        return ForcedPicks(self._inner.extend(runs), list(map(token_at, places)))

    def decode(self, rows: Sequence[DecodeRow]) -> ForcedPicks:
        self.work.decode_steps += 1
        prompts = self._prompt_tokens()
        places = [row.position + 1 - prompts[row.slot] for row in rows]
        return ForcedPicks(self._inner.decode(rows), list(map(token_at, places)))

    def _prompt_tokens(self) -> dict[int | None, int]:
        """By slot."""
        running = [progress.sequence for progress in self._engine._running.values()]
        return {sequence.slot: sequence.prompt_tokens for sequence in running}


@dataclass(frozen=True, slots=True)
class ForcedPicks:
    """A launched batch that is taken to have picked other tokens."""

    launched: Launched
    token_ids: list[int]

    def read(self) -> tuple[list[int], list[float]]:
        self.launched.read()
        return self.token_ids, []

    @property
    def seconds(self) -> float:
        return self.launched.seconds


def token_at(place: int) -> int:
    """The text that is said."""
    return _FIRST + place % _DIFFERENT


class Talk:
    """The steps of one utterance after the other on an engine."""

    def __init__(self, engine: NativeEngine, longest: int) -> None:
        self.runner = ForcedRunner(engine)
        self._engine = engine
        self._audio = recording("talk", longest, longest).chunks[0].samples
        self._steps = 0

    def begin(self, policy: str, seconds: int) -> None:
        """Up to the step before the one that is measured."""
        self._engine.end_utterance("talk")
        if policy.startswith("cached"):
            self._step("cached + verify", seconds - STEP_SECONDS, is_first=True)
        self.runner.work = Work()

    def step(self, policy: str, seconds: int) -> ChunkText:
        return self._step(policy, seconds)

    def _step(self, policy: str, seconds: int, *, is_first: bool = False) -> ChunkText:
        samples = self._audio[: seconds * SAMPLE_RATE]
        known = 0 if is_first else int((seconds - STEP_SECONDS) * TOKENS_PER_SECOND)
        before = tuple(map(token_at, range(known)))
        chunk = ChunkRequest(
            samples,
            priority=Priority.LIVE_PARTIAL,
            utterance="talk" if policy.startswith("cached") else None,
            draft=drafted(policy, before),
            prefix=before[:-ROLLED_BACK] if policy.endswith("rollback") else (),
        )
        self._steps += 1
        key = "talk", self._steps
        self._engine.submit(key, chunk)
        while self._engine.has_work:
            for _, answer in self._engine.step(_nothing):
                found = text_of(answer)
        expected = tuple(map(token_at, range(found.output_tokens)))
        if found.token_ids != expected or len(expected) != int(seconds * TOKENS_PER_SECOND):
            raise RuntimeError(f"{policy} did not say the text: {found.token_ids}")
        return found


def drafted(policy: str, before: tuple[int, ...]) -> tuple[int, ...]:
    """The old text, as far as the policy verifies it."""
    if not policy.startswith("cached + verify"):
        return ()
    is_edited = policy.endswith("edits")
    return tuple(
        WRONG if is_edited and place % EDIT_EVERY == EDIT_EVERY // 2 else token_id
        for place, token_id in enumerate(before)
    )


def show(chosen: Setting, talk: Talk, lengths: Sequence[int]) -> None:
    timings = interleaved(
        [
            Case(_name(policy, seconds), _measured(chosen, talk, policy, seconds))
            for seconds in lengths
            for policy in POLICIES
        ],
        chosen.rounds,
    )
    columns = [f"{seconds} s" for seconds in lengths]
    table = Table("ms of a step, by the audio so far", ["policy", *columns, "noise %"])
    for policy in POLICIES:
        rows = [timings[_name(policy, seconds)] for seconds in lengths]
        noise = max(row.noise for row in rows)
        table.add(policy, *(1000 * row.median for row in rows), 100 * noise)
    chosen.report.show(table)
    chosen.report.show(_work_table(talk, lengths))


def _measured(chosen: Setting, talk: Talk, policy: str, seconds: int) -> Any:
    def run() -> Sequence[float]:
        talk.begin(policy, seconds)
        return repeated(lambda: talk.step(policy, seconds), chosen.device, 1)()

    return run


def _work_table(talk: Talk, lengths: Sequence[int]) -> Table:
    columns = [f"{seconds} s" for seconds in lengths]
    table = Table("windows / tokens read / passes / decode steps of it", ["policy", *columns])
    for policy in POLICIES:
        cells = []
        for seconds in lengths:
            talk.begin(policy, seconds)
            talk.step(policy, seconds)
            work = talk.runner.work
            cells.append(f"{work.windows} / {work.tokens} / {work.passes} / {work.decode_steps}")
        table.add(policy, *cells)
    return table


def _name(policy: str, seconds: int) -> str:
    return f"{policy}, {seconds} s"


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main()
