"""What is asked of the engine for an utterance that grows, and what becomes of the answers."""

from typing import Any

import numpy as np
import pytest

from protocol.live import EndReason, Strategy
from tests.worker.live.road import options
from worker.engine.interface import ChunkText
from worker.live.news import UtteranceBegan, UtteranceComplete
from worker.live.utterance import FIRST_STEP_SAMPLES, Step, Utterance
from worker.segments import SpeechSpan
from worker.sequence import Priority

KEY = ("call", 1)
START = 3_200
HALF = 8_000
"""Samples of half a second, the usual step."""
ROLLBACK: dict[str, Any] = {"strategy": Strategy.ROLLBACK}


class Telling:
    """An utterance, and an engine that answers when the test says so."""

    def __init__(self, *, verifies: bool = True, **fields: Any) -> None:
        began = UtteranceBegan(KEY, 7, 1, START, options(**fields), is_announced=True)
        self.utterance = Utterance(began, "call/1/7", verifies=verifies)
        self.length = 0
        self.steps = 0

    def grow(self, samples: int, level: float = 0.1) -> Step | None:
        self.length += samples
        self.utterance.grew(np.full(samples, level, np.float32), arrived=self.length / 16_000)
        return self.ask()

    def ask(self) -> Step | None:
        """What would be asked now; the engine gets it."""
        step = self.utterance.next_step(self.steps)
        if step is not None:
            self.steps += 1
            self.utterance.began(step)
        return step

    def asked(self) -> Step:
        step = self.ask()
        assert step is not None
        return step

    def complete(
        self, end: int | None = None, *, has_speech: bool = True, now: float = 9.0
    ) -> Step | None:
        end = START + (self.length if end is None else end)
        spans = (SpeechSpan(START, end, 0.9),) if has_speech else ()
        self.utterance.completed(
            UtteranceComplete(KEY, 7, end, end + 8_000, EndReason.SILENCE, spans), now
        )
        return self.ask()


def text(
    said: str, language: str = "English", ids: tuple[int, ...] = (), **fields: Any
) -> ChunkText:
    return ChunkText(language, said, 20, 13, len(ids), token_ids=ids, **fields)


def test_the_first_text_is_asked_for_once_there_is_enough_to_say_a_word() -> None:
    telling = Telling(step_seconds=0.1)

    assert telling.grow(FIRST_STEP_SAMPLES - 1) is None
    step = telling.grow(1)

    assert step is not None
    assert (step.samples, step.is_final) == (FIRST_STEP_SAMPLES, False)
    assert len(step.request.samples) == FIRST_STEP_SAMPLES
    assert step.request.priority is Priority.LIVE_PARTIAL
    assert step.request.utterance == "call/1/7"


def test_the_next_text_is_asked_for_a_step_later() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.answered(text("one"))

    assert telling.grow(HALF - 1) is None
    step = telling.grow(1)

    assert step is not None
    assert step.samples == 2 * HALF


def test_one_text_at_a_time_is_asked_for_and_then_of_all_that_has_come() -> None:
    telling = Telling()
    telling.grow(HALF)

    assert telling.grow(HALF) is None
    assert telling.grow(3 * HALF) is None
    telling.utterance.answered(text("one"))

    assert telling.asked().samples == 5 * HALF


def test_without_new_audio_nothing_is_asked_whatever_the_step() -> None:
    telling = Telling(step_seconds=0.0)
    telling.grow(HALF)

    telling.utterance.answered(text("one"))

    assert telling.ask() is None


def test_who_wants_no_partials_is_asked_for_finals_alone() -> None:
    telling = Telling(wants_partials=False)
    assert telling.grow(10 * HALF) is None

    telling.utterance.paused(START + 10 * HALF)

    assert telling.asked().is_final


def test_a_pause_asks_for_what_would_be_the_final_in_place_of_what_runs() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.grow(HALF - 100)

    telling.utterance.paused(START + 2 * HALF - 100)
    step = telling.asked()

    assert (step.samples, step.is_final) == (2 * HALF - 100, True)
    assert step.request.priority is Priority.LIVE_FINAL


