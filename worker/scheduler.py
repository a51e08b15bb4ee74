"""What the native engine runs next. Pure: no clock, no tensor, no thread.

Owns which sequence has memory and what has been launched of each. Live sequences go before files;
costs in seconds come from `StepCosts`, which the engine feeds.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from worker.kv_arena import KvArena, Region
from worker.parked_regions import ParkedRegions
from worker.sequence import (
    Batch,
    DecodeStep,
    Encode,
    Extend,
    Priority,
    Sequence,
    TokenSlice,
    WindowSlice,
)
from worker.step_costs import LEAST_TOKENS, StepCosts
from worker.waiting import WaitingLine

__all__ = [
    "Batch",
    "DecodeStep",
    "Encode",
    "Extend",
    "Scheduler",
    "SequenceTooLarge",
    "TokenSlice",
    "WindowSlice",
]

SHARED_STEP_IS_DEAR = 1.5
"""From this multiple of its cost without files on, a decode step is for live sequences alone."""
ROWS_PER_ROW_KEPT_BACK = 8
"""Of so many rows one is kept for requests that hold none."""
SHARED_STEP_IS_WORTH = 4.0
"""Up to this multiple of what one row costs, a decode step for files may exceed its budget."""
SHARED_EVERY = 8
"""Of so many decode steps one is shared all the same. At three times the cost of a live step that
slows live text by a quarter and leaves files an eighth of their pace."""


class SequenceTooLarge(ValueError):
    """A sequence needs more of the KV cache than there is, whoever leaves."""


class Scheduler:
    """Decides batch by batch; `next_batch` counts what it hands out as launched.

    Launched work completes or its sequence is dropped. Everything launched later runs later, so a
    region may have a new owner while a step for the old one is still under way.
    """

    def __init__(
        self,
        arena: KvArena,
        costs: StepCosts,
        *,
        most_rows: int,
        live_step: float = 0.03,
        file_step: float = 0.25,
        most_windows: int = 32,
        most_tokens: int = 8192,
    ) -> None:
        """At most `most_rows` sequences are admitted at a time, in slots 0 to most_rows - 1.

        A batch should take `live_step` seconds while there is live work, else `file_step`.
        """
        if most_rows < 1 or most_windows < 1 or most_tokens < LEAST_TOKENS:
            raise ValueError("a batch needs a row, a window and 64 tokens at least")
        self.live_expected = False
        """Set while live sessions are open: files are cut as small as if live work were there."""
        self._arena = arena
        self._parked = ParkedRegions(arena)
        self._costs = costs
        self._most_rows = most_rows
        self._most_windows = self._planned_windows = most_windows
        self._most_tokens = self._planned_tokens = most_tokens
        self._live_step = live_step
        self._file_step = file_step
        self._sequences: dict[tuple[str, int], Sequence] = {}
        self._live = 0
        """How many of them are live."""
        self._waiting = {priority: WaitingLine() for priority in Priority}
        self._admitted: list[Sequence] = []
        """In order of admission."""
        self._slots = list(range(most_rows))
        """Free ones, a heap: the lowest first, so that tables stay dense."""
        self._preempted: dict[tuple[str, int], Sequence] = {}
        self._rotation: dict[Sequence, int] = {}
        """By file sequence, when it last had a decode step, counted in rows of files."""
        self._file_rows_launched = 0
        self._steps_without_files = 0
        """Decode steps in a row that left out files that were ready."""
        self._alone: str | None = None
        self._round = _Round()

    def __repr__(self) -> str:
        waiting = len(self._sequences) - len(self._admitted)
        alone = f", {self._alone} alone" if self._alone is not None else ""
        budget = f"{1000 * self.step_budget:.0f} ms"
        return (
            f"<Scheduler {waiting} waiting, {len(self._admitted)}/{self._most_rows} rows, "
            f"{budget} a step{alone}, {self._arena!r}>"
        )

    # --- sequences come and go --------------------------------------------------------------

    def add(self, sequence: Sequence) -> None:
        """It waits for its turn. SequenceTooLarge if its turn could never come."""
        if sequence.key in self._sequences:
            raise ValueError(f"{sequence.key} is here already")
        admitted = [region for other in self._admitted if (region := other.region) is not None]
        all_regions = admitted + self._parked.regions()
        if not self._arena.could_allocate(sequence.kv_tokens, without=all_regions):
            raise SequenceTooLarge(
                f"{sequence.kv_tokens} tokens do not fit into a KV cache of {self._arena.tokens}"
            )
        if sequence.utterance is not None:
            self._parked.limit(sequence.utterance, sequence.unchanged_tokens)
        self._sequences[sequence.key] = sequence
        self._live += sequence.is_live
        self._waiting[sequence.priority].add(sequence)

    def drop(self, key: tuple[str, int]) -> Sequence | None:
        """Forget a sequence, finished or not: its region and slot are free at once.

        None if it is not known. The sequence comes back without place and progress.
        """
        sequence = self._sequences.pop(key, None)
        if sequence is None:
            return None
        self._live -= sequence.is_live
        self._preempted.pop(key, None)
        if sequence.slot is None:
            self._waiting[sequence.priority].remove(sequence)
        else:
            self._release(sequence)
        return sequence

    def park(self, key: tuple[str, int]) -> Sequence | None:
        """As `drop`, but a step of an utterance leaves its region for the next one.

        Only the latest step of an utterance may: of an earlier one the rows could differ.
        """
        sequence = self._sequences.get(key)
        if sequence is None or sequence.utterance is None or sequence.region is None:
            return self.drop(key)
        rows = min(sequence.prefilled_tokens, sequence.prompt_tokens)
        self._parked.park(sequence.utterance, sequence.region, rows)
        sequence.region = None
        return self.drop(key)

    def forget(self, utterance: str) -> None:
        """What is parked of it is free."""
        self._parked.forget(utterance)

    def verify(self, sequence: Sequence, outputs: int, guessed: int) -> None:
        """The verdict is read: so many output tokens hold. The newest is to be read next, and so
        many guessed ones behind it are to be verified."""
        sequence.verify(outputs, guessed)

    def go_on(self, sequence: Sequence, *, is_checked: bool) -> None:
        """The verdict is read, and all that was launched holds. The next ones wait for theirs as
        well if `is_checked`."""
        sequence.awaits_verdict, sequence.is_checked = False, is_checked

    def run_alone(self, request_id: str | None) -> None:
        """Until told otherwise, run this request only, one sequence at a time; None: all.

        Others keep their place and progress unless it needs their memory.
        """
        self._alone = request_id

    def take_preempted(self) -> list[Sequence]:
        """Sequences that lost place and progress since the last call, and wait again.

        To be asked after every `next_batch`: what was launched of them is void.
        """
        preempted = list(self._preempted.values())
        self._preempted.clear()
        return preempted

    def halve_limit_of(self, batch: Batch) -> None:
        """This batch was too large for the device's memory: for now, at most half of it."""
        if isinstance(batch, Encode):
            self._most_windows = max(1, min(self._most_windows, batch.windows // 2))
        elif isinstance(batch, Extend):
            self._most_tokens = max(LEAST_TOKENS, min(self._most_tokens, batch.tokens // 2))

    def double_limits(self) -> None:
        """Memory has sufficed for long: try larger batches again, up to what was planned."""
        self._most_windows = min(2 * self._most_windows, self._planned_windows)
        self._most_tokens = min(2 * self._most_tokens, self._planned_tokens)

    # --- batches ----------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `next_batch` would give one."""
        if any(not sequence.is_launched for sequence in self._runnable()):
            return True
        candidate = self._next_waiting()
        return candidate is not None and self._victims_for(candidate) is not None

    @property
    def step_budget(self) -> float:
        """Seconds that a batch should take."""
        return self._live_step if self.live_expected or self._live else self._file_step

    def next_batch(self) -> Batch | None:
        """The next thing to launch; None if everything is launched or waits for memory."""
        self._admit()
        ready = self._runnable()
        prompts = [sequence for sequence in ready if not sequence.is_prefilled]
        budget = self.step_budget
        for _ in range(2):  # a round without decode steps ends when nothing else is allowed in it
            batch = (
                self._encode(prompts, budget)
                or self._extend(prompts, budget)
                or self._decode_step(ready, budget)
            )
            if batch is not None:
                return batch
            self._round.end()
        return None

    def _encode(self, prompts: list[Sequence], budget: float) -> Encode | None:
        room = min(self._most_windows, self._costs.windows_within(budget))
        chosen = self._prompt_work(prompts, lambda sequence: not sequence.is_encoded)
        parts: list[WindowSlice] = []
        for sequence in chosen:
            count = min(sequence.windows - sequence.encoded_windows, room)
            if count == 0:
                break
            parts.append(WindowSlice(sequence, sequence.encoded_windows, count))
            room -= count
        if not parts or not self._round.allows(Encode, parts[0].sequence.is_live):
            return None
        for part in parts:
            part.sequence.encoded_windows += part.count
        return Encode(tuple(parts))

    def _extend(self, prompts: list[Sequence], budget: float) -> Extend | None:
        room = min(self._most_tokens, self._costs.tokens_within(budget))
        chosen = self._prompt_work(prompts, lambda sequence: sequence.is_encoded)
        slices: list[TokenSlice] = []
        for sequence in chosen:
            left = sequence.given_tokens - sequence.prefilled_tokens
            if room < min(left, LEAST_TOKENS):
                break  # a crumb of a prompt costs a whole slice's overhead
            # A crumb at the end would cost nearly what a whole slice does.
            taken = sum(piece.count for piece in slices)
            fits_whole = left < room + LEAST_TOKENS and taken + left <= self._most_tokens
            count = left if fits_whole else room
            slices.append(TokenSlice(sequence, sequence.prefilled_tokens, count, count == left))
            room = max(0, room - count)
        if not slices or not self._round.allows(Extend, slices[0].sequence.is_live):
            return None
        for piece in slices:
            sequence = piece.sequence
            sequence.prefilled_tokens += piece.count
            if piece.is_last:
                sequence.decoded_tokens = sequence.given_tokens - sequence.prompt_tokens + 1
                sequence.awaits_verdict = sequence.is_checked
        return Extend(tuple(slices))

    def _prompt_work(
        self, prompts: list[Sequence], needs: Callable[[Sequence], bool]
    ) -> list[Sequence]:
        """Sequences with that need in their turn; no file while live work waits elsewhere."""
        candidates = [sequence for sequence in prompts if needs(sequence)]
        live = sum(sequence.is_live for sequence in candidates)
        if live < sum(sequence.is_live for sequence in prompts):
            candidates = [sequence for sequence in candidates if sequence.is_live]
        if len(candidates) < 2:
            return candidates
        # Turns count what is decoded already too: what a film has behind its first chunk comes
        # after a newcomer, however far that first chunk is.
        turns = _turns(self._admitted)
        return sorted(candidates, key=turns.__getitem__)

    def _decode_step(self, ready: list[Sequence], budget: float) -> DecodeStep | None:
        running = [sequence for sequence in ready if sequence.decodes]
        live = [sequence for sequence in running if sequence.is_live]
        files = [sequence for sequence in running if not sequence.is_live]
        rows = live + self._file_rows(len(live), files, budget)
        if not rows:
            return None
        left_out = bool(files) and len(rows) == len(live)
        self._steps_without_files = self._steps_without_files + 1 if left_out else 0
        for sequence in rows:
            sequence.decoded_tokens += 1
            sequence.awaits_verdict = sequence.is_checked
            if not sequence.is_live:
                self._file_rows_launched += 1
                self._rotation[sequence] = self._file_rows_launched
        self._round.end()
        return DecodeStep(tuple(rows))

    def _file_rows(self, live: int, files: list[Sequence], budget: float) -> list[Sequence]:
        """The file sequences that join a decode step of so many live ones."""
        room = self._most_decoded(budget) - live
        is_their_turn = self._steps_without_files >= SHARED_EVERY - 1
        if live and not is_their_turn:
            shared = live + min(len(files), max(room, 1))
            dear = SHARED_STEP_IS_DEAR * self._costs.decode_seconds(live)
            if room < 1 or self._costs.decode_seconds(shared) > dear:
                return []
        if room >= len(files):
            return files
        longest_ago = sorted(files, key=lambda sequence: self._rotation.get(sequence, 0))
        return longest_ago[: max(room, 1)]

    def _most_decoded(self, budget: float) -> int:
        """Rows of a decode step that takes as long as it should. Where even one row takes longer,
        a machine reads weights most of that time: a step for many is little dearer, and while
        nobody live waits it serves more."""
        rows = self._costs.rows_within(budget)
        if budget < self._file_step:
            return rows
        worth = self._costs.rows_within(SHARED_STEP_IS_WORTH * self._costs.decode_seconds(1))
        return max(rows, worth)

    # --- admission --------------------------------------------------------------------------

    def _runnable(self) -> list[Sequence]:
        """Admitted sequences that may be batched now."""
        if self._alone is None:
            return self._admitted
        own = [seq for seq in self._admitted if seq.request_id == self._alone]
        return [min(own, key=lambda seq: seq.key[1])] if own else []

    def _admit(self) -> None:
        """Give memory to those whose turn it is, until one has to wait: nobody overtakes it."""
        while (sequence := self._next_waiting()) is not None:
            victims = self._victims_for(sequence)
            if victims is None:
                return
            for victim in victims:
                self._preempt(victim)
            self._place(sequence)

    def _next_waiting(self) -> Sequence | None:
        if self._alone is not None and self._runnable():
            return None
        for line in self._waiting.values():
            sequence = line.first(self._alone)
            if sequence is not None:
                return self._next_in(line) or sequence
        return None

    def _next_in(self, line: WaitingLine) -> Sequence | None:
        """Whose turn it is among those that the rows kept back do not hold up."""
        free = len(self._slots)
        if self._alone is not None or not 0 < free <= self._most_rows // ROWS_PER_ROW_KEPT_BACK:
            return None
        holders = {sequence.request_id for sequence in self._admitted}
        return next((seq for seq in line.in_turn() if seq.request_id not in holders), None)

    def _place(self, sequence: Sequence) -> None:
        sequence.region = self._region_for(sequence)
        self._waiting[sequence.priority].take(sequence)
        sequence.slot = heappop(self._slots)
        sequence.admissions += 1
        self._admitted.append(sequence)

    def _region_for(self, sequence: Sequence) -> Region:
        """Its utterance's own with what holds good in it, or another. What others have parked goes
        for what it needs, not for what it would like."""
        utterance = sequence.utterance
        if utterance is not None and (own := self._parked.region_of(utterance)) is not None:
            if own.tokens >= sequence.kv_tokens:
                region, sequence.prefilled_tokens = self._parked.take(utterance)
                return region
            self._parked.forget(utterance)
        roomy = max(sequence.roomy_tokens, sequence.kv_tokens)
        if (free := self._arena.allocate(roomy)) is not None:
            return free
        self._parked.make_room(sequence.kv_tokens)
        found = self._arena.allocate(sequence.kv_tokens)
        assert found is not None
        return found

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        if sequence.region is not None:
            self._arena.free(sequence.region)
        heappush(self._slots, sequence.slot)
        self._admitted.remove(sequence)
        self._rotation.pop(sequence, None)
        sequence.start_over()

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        self._waiting[sequence.priority].put_back(sequence)
        self._preempted[sequence.key] = sequence

    def _victims_for(self, sequence: Sequence) -> list[Sequence] | None:
        """Who has to leave so that it fits: often nobody. None: it has to wait."""
        if self._fits(sequence, ()):
            return []
        candidates = self._preemptible_for(sequence)
        if not candidates or not self._fits(sequence, candidates):
            return None
        victims: list[Sequence] = []
        while not self._fits(sequence, victims):
            victims.append(candidates.pop())
        # Regions that lie elsewhere do not help: they stay.
        for victim in victims[:-1]:
            others = [other for other in victims if other is not victim]
            if self._fits(sequence, others):
                victims = others
        return victims

    def _fits(self, sequence: Sequence, without: Iterable[Sequence]) -> bool:
        regions: list[Region] = [region for other in without if (region := other.region)]
        if len(self._slots) + len(regions) <= self._kept_back(sequence):
            return False
        own = self._parked.region_of(sequence.utterance)
        if own is not None and own.tokens >= sequence.kv_tokens:
            return True
        going = regions + self._parked.regions()
        return self._arena.could_allocate(sequence.kv_tokens, without=going)

    def _kept_back(self, sequence: Sequence) -> int:
        """Slots that this sequence must leave free: some are for requests that hold none yet, or a
        film would hold all of them when the next request comes."""
        if sequence.is_live or self._alone is not None:
            return 0
        is_newcomer = all(other.request_id != sequence.request_id for other in self._admitted)
        return 0 if is_newcomer else self._most_rows // ROWS_PER_ROW_KEPT_BACK

    def _preemptible_for(self, sequence: Sequence) -> list[Sequence]:
        """Whom it may displace, the first to go at the end."""
        if self._alone is not None:
            others = self._admitted
        elif sequence.is_live:
            others = [other for other in self._admitted if not other.is_live]
        else:
            return []
        return sorted(others, key=lambda other: other.priority)


class _Round:
    """What was launched since the last decode step.

    Between two decode steps at most one Encode and one Extend run, so that running sequences go
    on. Live work that arrives in the midst of a round of files may still have one of each.
    """

    def __init__(self) -> None:
        self._launched: set[tuple[type[Encode | Extend], bool]] = set()

    def allows(self, kind: type[Encode | Extend], is_live: bool) -> bool:
        """Whether such a batch may run in this round; if so it counts as launched."""
        if (kind, True) in self._launched or (not is_live and (kind, False) in self._launched):
            return False
        self._launched.add((kind, is_live))
        return True

    def end(self) -> None:
        """A decode step runs, or could not."""
        self._launched.clear()


def _turns(sequences: list[Sequence]) -> dict[Sequence, tuple[Priority, int]]:
    """By class; within a class the first of every request, then the second of every request."""
    seen: Counter[tuple[Priority, str]] = Counter()
    turns: dict[Sequence, tuple[Priority, int]] = {}
    for sequence in sequences:
        group = sequence.priority, sequence.request_id
        turns[sequence] = sequence.priority, seen[group]
        seen[group] += 1
    return turns
