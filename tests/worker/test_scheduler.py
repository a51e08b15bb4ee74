"""What the native engine runs next, on a simulated clock."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kv_arena import KvArena
from worker.scheduler import SHARED_EVERY, Batch, Scheduler, SequenceTooLarge
from worker.sequence import DecodeStep, Encode, Extend, Priority, Sequence
from worker.step_costs import LinearCost, StepCosts

LIVE_STEP, FILE_STEP = 0.03, 0.25
ENCODE, EXTEND, DECODE = (
    LinearCost(0.002, 0.001),
    LinearCost(0.002, 0.00005),
    LinearCost(0.002, 0.0005),
)


def a_scheduler(
    tokens: int = 64_000, rows: int = 16, *, costs: StepCosts | None = None, most_tokens: int = 8192
) -> Scheduler:
    return Scheduler(
        KvArena(tokens),
        costs or StepCosts(ENCODE, EXTEND, DECODE),
        most_rows=rows,
        live_step=LIVE_STEP,
        file_step=FILE_STEP,
        most_tokens=most_tokens,
    )


def a_sequence(
    request_id: str = "film",
    index: int = 0,
    priority: Priority = Priority.INTERACTIVE,
    *,
    windows: int = 4,
    prompt: int = 400,
    new: int = 20,
) -> Sequence:
    return Sequence((request_id, index), priority, windows, prompt, new)


def live(name: str = "talk", *, final: bool = False, new: int = 5) -> Sequence:
    priority = Priority.LIVE_FINAL if final else Priority.LIVE_PARTIAL
    return a_sequence(name, priority=priority, windows=1, prompt=100, new=new)


def members(batch: Batch) -> list[Sequence]:
    if isinstance(batch, Encode):
        return [part.sequence for part in batch.parts]
    if isinstance(batch, Extend):
        return [piece.sequence for piece in batch.slices]
    return list(batch.sequences)


def names(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [sequence.request_id for sequence in members(batch)]


@dataclass
class Step:
    start: float
    end: float
    batch: Batch

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def has_live(self) -> bool:
        return any(sequence.is_live for sequence in members(self.batch))


@dataclass
class Simulation:
    """An engine with true costs: time passes batch by batch, and finished sequences are dropped.

    `outputs` says after how many tokens a sequence ends, where that is before the most it may have.
    """

    scheduler: Scheduler
    costs: StepCosts
    true: dict[type, LinearCost] = field(
        default_factory=lambda: {Encode: ENCODE, Extend: EXTEND, DecodeStep: DECODE}
    )
    outputs: dict[tuple[str, int], int] = field(default_factory=dict)
    now: float = 0.0
    steps: list[Step] = field(default_factory=list)
    finished: dict[tuple[str, int], float] = field(default_factory=dict)
    arrived: dict[tuple[str, int], float] = field(default_factory=dict)
    preempted: list[Sequence] = field(default_factory=list)
    done: dict[Sequence, tuple[int, int, int]] = field(default_factory=dict)
    """Work seen in batches: windows, prompt tokens, output tokens."""

    def run(
        self,
        arrivals: Iterable[tuple[float, Sequence]] = (),
        until: Callable[[], bool] | None = None,
    ) -> None:
        waiting = sorted(arrivals, key=lambda arrival: arrival[0])
        while until is None or not until():
            while waiting and waiting[0][0] <= self.now:
                self.arrive(*waiting.pop(0))
            if not self.step():
                if not waiting:
                    return
                self.now = max(self.now, waiting[0][0])
            assert len(self.steps) < 20_000, "no end in sight"

    def arrive(self, at: float, sequence: Sequence) -> None:
        self.arrived[sequence.key] = at
        self.done[sequence] = 0, 0, 0
        self.scheduler.add(sequence)

    def step(self) -> bool:
        had_work = self.scheduler.has_work
        batch = self.scheduler.next_batch()
        assert had_work == (batch is not None)
        for sequence in self.scheduler.take_preempted():
            self.preempted.append(sequence)
            self.done[sequence] = 0, 0, 0
        if batch is None:
            return False
        seconds = self.true[type(batch)].seconds(size_of(batch))
        self.check_places(batch)
        self.steps.append(Step(self.now, self.now + seconds, batch))
        self.now += seconds
        self.costs.observe(batch, seconds)
        self.account(batch)
        return True

    def check_places(self, batch: Batch) -> None:
        sequences = members(batch)
        assert len(set(sequences)) == len(sequences)
        places = [(sequence.region, sequence.slot) for sequence in sequences]
        assert all(region is not None and slot is not None for region, slot in places)
        assert len({slot for _, slot in places}) == len(sequences)

    def account(self, batch: Batch) -> None:
        if isinstance(batch, Encode):
            for part in batch.parts:
                windows, tokens, output = self.done[part.sequence]
                assert part.first == windows
                self.done[part.sequence] = windows + part.count, tokens, output
        elif isinstance(batch, Extend):
            for piece in batch.slices:
                windows, tokens, output = self.done[piece.sequence]
                assert windows == piece.sequence.windows, "no prompt before its windows"
                assert piece.first == tokens
                tokens += piece.count
                assert piece.is_last == (tokens == piece.sequence.prompt_tokens)
                self.done[piece.sequence] = windows, tokens, output + piece.is_last
        else:
            for sequence in batch.sequences:
                windows, tokens, output = self.done[sequence]
                assert tokens == sequence.prompt_tokens, "no decode step before the prompt"
                self.done[sequence] = windows, tokens, output + 1
        for sequence in members(batch):
            *_, output = self.done[sequence]
            assert output <= sequence.max_new_tokens
            if output == self.outputs.get(sequence.key, sequence.max_new_tokens):
                self.finished[sequence.key] = self.now
                assert self.scheduler.drop(sequence.key) is sequence


def size_of(batch: Batch) -> int:
    if isinstance(batch, Encode):
        return batch.windows
    return batch.tokens if isinstance(batch, Extend) else len(batch.sequences)


def a_simulation(tokens: int = 64_000, rows: int = 16, most_tokens: int = 8192) -> Simulation:
    costs = StepCosts(ENCODE, EXTEND, DECODE)
    return Simulation(a_scheduler(tokens, rows, costs=costs, most_tokens=most_tokens), costs)


# --- one sequence --------------------------------------------------------------------------------


def test_a_sequence_is_encoded_then_prefilled_then_decoded_to_its_end() -> None:
    simulation = a_simulation()
    simulation.run([(0.0, a_sequence(windows=2, prompt=300, new=3))])

    assert [type(step.batch) for step in simulation.steps] == [
        Encode,
        Extend,
        DecodeStep,
        DecodeStep,
    ]
    assert set(simulation.finished) == {("film", 0)}


def test_the_last_slice_of_the_prompt_yields_the_first_token() -> None:
    scheduler, sequence = a_scheduler(), a_sequence(windows=1, prompt=100, new=2)
    scheduler.add(sequence)
    scheduler.next_batch()
    assert (sequence.encoded_windows, sequence.kv_rows) == (1, 0)
    scheduler.next_batch()
    assert (sequence.decoded_tokens, sequence.kv_rows) == (1, 100)
    scheduler.next_batch()
    assert (sequence.decoded_tokens, sequence.kv_rows) == (2, 101)
    assert scheduler.next_batch() is None


def test_a_sequence_whose_tokens_are_all_launched_keeps_its_memory_until_it_is_dropped() -> None:
    scheduler, sequence = a_scheduler(tokens=512, rows=1), a_sequence(new=1)
    scheduler.add(sequence)
    scheduler.add(a_sequence("memo"))
    scheduler.next_batch()
    scheduler.next_batch()

    assert not scheduler.has_work
    assert scheduler.next_batch() is None
    scheduler.drop(sequence.key)
    assert names(scheduler.next_batch()) == ["memo"]


def test_a_long_prompt_is_cut_where_the_budget_ends() -> None:
    simulation = a_simulation()
    simulation.scheduler.live_expected = True
    simulation.run([(0.0, a_sequence(windows=40, prompt=2000, new=2))])

    extends = [step for step in simulation.steps if isinstance(step.batch, Extend)]
    assert len(extends) > 3
    assert max(step.seconds for step in simulation.steps) <= LIVE_STEP + 1e-9


def test_what_could_never_fit_is_refused_at_once() -> None:
    arena = KvArena(1024)
    arena.allocate(64)
    scheduler = Scheduler(arena, StepCosts(), most_rows=4)
    scheduler.add(a_sequence("fits", prompt=900, new=60))
    scheduler.next_batch()

    with pytest.raises(SequenceTooLarge, match="1000 tokens"):
        scheduler.add(a_sequence("film", prompt=900, new=100))
    assert scheduler.drop(("film", 0)) is None


def test_a_sequence_is_added_once() -> None:
    scheduler = a_scheduler()
    scheduler.add(a_sequence())

    with pytest.raises(ValueError, match="already"):
        scheduler.add(a_sequence())


@pytest.mark.parametrize("wrong", [{"windows": -1}, {"prompt": 0}, {"new": 0}])
def test_a_sequence_that_asks_for_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needs a prompt"):
        a_sequence(**wrong)  # type: ignore[arg-type]


# --- turns ---------------------------------------------------------------------------------------


def test_a_short_file_waits_for_its_turn_and_not_for_a_film() -> None:
    simulation = a_simulation(rows=1)
    film = [(0.0, a_sequence("film", index)) for index in range(5)]
    simulation.run([*film, (0.001, a_sequence("memo"))])

    assert list(simulation.finished) == [
        ("film", 0),
        ("film", 1),
        ("memo", 0),
        ("film", 2),
        ("film", 3),
        ("film", 4),
    ]


def test_a_short_file_is_encoded_before_the_rest_of_a_film_that_has_its_memory_already() -> None:
    scheduler = a_scheduler()
    for index in range(10):
        scheduler.add(a_sequence("film", index, windows=30))
    first = scheduler.next_batch()
    scheduler.add(a_sequence("memo", windows=2))
    while not isinstance(batch := scheduler.next_batch(), Encode):
        assert batch is not None

    assert names(first) == ["film", "film"]
    assert names(batch)[:2] == ["memo", "film"]


def test_chunks_of_one_request_run_in_order_whatever_order_they_came_in() -> None:
    simulation = a_simulation(rows=1)
    simulation.run([(0.0, a_sequence(index=index)) for index in (2, 0, 1)])

    assert [index for _, index in simulation.finished] == [0, 1, 2]


def test_bulk_waits_while_interactive_work_waits() -> None:
    simulation = a_simulation(rows=2)
    bulk = [(0.0, a_sequence("bulk", index, Priority.BULK)) for index in range(4)]
    simulation.run([*bulk, *((0.01, a_sequence("file", index)) for index in range(4))])

    last_file = max(simulation.finished["file", index] for index in range(4))
    assert all(simulation.finished["bulk", index] > last_file for index in (2, 3))


def test_finals_go_before_partials() -> None:
    scheduler = a_scheduler(rows=2)
    for sequence in (live("partial"), live("other"), live("final", final=True)):
        scheduler.add(sequence)

    assert names(scheduler.next_batch()) == ["final", "partial"]


def test_a_large_chunk_is_not_overtaken_by_small_ones_of_its_class_or_below() -> None:
    scheduler = a_scheduler(tokens=2048)
    first = a_sequence("first", prompt=900, new=60)
    scheduler.add(first)
    scheduler.next_batch()
    scheduler.add(a_sequence("large", prompt=1500, new=60))
    scheduler.add(a_sequence("small", prompt=100, new=20))
    scheduler.add(a_sequence("bulk", 0, Priority.BULK, prompt=100, new=20))
    while (batch := scheduler.next_batch()) is not None:
        assert names(batch) == ["first"]
    scheduler.drop(first.key)

    assert names(scheduler.next_batch())[:2] == ["large", "small"]


# --- live work -----------------------------------------------------------------------------------


def test_live_work_goes_first_and_files_fill_what_is_left_of_the_budget() -> None:
    scheduler = a_scheduler()
    scheduler.add(a_sequence("film", windows=100))
    scheduler.add(live())
    batch = scheduler.next_batch()

    assert isinstance(batch, Encode)
    assert names(batch) == ["talk", "film"]
    assert ENCODE.seconds(batch.windows) <= LIVE_STEP


def test_files_do_not_run_while_live_work_waits_for_the_rest_of_its_prompt() -> None:
    scheduler = a_scheduler()
    scheduler.add(a_sequence("film", windows=100))
    talk = a_sequence("talk", priority=Priority.LIVE_FINAL, windows=60, prompt=3000, new=5)
    scheduler.add(talk)
    seen = []
    while not talk.is_prefilled:
        batch = scheduler.next_batch()
        assert batch is not None
        seen.append(batch)
        if (type(batch), talk.is_encoded) != (Encode, True) and not talk.is_prefilled:
            assert names(batch) == ["talk"]  # its last windows leave room in their batch
    encodes = [batch for batch in seen if isinstance(batch, Encode)]
    assert all(talk in members(batch) for batch in encodes)

    assert len(seen) > 4


def test_live_work_that_comes_amid_a_round_of_files_does_not_wait_for_the_round() -> None:
    scheduler = a_scheduler()
    running = a_sequence("running", new=50)
    scheduler.add(running)
    while not running.is_prefilled:
        scheduler.next_batch()
    scheduler.next_batch()
    scheduler.add(a_sequence("film"))
    assert names(scheduler.next_batch()) == ["film"]
    scheduler.add(live())

    kinds = [(type(batch), names(batch)[0]) for batch in (scheduler.next_batch() for _ in "ab")]
    assert kinds == [(Encode, "talk"), (Extend, "talk")]


def test_a_cheap_decode_step_is_shared_with_files() -> None:
    scheduler = a_scheduler(costs=StepCosts(ENCODE, EXTEND, LinearCost(0.01, 0.0001)))
    sequences = [live(new=50), a_sequence("film", new=50)]
    start_decoding(scheduler, sequences)

    assert names(scheduler.next_batch()) == ["talk", "film"]


def test_a_dear_decode_step_is_for_live_work_but_every_eighth() -> None:
    scheduler = a_scheduler(costs=StepCosts(ENCODE, EXTEND, LinearCost(0.001, 0.01)))
    talk = live(new=100)
    start_decoding(scheduler, [talk, *(a_sequence(name, new=100) for name in ("film", "memo"))])
    steps = [names(scheduler.next_batch()) for _ in range(4 * SHARED_EVERY)]

    shared = [position for position, step in enumerate(steps) if len(step) > 1]
    assert {later - earlier for earlier, later in pairwise(shared)} == {8}
    assert all("talk" in step for step in steps)
    assert {name for position in shared for name in steps[position]} >= {"film", "memo"}


def test_when_decode_steps_are_dearer_than_the_budget_files_take_turns_in_them() -> None:
    scheduler = a_scheduler(costs=StepCosts(ENCODE, EXTEND, LinearCost(0.0, 0.3)))
    start_decoding(scheduler, [a_sequence(name, new=50) for name in "abcdef"])

    steps = [names(scheduler.next_batch()) for _ in range(6)]
    assert [len(step) for step in steps] == [4] * 6
    counts = {name: sum(name in step for step in steps) for name in "abcdef"}
    assert counts == dict.fromkeys("abcdef", 4)


def test_where_one_row_exceeds_the_budget_a_step_serves_as_many_as_cost_little_more() -> None:
    """A slow machine reads all weights for every step, however many rows it has."""
    scheduler = a_scheduler(costs=StepCosts(ENCODE, EXTEND, LinearCost(0.3, 0.05)))
    start_decoding(scheduler, [a_sequence(name, new=50) for name in "abcdefgh"])

    assert names(scheduler.next_batch()) == list("abcdefgh")


def test_beside_live_work_a_step_stays_within_its_budget_all_the_same() -> None:
    scheduler = a_scheduler(costs=StepCosts(ENCODE, EXTEND, LinearCost(0.02, 0.004)))
    talk = live(new=100)
    start_decoding(scheduler, [talk, *(a_sequence(name, new=100) for name in "abcdefgh")])

    assert all(len(names(scheduler.next_batch())) <= 2 for _ in range(20))


def test_a_newcomer_goes_before_what_a_film_has_behind_its_first_chunk() -> None:
    costs = StepCosts(LinearCost(0.0, 0.2), LinearCost(0.0, 0.0004), DECODE)
    scheduler = a_scheduler(costs=costs)  # a window, or 625 tokens, fill a batch
    for index in range(12):
        scheduler.add(a_sequence("film", index))
    first_work = [names(scheduler.next_batch()) for _ in range(8)]
    scheduler.add(a_sequence("memo"))

    then = [names(scheduler.next_batch())[0] for _ in range(14)]
    assert set(map(tuple, first_work)) == {("film",)}
    # A window, a decode step, ... of the film may come in between, but no further chunk's prompt.
    assert then.count("memo") >= 5


def test_a_film_leaves_rows_for_whoever_comes_next() -> None:
    scheduler = a_scheduler(rows=16)
    for index in range(40):
        scheduler.add(a_sequence("film", index, new=1000))
    start_decoding(scheduler, [])
    for _ in range(100):
        scheduler.next_batch()
    memo = a_sequence("memo")
    scheduler.add(memo)
    scheduler.next_batch()

    assert memo.region is not None


def test_of_few_rows_none_is_kept_back() -> None:
    scheduler = a_scheduler(rows=2)
    film = [a_sequence("film", index) for index in range(2)]
    for sequence in film:
        scheduler.add(sequence)
    scheduler.next_batch()

    assert all(sequence.region is not None for sequence in film)


def test_no_crumb_of_a_prompt_is_left_for_a_batch_of_its_own() -> None:
    costs = StepCosts(ENCODE, LinearCost(0.0, 0.25 / 100), DECODE)  # 100 tokens fill a batch
    scheduler = a_scheduler(costs=costs)
    scheduler.add(a_sequence(prompt=103))
    batches = [scheduler.next_batch() for _ in range(2)]

    assert isinstance(batches[1], Extend)
    assert batches[1].tokens == 103


def test_limits_halved_for_want_of_memory_grow_back_to_the_plan() -> None:
    scheduler = a_scheduler(most_tokens=1000)
    film = a_sequence(prompt=1000, windows=1)
    scheduler.add(film)
    scheduler.next_batch()
    batch = scheduler.next_batch()
    assert isinstance(batch, Extend)
    scheduler.halve_limit_of(batch)

    def tokens_of_next() -> int:
        scheduler.add(a_sequence("memo", prompt=1000, windows=1))
        sizes = []
        while sum(sizes) < 1000:
            batch = scheduler.next_batch()
            if isinstance(batch, Extend):
                sizes.append(batch.tokens)
        scheduler.drop(("memo", 0))
        return max(sizes)

    scheduler.drop(film.key)
    assert tokens_of_next() < 600
    scheduler.double_limits()
    scheduler.double_limits()
    assert tokens_of_next() == 1000


def start_decoding(scheduler: Scheduler, sequences: list[Sequence]) -> None:
    for sequence in sequences:
        scheduler.add(sequence)
    while not all(sequence.is_prefilled for sequence in sequences):
        scheduler.next_batch()


def test_files_are_cut_small_while_live_work_is_expected() -> None:
    scheduler = a_scheduler()
    assert scheduler.step_budget == FILE_STEP
    scheduler.live_expected = True
    assert scheduler.step_budget == LIVE_STEP
    scheduler.live_expected = False
    scheduler.add(live())
    assert scheduler.step_budget == LIVE_STEP
    scheduler.drop(("talk", 0))
    assert scheduler.step_budget == FILE_STEP


# --- memory --------------------------------------------------------------------------------------


def test_live_work_displaces_the_latest_of_bulk_then_of_interactive_work() -> None:
    scheduler = a_scheduler(tokens=4 * 448)
    files = [
        a_sequence("bulk", 0, Priority.BULK),
        a_sequence("bulk", 1, Priority.BULK),
        a_sequence("file", 0),
        a_sequence("file", 1),
    ]
    for sequence in files:
        scheduler.add(sequence)
        scheduler.next_batch()
    displaced = []
    for name in ("one", "two", "three", "four"):
        talk = a_sequence(name, priority=Priority.LIVE_PARTIAL)
        scheduler.add(talk)
        scheduler.next_batch()
        assert talk.region is not None
        displaced += [sequence.key for sequence in scheduler.take_preempted()]

    assert displaced == [("bulk", 1), ("bulk", 0), ("file", 1), ("file", 0)]
    assert all(sequence.region is None and sequence.encoded_windows == 0 for sequence in files)


def test_live_work_displaces_nobody_when_that_would_not_help() -> None:
    scheduler = a_scheduler(tokens=1024)
    talk = a_sequence("talk", priority=Priority.LIVE_FINAL, prompt=500, new=60)
    film = a_sequence("film", prompt=300, new=60)
    scheduler.add(talk)
    scheduler.add(film)
    scheduler.next_batch()
    scheduler.add(a_sequence("more", priority=Priority.LIVE_FINAL, prompt=700, new=60))
    scheduler.next_batch()

    assert film.region is not None
    assert scheduler.take_preempted() == []


def test_only_those_whose_memory_helps_are_displaced() -> None:
    scheduler = a_scheduler(tokens=1024)
    wide = a_sequence("wide", prompt=700, new=50)
    narrow = a_sequence("narrow", prompt=100, new=20)
    for sequence in (wide, narrow):
        scheduler.add(sequence)
        scheduler.next_batch()
    scheduler.add(a_sequence("talk", priority=Priority.LIVE_FINAL, prompt=600, new=60))
    scheduler.next_batch()

    assert scheduler.take_preempted() == [wide]
    assert narrow.region is not None


def test_batches_stay_below_half_of_one_that_was_too_large_for_the_device() -> None:
    scheduler = a_scheduler()
    scheduler.add(a_sequence("film", windows=100, prompt=5000))
    first = scheduler.next_batch()
    assert isinstance(first, Encode)
    assert first.windows == 32
    scheduler.halve_limit_of(first)
    while isinstance(batch := scheduler.next_batch(), Encode):
        assert batch.windows <= 16

    assert isinstance(batch, Extend)
    assert batch.tokens > 4000, "the other kind keeps its limit"


def test_a_displaced_sequence_returns_first_of_its_class_and_starts_over() -> None:
    scheduler = a_scheduler(tokens=512)
    film = a_sequence("film", new=50)
    scheduler.add(film)
    scheduler.add(a_sequence("film", 1, new=50))
    scheduler.add(a_sequence("memo", new=50))
    while not film.is_prefilled:
        scheduler.next_batch()
    scheduler.add(a_sequence("talk", priority=Priority.LIVE_FINAL, new=50))
    assert names(scheduler.next_batch()) == ["talk"]
    assert scheduler.take_preempted() == [film]
    assert scheduler.take_preempted() == []
    assert (film.prefilled_tokens, film.decoded_tokens, film.slot) == (0, 0, None)
    scheduler.drop(("talk", 0))

    batch = scheduler.next_batch()
    assert isinstance(batch, Encode)
    assert [(part.sequence.key, part.first) for part in batch.parts] == [(("film", 0), 0)]
    assert film.admissions == 2


def test_a_displaced_sequence_that_is_dropped_is_not_reported() -> None:
    scheduler = a_scheduler(tokens=512)
    scheduler.add(a_sequence("film", new=50))
    scheduler.next_batch()
    scheduler.add(a_sequence("talk", priority=Priority.LIVE_FINAL, new=50))
    scheduler.next_batch()
    scheduler.drop(("film", 0))

    assert scheduler.take_preempted() == []


def test_a_dropped_sequence_gives_back_region_and_slot_at_once() -> None:
    arena = KvArena(1024)
    scheduler = Scheduler(arena, StepCosts(), most_rows=1)
    sequence = a_sequence(new=50)
    scheduler.add(sequence)
    scheduler.add(a_sequence("memo"))
    scheduler.next_batch()
    assert arena.free_tokens == 512

    assert scheduler.drop(("film", 0)) is sequence
    assert arena.free_tokens == 1024
    assert (sequence.region, sequence.slot) == (None, None)
    assert scheduler.drop(("film", 0)) is None
    batch = scheduler.next_batch()
    assert names(batch) == ["memo"]
    assert batch is not None
    assert members(batch)[0].slot == 0


def test_a_waiting_sequence_can_be_dropped() -> None:
    scheduler = a_scheduler(rows=1)
    for index in range(3):
        scheduler.add(a_sequence(index=index))
    scheduler.next_batch()
    scheduler.drop(("film", 1))
    scheduler.drop(("film", 0))
    batch = scheduler.next_batch()

    assert batch is not None
    assert [sequence.key for sequence in members(batch)] == [("film", 2)]
    scheduler.drop(("film", 2))
    assert not scheduler.has_work


# --- alone ---------------------------------------------------------------------------------------


def test_a_request_that_runs_alone_runs_one_sequence_at_a_time() -> None:
    simulation = a_simulation()
    scheduler = simulation.scheduler
    others = [a_sequence("film", new=50), live(new=50)]
    for sequence in others:
        simulation.arrive(0.0, sequence)
    for _ in range(5):
        simulation.step()
    progress = [simulation.done[sequence] for sequence in others]
    scheduler.run_alone("suspect")
    before = len(simulation.steps)
    simulation.run([(0.0, a_sequence("suspect", index)) for index in range(3)])

    batches = [members(step.batch) for step in simulation.steps[before:]]
    assert {tuple(seq.request_id for seq in batch) for batch in batches} == {("suspect",)}
    assert [index for name, index in simulation.finished if name == "suspect"] == [0, 1, 2]
    assert [simulation.done[sequence] for sequence in others] == progress
    assert all(sequence.region is not None for sequence in others)
    assert not scheduler.has_work
    scheduler.run_alone(None)
    simulation.run()
    assert {sequence.key for sequence in others} <= set(simulation.finished)


def test_of_a_request_that_already_runs_in_parallel_only_the_earliest_goes_on() -> None:
    scheduler = a_scheduler()
    sequences = [a_sequence("suspect", index, new=50) for index in range(3)]
    start_decoding(scheduler, sequences)
    scheduler.run_alone("suspect")

    for _ in range(3):
        batch = scheduler.next_batch()
        assert batch is not None
        assert members(batch) == [sequences[0]]
    scheduler.drop(("suspect", 0))
    batch = scheduler.next_batch()
    assert batch is not None
    assert members(batch) == [sequences[1]]


def test_a_request_that_runs_alone_displaces_even_live_work_when_it_has_to() -> None:
    scheduler = a_scheduler(tokens=1024)
    talk = live(new=50)
    film = a_sequence("film", new=50)
    for sequence in (talk, film):
        scheduler.add(sequence)
        scheduler.next_batch()
    scheduler.run_alone("suspect")
    scheduler.add(a_sequence("suspect", priority=Priority.BULK, prompt=900, new=100))

    assert names(scheduler.next_batch()) == ["suspect"]
    assert set(scheduler.take_preempted()) == {talk, film}


# --- whatever comes ------------------------------------------------------------------------------

FILES = st.lists(
    st.builds(
        lambda at, name, priority, windows, prompt, new: (at, name, priority, windows, prompt, new),
        st.floats(0, 3),
        st.sampled_from(["film", "memo", "talk show"]),
        st.sampled_from([Priority.INTERACTIVE, Priority.BULK]),
        st.integers(0, 40),
        st.integers(1, 3000),
        st.integers(1, 60),
    ),
    max_size=25,
)
LIVE = st.lists(
    st.tuples(st.floats(0, 3), st.booleans(), st.integers(1, 4), st.integers(1, 20)), max_size=8
)
Files = list[tuple[float, str, Priority, int, int, int]]
Lives = list[tuple[float, bool, int, int]]


def arrivals_of(files: Files, lives: Lives) -> list[tuple[float, Sequence]]:
    arrivals = []
    for index, (at, name, priority, windows, prompt, new) in enumerate(files):
        sequence = a_sequence(name, index, priority, windows=windows, prompt=prompt, new=new)
        arrivals.append((at, sequence))
    for index, (at, is_final, windows, new) in enumerate(lives):
        priority = Priority.LIVE_FINAL if is_final else Priority.LIVE_PARTIAL
        prompt = 15 + 104 * windows
        sequence = a_sequence(
            f"live {index}", index, priority, windows=windows, prompt=prompt, new=new
        )
        arrivals.append((at, sequence))
    return arrivals


@given(files=FILES, lives=LIVE)
def test_live_work_waits_at_most_for_the_step_that_runs(files: Files, lives: Lives) -> None:
    simulation = a_simulation(tokens=8192)
    arrivals = arrivals_of(files, lives)
    simulation.run(arrivals)

    for at, sequence in arrivals:
        if sequence.is_live:
            starts = [
                step.start
                for step in simulation.steps
                if isinstance(step.batch, Encode) and sequence in members(step.batch)
            ]
            files_first = [
                step
                for step in simulation.steps
                if not step.has_live and step.end > at and step.start < starts[0]
            ]
            # What ran when it came; later ones are decode steps of one live step each, only
            # where another live sequence was before it.
            assert sum(step.start <= at for step in files_first) <= 1
            assert all(step.seconds <= FILE_STEP + 1e-9 for step in files_first)
            late = [step for step in files_first if step.start > at]
            assert all(isinstance(step.batch, DecodeStep) for step in late)
            assert all(step.seconds <= LIVE_STEP + 1e-9 for step in late)


@given(files=FILES, at=st.floats(0, 3), windows=st.integers(1, 8))
def test_one_live_request_has_its_first_token_after_the_running_step_and_two_of_its_own(
    files: Files, at: float, windows: int
) -> None:
    simulation = a_simulation(tokens=8192)
    talk = a_sequence("talk", 0, Priority.LIVE_FINAL, windows=windows, prompt=400, new=5)
    simulation.run([*arrivals_of(files, []), (at, talk)], until=lambda: talk.is_prefilled)

    later = [step for step in simulation.steps if step.start >= at]
    assert simulation.now <= at + FILE_STEP + 2 * LIVE_STEP + 1e-9
    assert [type(step.batch) for step in later] == [Encode, Extend]
    assert all(members(step.batch)[0] is talk for step in later)


@given(files=FILES, lives=LIVE, ends=st.lists(st.integers(1, 20), min_size=33, max_size=33))
def test_everything_ends_in_bounds_and_leaves_nothing_behind(
    files: Files, lives: Lives, ends: list[int]
) -> None:
    simulation = a_simulation(tokens=8192, rows=6, most_tokens=1024)
    arrivals = arrivals_of(files, lives)
    for (_, sequence), end in zip(arrivals, ends, strict=False):
        simulation.outputs[sequence.key] = min(end, sequence.max_new_tokens)
    simulation.run(arrivals)

    assert set(simulation.finished) == {sequence.key for _, sequence in arrivals}
    for _, sequence in arrivals:
        windows, tokens, output = simulation.done[sequence]
        assert (windows, tokens) == (sequence.windows, sequence.prompt_tokens)
        assert output == simulation.outputs[sequence.key]
        assert sequence.region is None
    for step in simulation.steps:
        limit = {Encode: 32, Extend: 1024, DecodeStep: 6}[type(step.batch)]
        assert 1 <= size_of(step.batch) <= limit
        assert step.seconds <= FILE_STEP + 1e-9
    whole = a_sequence("whole", prompt=8000, new=192)
    simulation.run([(simulation.now, whole)])
    assert whole.key in simulation.finished, "all memory came back"
    assert not simulation.scheduler.has_work
    assert all(not sequence.is_live for sequence in simulation.preempted)


@given(files=FILES, lives=LIVE)
def test_running_sequences_go_on_while_new_ones_are_taken_in(files: Files, lives: Lives) -> None:
    simulation = a_simulation(tokens=200_000, rows=64)
    running = a_sequence("running", new=400)
    simulation.run([(0.0, running)], until=lambda: running.decoded_tokens > 1)
    before = len(simulation.steps)
    simulation.run(arrivals_of(files, lives), until=lambda: ("running", 0) in simulation.finished)

    kinds: Counter[tuple[type, bool]] = Counter()
    left_out = 0
    for step in simulation.steps[before:]:
        if isinstance(step.batch, DecodeStep):
            kinds.clear()
            left_out = 0 if running in members(step.batch) else left_out + 1
        else:
            kinds[type(step.batch), step.has_live] += 1
        assert all(count == 1 for count in kinds.values())
        assert left_out < SHARED_EVERY


@given(data=st.data(), files=FILES, lives=LIVE)
def test_whatever_is_done_to_it_memory_is_never_promised_twice(
    data: st.DataObject, files: Files, lives: Lives
) -> None:
    arena = KvArena(4096)
    scheduler = Scheduler(arena, StepCosts(ENCODE, EXTEND, DECODE), most_rows=5)
    known: list[Sequence] = []
    for _, sequence in arrivals_of(files, lives):
        scheduler.add(sequence)
        known.append(sequence)
        action = data.draw(st.sampled_from(["step", "step", "drop", "alone", "all"]))
        if action == "drop":
            scheduler.drop(data.draw(st.sampled_from(known)).key)
        elif action in ("alone", "all"):
            scheduler.run_alone(sequence.request_id if action == "alone" else None)
        for _ in range(data.draw(st.integers(0, 4))):
            had_work = scheduler.has_work
            assert had_work is (scheduler.next_batch() is not None)
        placed = [other for other in known if other.region is not None]
        regions = sorted((region.start, region.end) for other in placed if (region := other.region))
        assert all(end <= start for (_, end), (start, _) in pairwise(regions))
        assert sum(end - start for start, end in regions) == 4096 - arena.free_tokens
        slots = [other.slot for other in placed]
        assert len(set(slots)) == len(slots) <= 5
        assert all(slot in range(5) for slot in slots)
    for sequence in known:
        scheduler.drop(sequence.key)
    assert arena.largest_free == 4096
    assert not scheduler.has_work


def test_on_a_machine_far_slower_than_the_priors_live_work_soon_keeps_to_its_budget() -> None:
    costs = StepCosts()
    simulation = Simulation(
        a_scheduler(costs=costs),
        costs,
        {
            Encode: LinearCost(0.005, 0.02),
            Extend: LinearCost(0.005, 0.0003),
            DecodeStep: LinearCost(0.004, 0.002),
        },
    )
    film = [(0.0, a_sequence("film", index)) for index in range(40)]
    talks = [(at / 2, live(f"talk {at}")) for at in range(4, 40)]
    simulation.run(film + talks)

    late = [step for step in simulation.steps if step.start > talks[-10][0]]
    assert late
    assert all(step.seconds < FILE_STEP for step in late)
    waits = [simulation.finished[seq.key] - at for at, seq in talks[-10:]]
    assert max(waits) < FILE_STEP + 8 * 2 * LIVE_STEP


def test_it_shows_what_a_person_wants_to_know() -> None:
    scheduler, sequence = a_scheduler(rows=1), a_sequence()
    scheduler.add(sequence)
    scheduler.add(live())
    scheduler.next_batch()
    scheduler.run_alone("film")

    assert repr(scheduler) == (
        "<Scheduler 1 waiting, 1/1 rows, 30 ms a step, film alone, "
        "<KvArena 128/64000 tokens in 1 regions>>"
    )
    assert repr(sequence) == (
        "<Sequence film/0 interactive, waits, windows 0/4, prompt 0/400, output 0/20>"
    )