def test_a_final_that_is_known_when_the_end_is_decided_is_the_outcome_at_once() -> None:
    telling = Telling()
    telling.grow(2 * HALF)
    telling.utterance.answered(text("one"))
    telling.grow(100)
    telling.utterance.paused(START + telling.length)
    telling.asked()
    telling.utterance.answered(text("one two"))
    telling.grow(100)

    assert telling.complete(telling.length - 100) is None

    outcome = telling.utterance.outcome()
    assert outcome is not None
    assert (outcome.text, outcome.language) == ("one two", "English")
    assert telling.utterance.decided_at == 9.0


def test_what_runs_for_the_pause_is_not_asked_for_again_when_it_holds() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.answered(text("one"))
    telling.grow(100)
    telling.utterance.paused(START + telling.length)
    telling.asked()

    assert telling.complete() is None
    assert telling.utterance.outcome() is None
    telling.utterance.answered(text("one two"))

    assert telling.utterance.outcome() is not None


@pytest.mark.parametrize("fields", [ROLLBACK, {"wants_logprobs": True}])
@pytest.mark.parametrize("is_answered", [False, True])
def test_a_partial_of_the_same_audio_is_no_final(fields: dict[str, Any], is_answered: bool) -> None:
    """It has no logprobs, and by the rollback strategy it may be cut off."""
    telling = Telling(**fields)
    telling.grow(HALF)
    if is_answered:
        telling.utterance.answered(text("one"))

    telling.utterance.paused(START + HALF)
    step = telling.asked()

    assert step.is_final
    assert step.request.most_new_tokens is None
    assert step.request.wants_logprobs is bool(fields.get("wants_logprobs"))


def test_a_verified_partial_of_the_same_audio_is_the_final() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.answered(text("one"))

    telling.utterance.paused(START + HALF)

    assert telling.ask() is None
    assert telling.complete() is None
    assert telling.utterance.outcome() is not None


def test_who_speaks_on_is_told_texts_again() -> None:
    telling = Telling()
    telling.grow(2 * HALF)
    telling.utterance.answered(text("one"))
    telling.utterance.paused(START + telling.length)
    telling.utterance.resumed()

    step = telling.grow(HALF)

    assert step is not None
    assert not step.is_final


def test_a_commit_behind_a_pause_is_asked_for_anew() -> None:
    telling = Telling()
    telling.grow(2 * HALF)
    telling.utterance.answered(text("one"))
    telling.utterance.paused(START + telling.length)
    telling.grow(3_000)

    step = telling.complete()

    assert step is not None
    assert (step.samples, step.is_final) == (telling.length, True)


def test_an_utterance_cut_some_seconds_back_is_of_its_own_samples() -> None:
    telling = Telling()
    telling.grow(20 * HALF)
    telling.utterance.answered(text("one two"))

    step = telling.complete(12 * HALF)

    assert step is not None
    assert len(step.request.samples) == 12 * HALF


def test_an_utterance_in_which_nobody_speaks_is_nothing_and_asks_nothing() -> None:
    telling = Telling(wants_partials=False)
    telling.grow(HALF)

    assert telling.complete(has_speech=False) is None

    outcome = telling.utterance.outcome()
    assert outcome is not None
    assert (outcome.text, outcome.language, outcome.segments) == ("", None, ())


# --- drafts and prefixes ------------------------------------------------------------------------


def test_each_text_drafts_the_next() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.answered(text("one", ids=(1, 2, 3)))

    step = telling.grow(HALF)

    assert step is not None
    assert (step.request.draft, step.request.prefix) == ((1, 2, 3), ())
    assert step.request.most_new_tokens is None


def test_rollback_keeps_nothing_at_first_and_then_all_but_the_newest_tokens() -> None:
    telling = Telling(**ROLLBACK, unfixed_steps=2, unfixed_tokens=3, max_new_tokens=10)
    kept = []
    for count in (6, 8, 10, 2):
        step = telling.grow(HALF)
        assert step is not None
        assert step.request.draft == ()
        assert step.request.most_new_tokens == 10
        kept.append(step.request.prefix)
        telling.utterance.answered(text("one", ids=tuple(range(count))))

    final = telling.complete(telling.length - 1)

    assert kept == [(), (), tuple(range(5)), tuple(range(7))]
    assert final is not None
    assert (final.request.prefix, final.request.most_new_tokens) == ((), None)


