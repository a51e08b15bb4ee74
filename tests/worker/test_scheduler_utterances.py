"""How the scheduler moves steps of utterances: drafts, verdicts, parked regions."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.test_scheduler import (
    LIVE_STEP,
    Simulation,
    a_scheduler,
    a_sequence,
    a_simulation,
    names,
)
from worker.kv_arena import GRAIN, Region
from worker.scheduler import Scheduler, SequenceTooLarge
from worker.sequence import DecodeStep, Encode, Extend, Priority, Sequence, TokenSlice


def a_step(
    name: str = "talk",
    index: int = 0,
    *,
    priority: Priority = Priority.LIVE_PARTIAL,
    windows: int = 1,
    prompt: int = 100,
    new: int = 30,
    prefix: int = 0,
    draft: int = 0,
    unchanged: int = 0,
    roomy: int = 0,
) -> Sequence:
    return Sequence(
        (name, index),
        priority,
        windows,
        prompt,
        new,
        prefix_tokens=prefix,
        draft_tokens=draft,
        utterance=name,
        unchanged_tokens=unchanged,
        roomy_tokens=roomy,
    )


def added(scheduler: Scheduler, sequences: Iterable[Sequence]) -> None:
    for sequence in sequences:
        scheduler.add(sequence)


def ran(scheduler: Scheduler, sequence: Sequence) -> Sequence:
    """Through to its first output token, and parked."""
    scheduler.add(sequence)
    while not sequence.is_prefilled:
        assert scheduler.next_batch() is not None
    scheduler.park(sequence.key)
    return sequence


def region_of(scheduler: Scheduler, name: str) -> Region | None:
    return scheduler._parked.region_of(name)


def parked(scheduler: Scheduler, count: int) -> list[str]:
    return [name for number in range(count) if region_of(scheduler, name := f"talk {number}")]


# --- drafts and verdicts ----------------------------------------------------------------------


def test_prompt_prefix_and_draft_are_one_pass() -> None:
    scheduler = a_scheduler()
    step = a_step(prefix=3, draft=20)
    scheduler.add(step)
    assert isinstance(scheduler.next_batch(), Encode)

    assert scheduler.next_batch() == Extend((TokenSlice(step, 0, 123, True),))


def test_nothing_is_launched_before_its_verdict_is_read() -> None:
    scheduler = a_scheduler()
    step = a_step(draft=20)
    scheduler.add(step)
    scheduler.next_batch()
    scheduler.next_batch()

    assert step.awaits_verdict
    assert not scheduler.has_work
    assert scheduler.next_batch() is None


def test_others_go_on_while_a_verdict_is_awaited() -> None:
    scheduler = a_scheduler()
    step, film = a_step(draft=20), a_sequence("film", windows=1, prompt=100)
    added(scheduler, (step, film))
    while not (step.awaits_verdict and film.decodes):
        scheduler.next_batch()

    assert scheduler.next_batch() == DecodeStep((film,))


def test_a_draft_that_holds_is_followed_by_decode_steps() -> None:
    scheduler = a_scheduler()
    step = a_step(prompt=100, draft=20)
    scheduler.add(step)
    scheduler.next_batch()
    scheduler.next_batch()
    scheduler.go_on(step, is_checked=False)

    assert scheduler.next_batch() == DecodeStep((step,))
    assert step.kv_rows == 100 + 20 + 1  # the step's own token is written behind the draft
    assert scheduler.next_batch() == DecodeStep((step,))


def test_after_a_wrong_guess_its_row_and_those_behind_are_written_again() -> None:
    scheduler = a_scheduler()
    step = a_step(prompt=100, draft=20)
    scheduler.add(step)
    scheduler.next_batch()
    scheduler.next_batch()
    scheduler.verify(step, outputs=8, guessed=5)  # seven hold, the eighth is corrected

    assert scheduler.next_batch() == Extend((TokenSlice(step, 107, 6, True),))
    assert step.awaits_verdict
    assert step.decoded_tokens == 14


def test_while_the_text_may_come_back_to_its_draft_each_token_is_read_first() -> None:
    scheduler = a_scheduler()
    step = a_step(draft=20)
    scheduler.add(step)
    scheduler.next_batch()
    scheduler.next_batch()
    scheduler.go_on(step, is_checked=True)
    assert scheduler.next_batch() == DecodeStep((step,))
    assert scheduler.next_batch() is None

    scheduler.go_on(step, is_checked=False)

    assert scheduler.next_batch() == DecodeStep((step,))
    assert scheduler.next_batch() == DecodeStep((step,))


def test_without_a_draft_tokens_are_launched_as_for_files() -> None:
    scheduler = a_scheduler()
    step = a_step(prompt=100, prefix=4, new=7)
    scheduler.add(step)
    while scheduler.next_batch() is not None:
        pass

    assert (step.decoded_tokens, step.kv_rows) == (7, 106)


def test_picks_begin_at_the_last_token_that_is_known() -> None:
    step = a_step(prompt=100, prefix=3, draft=20)

    assert step.picks_in(0, 102) == 0
    assert step.picks_in(0, 103) == 1
    assert step.picks_in(100, 23) == 21
    assert step.picks_in(110, 13) == 13
    assert a_sequence(prompt=100).picks_in(60, 40) == 1
    assert a_sequence(prompt=100).picks_in(0, 60) == 0


@given(
    prompt=st.integers(1, 300),
    prefix=st.integers(0, 40),
    draft=st.integers(0, 200),
    cuts=st.lists(st.integers(0, 540), max_size=6),
)
def test_however_a_pass_is_cut_each_guess_has_one_pick(
    prompt: int, prefix: int, draft: int, cuts: list[int]
) -> None:
    step = a_step(prompt=prompt, prefix=prefix, draft=draft, new=prefix + draft + 1)
    whole = prompt + prefix + draft
    edges = sorted({0, whole, *(cut for cut in cuts if cut < whole)})

    picks = [step.picks_in(a, b - a) for a, b in pairwise(edges)]

    assert sum(picks) == draft + 1


@pytest.mark.parametrize(("prefix", "draft"), [(30, 0), (0, 30), (20, 10)])
def test_a_draft_leaves_room_for_the_token_behind_it(prefix: int, draft: int) -> None:
    with pytest.raises(ValueError, match="room for an answer"):
        a_step(prefix=prefix, draft=draft, new=30)


def test_a_displaced_step_begins_with_its_whole_draft_again() -> None:
    scheduler = a_scheduler(rows=1)
    step = a_step("slow", priority=Priority.BULK, prefix=2, draft=10)
    scheduler.add(step)
    scheduler.next_batch()
    scheduler.next_batch()
    scheduler.verify(step, outputs=5, guessed=3)
    scheduler.add(a_step("urgent", prompt=50))
    scheduler.next_batch()

    assert scheduler.take_preempted() == [step]
    assert (step.given_tokens, step.unverified_tokens, step.prefilled_tokens) == (112, 10, 0)
    assert not step.awaits_verdict
    assert region_of(scheduler, "slow") is None


# --- parked regions -----------------------------------------------------------------------------


def test_the_next_step_begins_behind_what_has_not_changed() -> None:
    scheduler = a_scheduler()
    first = ran(scheduler, a_step(prompt=150))
    second = a_step(index=1, prompt=160, unchanged=113)
    scheduler.add(second)
    scheduler.next_batch()

    assert scheduler.next_batch() == Extend((TokenSlice(second, 113, 47, True),))
    assert (first.region, first.slot) == (None, None)


def test_of_a_step_that_was_left_off_only_what_was_written_is_kept() -> None:
    scheduler = a_scheduler(most_tokens=64)
    first = a_step(prompt=150)
    scheduler.add(first)
    scheduler.next_batch()
    scheduler.next_batch()
    assert first.prefilled_tokens == 64
    scheduler.park(first.key)
    second = a_step(index=1, prompt=160, unchanged=113)
    scheduler.add(second)
    scheduler.next_batch()

    assert second.prefilled_tokens == 64


def test_a_change_counts_even_if_its_step_never_ran() -> None:
    scheduler = a_scheduler()
    ran(scheduler, a_step(prompt=150, roomy=400))
    waiting = a_step(index=1, prompt=160, unchanged=9)
    scheduler.add(waiting)
    scheduler.park(waiting.key)
    third = a_step(index=2, prompt=170, unchanged=113)
    scheduler.add(third)
    scheduler.next_batch()

    assert third.prefilled_tokens == 9


def test_a_region_is_roomy_where_there_is_room() -> None:
    scheduler = a_scheduler(tokens=1024)
    step = a_step(prompt=100, new=30, roomy=500)
    scheduler.add(step)
    other = a_step("other", prompt=100, new=30, roomy=700)
    scheduler.add(other)
    scheduler.next_batch()

    assert step.region == Region(0, 512)
    assert other.region == Region(512, 192)


def test_an_utterance_that_outgrows_its_region_begins_anew_in_a_larger_one() -> None:
    scheduler = a_scheduler()
    ran(scheduler, a_step(prompt=100, new=28))
    second = a_step(index=1, prompt=200, new=40, unchanged=90)
    scheduler.add(second)
    scheduler.next_batch()

    assert (second.region, second.prefilled_tokens) == (Region(0, 256), 0)


def test_utterances_between_their_steps_hold_no_slots() -> None:
    scheduler = a_scheduler(rows=2)
    for number in range(50):
        ran(scheduler, a_step(f"talk {number}", prompt=100, new=20))

    assert len(parked(scheduler, 50)) == 50
    assert len(scheduler._slots) == 2
    again = [a_step(f"talk {number}", 1, prompt=110, new=18, unchanged=90) for number in (3, 40)]
    added(scheduler, again)
    scheduler.next_batch()
    assert [step.prefilled_tokens for step in again] == [90, 90]


def test_parked_regions_go_before_anyone_is_displaced_the_longest_unused_first() -> None:
    scheduler = a_scheduler(tokens=8 * GRAIN)
    film = a_sequence("film", windows=1, prompt=100, new=28)
    scheduler.add(film)
    scheduler.next_batch()
    for number in range(3):
        ran(scheduler, a_step(f"talk {number}", prompt=100, new=20))
    ran(scheduler, a_step("talk 0", 1, prompt=105, new=20, unchanged=90))
    assert parked(scheduler, 3) == ["talk 0", "talk 1", "talk 2"]

    scheduler.add(a_sequence("urgent", priority=Priority.LIVE_FINAL, prompt=100, new=20))
    scheduler.next_batch()

    assert parked(scheduler, 3) == ["talk 0", "talk 2"]
    assert scheduler.take_preempted() == []
    assert film.region is not None


def test_files_take_parked_memory_too() -> None:
    scheduler = a_scheduler(tokens=8 * GRAIN)
    for number in range(4):
        ran(scheduler, a_step(f"talk {number}", prompt=100, new=20))
    film = a_sequence("film", prompt=300, new=20)
    scheduler.add(film)
    assert scheduler.has_work
    scheduler.next_batch()

    assert film.region == Region(0, 320)
    assert parked(scheduler, 4) == ["talk 3"]


def test_what_fits_only_without_parked_regions_is_not_too_large() -> None:
    scheduler = a_scheduler(tokens=8 * GRAIN)
    for number in range(4):
        ran(scheduler, a_step(f"talk {number}", prompt=100, new=20))
    scheduler.add(a_sequence("film", prompt=490, new=20))
    scheduler.next_batch()

    assert parked(scheduler, 4) == []
    with pytest.raises(SequenceTooLarge):
        scheduler.add(a_sequence("series", prompt=500, new=20))


def test_a_step_whose_turn_comes_late_may_find_its_region_gone() -> None:
    scheduler = a_scheduler(tokens=4 * GRAIN)
    ran(scheduler, a_step(prompt=100, new=20))
    ran(scheduler, a_sequence("film", windows=1, prompt=200, new=40))
    second = a_step(index=1, prompt=110, new=20, unchanged=90)
    scheduler.add(second)
    scheduler.next_batch()

    assert (second.region, second.prefilled_tokens) == (Region(0, 192), 0)


def test_a_forgotten_utterance_leaves_its_memory() -> None:
    scheduler = a_scheduler()
    ran(scheduler, a_step())
    scheduler.forget("talk")
    scheduler.forget("nobody")

    assert scheduler._arena.free_tokens == scheduler._arena.tokens


# --- on a simulated clock -----------------------------------------------------------------------


class Talks(Simulation):
    """Of a draft, half holds; then text comes back to it once."""

    def step(self) -> bool:
        had_batch = super().step()
        for sequence in list(self.scheduler._admitted):
            if sequence.awaits_verdict:
                self.judge(sequence)
        return had_batch

    def judge(self, sequence: Sequence) -> None:
        if sequence.unverified_tokens == sequence.draft_tokens:
            half = sequence.draft_tokens // 2
            self.scheduler.verify(sequence, outputs=half + 1, guessed=min(4, half))
        else:
            self.scheduler.go_on(sequence, is_checked=False)
        given = sequence.given_tokens
        self.done[sequence] = sequence.windows, sequence.prefilled_tokens, sequence.decoded_tokens
        assert given <= sequence.kv_tokens

    def account(self, batch: Encode | Extend | DecodeStep) -> None:
        for sequence in {part.sequence for part in getattr(batch, "slices", ())} | set(
            getattr(batch, "sequences", ())
        ):
            assert sequence.kv_rows <= sequence.kv_tokens
            if sequence.decoded_tokens == sequence.max_new_tokens and not sequence.awaits_verdict:
                self.finished[sequence.key] = self.now
                self.scheduler.park(sequence.key)


def talks(**fields: int) -> Talks:
    made = a_simulation(**fields)
    return Talks(made.scheduler, made.costs)


def test_a_live_step_with_a_draft_is_answered_soon_whatever_files_there_are() -> None:
    simulation = talks(rows=16)
    films = [(0.0, a_sequence("film", index, Priority.BULK)) for index in range(40)]
    steps = [
        (1.0 + 0.5 * number, a_step("talk", number, prompt=100 + number, draft=20, new=26))
        for number in range(6)
    ]
    simulation.run([*films, *steps])

    for arrived, step in steps:
        # It waits for one batch of files; its passes, and each one of files beside, keep budget.
        assert simulation.finished[step.key] - arrived < 0.25 + 10 * 2 * LIVE_STEP
    assert len(simulation.finished) == 46


def test_verification_keeps_the_step_budget() -> None:
    simulation = talks(rows=16)
    steps = [
        (0.0, a_step(f"talk {number}", prompt=200, draft=150, new=160)) for number in range(12)
    ]
    simulation.run(steps)

    extends = [step for step in simulation.steps if isinstance(step.batch, Extend)]
    assert len(extends) > 5
    assert all(step.seconds <= LIVE_STEP * 1.15 for step in extends)


def test_what_is_verified_next_goes_before_files() -> None:
    scheduler = a_scheduler()
    step = a_step(prompt=100, draft=20)
    added(scheduler, (a_sequence("film", windows=1, prompt=3000), step))
    scheduler.next_batch()
    assert names(scheduler.next_batch()) == ["talk", "film"]
    scheduler.verify(step, outputs=6, guessed=4)

    assert names(scheduler.next_batch()) == ["talk", "film"]