def test_a_final_by_rollback_keeps_what_is_fixed_and_may_be_long() -> None:
    telling = Telling(**ROLLBACK, unfixed_steps=1, unfixed_tokens=2)
    telling.grow(HALF)
    telling.utterance.answered(text("one", ids=(1, 2, 3, 4)))
    telling.grow(100)

    final = telling.complete()

    assert final is not None
    assert (final.request.prefix, final.request.most_new_tokens) == ((1, 2), None)


def test_an_engine_that_cannot_verify_rolls_partials_back_and_writes_finals_from_nothing() -> None:
    telling = Telling(verifies=False, unfixed_steps=1, unfixed_tokens=1)
    telling.grow(HALF)
    telling.utterance.answered(text("one", ids=(1, 2, 3)))

    partial = telling.grow(HALF)
    assert partial is not None
    assert partial.request.prefix == (1, 2)
    telling.utterance.answered(text("one two", ids=(1, 2, 3, 4)))
    telling.grow(100)
    final = telling.complete()

    assert final is not None
    assert (final.request.prefix, final.request.draft) == ((), ())
    assert final.request.most_new_tokens is None


def test_a_bound_of_no_tokens_is_a_bound_of_one() -> None:
    step = Telling(**ROLLBACK, max_new_tokens=0).grow(HALF)

    assert step is not None
    assert step.request.most_new_tokens == 1


# --- languages and context ----------------------------------------------------------------------


def test_where_an_unexpected_language_is_heard_the_first_expected_one_is_forced() -> None:
    telling = Telling(languages=("German", "French"))
    telling.grow(HALF)
    assert telling.utterance.answered(text("one", "English", (1,))) is None

    step = telling.grow(HALF)

    assert step is not None
    assert (step.request.language, step.request.draft) == ("German", ())
    assert telling.utterance.answered(text("eins", "German")) is not None


def test_what_a_few_words_were_taken_for_does_not_decide_about_the_final() -> None:
    telling = Telling(languages=("German", "French"))
    telling.grow(HALF)
    telling.utterance.answered(text("one", "English"))
    telling.grow(HALF)
    telling.utterance.paused(START + 2 * HALF)
    first = telling.asked()
    telling.utterance.answered(text("one two", "English"))
    again = telling.asked()
    telling.utterance.answered(text("eins zwei", "German"))
    telling.utterance.resumed()
    telling.grow(HALF)

    last = telling.complete()

    assert last is not None
    assert [step.request.language for step in (first, again, last)] == [None, "German", None]


def test_a_forced_partial_of_all_there_is_does_not_pass_for_the_final() -> None:
    telling = Telling(languages=("German", "French"))
    telling.grow(HALF)
    telling.utterance.answered(text("one", "English"))
    telling.grow(HALF)
    telling.utterance.answered(text("eins", "German"))

    step = telling.complete()

    assert step is not None
    assert step.request.language is None


def test_an_unexpected_language_of_a_final_is_asked_for_once_more() -> None:
    telling = Telling(languages=("German",), wants_partials=False)
    telling.grow(HALF)
    telling.complete()
    telling.utterance.answered(text("one", "English"))
    assert telling.utterance.outcome() is None

    again = telling.asked()
    telling.utterance.answered(text("eins", "English"))  # no third time

    assert again.request.language == "German"
    outcome = telling.utterance.outcome()
    assert outcome is not None
    assert outcome.text == "eins"


def test_expected_languages_are_left_alone_in_whatever_case() -> None:
    telling = Telling(languages=("german", "English"))
    telling.grow(HALF)

    assert telling.utterance.answered(text("one", "English")) is not None


def test_the_callers_words_are_the_context() -> None:
    step = Telling(prompt=" A call. ", keywords=("Anna", "Ben")).grow(HALF)

    assert step is not None
    assert step.request.context == "A call.\nAnna, Ben"


def test_the_callers_words_handed_back_on_next_to_nothing_are_not_told() -> None:
    telling = Telling(prompt="", keywords=("Anna", "Ben"))
    telling.grow(HALF, level=1e-5)

    assert telling.utterance.answered(text("Anna, Ben")) is None
    telling.complete()

    outcome = telling.utterance.outcome()
    assert outcome is not None
    assert outcome.text == ""


def test_the_callers_words_are_told_where_somebody_says_them() -> None:
    telling = Telling(prompt="", keywords=("Anna", "Ben"))
    telling.utterance.grew(np.random.default_rng(1).normal(0, 0.1, HALF).astype(np.float32), 0.0)
    assert telling.ask() is not None

    progress = telling.utterance.answered(text("Anna, Ben"))

    assert progress is not None
    assert progress.tail == "Anna, Ben"


# --- what is told -------------------------------------------------------------------------------


def test_a_text_is_told_with_what_it_covers_and_when_that_came() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.grow(HALF)

    progress = telling.utterance.answered(text("one"))

    assert progress is not None
    assert (progress.covers, progress.arrived) == (START + HALF, 0.5)
    assert (progress.language, progress.stable, progress.tail) == ("English", "", "one")


def test_the_text_of_all_of_it_is_told_by_its_outcome_alone() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.completed(
        UtteranceComplete(KEY, 7, START + HALF, START + HALF, EndReason.COMMIT, ()), 1.0
    )

    assert telling.utterance.answered(text("one")) is None


# --- failures -----------------------------------------------------------------------------------


def test_a_partial_that_fails_costs_nothing() -> None:
    telling = Telling()
    telling.grow(HALF)
    telling.utterance.answered(text("one", ids=(1,)))
    telling.grow(HALF)

    telling.utterance.failed()
    assert not telling.utterance.is_lost
    assert telling.ask() is None  # until there is more to hear
    step = telling.grow(HALF)

    assert step is not None
    assert (step.samples, step.request.draft) == (3 * HALF, ())


def test_a_final_that_fails_is_asked_for_once_more() -> None:
    telling = Telling(wants_partials=False)
    telling.grow(HALF)
    telling.complete()

    telling.utterance.failed()
    assert not telling.utterance.is_lost
    telling.asked()

    telling.utterance.failed()
    assert telling.utterance.is_lost
    assert telling.ask() is None


def test_a_text_that_fails_in_a_pause_waits_for_the_end_to_be_decided() -> None:
    """Else it would be asked for over and over while the silence lasts."""
    telling = Telling(wants_partials=False)
    telling.grow(HALF)
    telling.utterance.paused(START + HALF)
    telling.asked()

    telling.utterance.failed()
    assert not telling.utterance.is_lost
    assert telling.ask() is None
    assert telling.complete() is not None
    telling.utterance.failed()
    assert telling.utterance.is_lost
    assert telling.ask() is None


def test_failures_of_an_earlier_pause_do_not_count_for_the_final() -> None:
    telling = Telling(wants_partials=False)
    for _ in range(3):
        telling.grow(HALF)
        telling.utterance.paused(START + telling.length)
        telling.asked()
        telling.utterance.failed()
        telling.utterance.resumed()
    telling.grow(HALF)
    telling.complete()

    telling.utterance.failed()
    assert not telling.utterance.is_lost
    assert telling.ask() is not None


def test_an_outcome_has_logprobs_where_they_were_wanted_and_none_elsewhere() -> None:
    for wants in (True, False):
        telling = Telling(wants_logprobs=wants)
        telling.grow(HALF)
        assert telling.utterance.running is not None
        assert not telling.utterance.running.request.wants_logprobs
        telling.utterance.answered(text("one"))
        telling.grow(100)
        step = telling.complete()

        assert step is not None
        assert step.request.wants_logprobs is wants


def test_the_language_the_caller_names_is_not_detected() -> None:
    step = Telling(language="German", languages=("French",)).grow(HALF)

    assert step is not None
    assert step.request.language == "German"
