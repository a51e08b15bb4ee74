"""Scripted histories: at this time this happens, and then this is done."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.control import EngineState, EngineStatus
from worker.engine_status import Beat, EngineReport, Failure, Loading, Ready
from worker.supervision import (
    Action,
    Event,
    Exit,
    Exited,
    GatewayLost,
    GatewayReplaced,
    Kill,
    Misspoke,
    Report,
    Reported,
    Shutdown,
    Spawn,
    SpawnFailed,
    StartWanted,
    StopWanted,
    Supervision,
    Terminate,
    Tick,
    Timing,
    WorkFinished,
)

SEGFAULT = 11
STOPPED, STARTING, READY = EngineState.STOPPED, EngineState.STARTING, EngineState.READY
STOPPING, BACKING_OFF = EngineState.STOPPING, EngineState.BACKING_OFF
FAILED = EngineState.FAILED

Step = tuple[float, Event, Sequence[object]]


class History:
    """A supervision with its clock; every moment between two events is ticked through, as the
    supervisor's loop does at least once a second."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.supervision = Supervision(timing or Timing())
        self.now = 0.0
        self.statuses: list[EngineStatus] = []
        self.supervision.on(Tick(), 0.0)

    def at(self, now: float, event: Event) -> list[Action | EngineState]:
        """Actions, with a status shortened to its state; ticks on the way there must be quiet."""
        on_the_way = self.pass_time(now)
        assert on_the_way == [], f"before {now}: {on_the_way}"
        return self._shorten(self.supervision.on(event, now))

    def pass_time(self, until: float) -> list[Action | EngineState]:
        """What happens by itself up to, not including, that time."""
        happened: list[Action | EngineState] = []
        while self.now + 0.5 < until:
            self.now += 0.5
            happened += self._shorten(self.supervision.on(Tick(), self.now))
        self.now = until
        return happened

    def _shorten(self, actions: list[Action]) -> list[Action | EngineState]:
        shortened: list[Action | EngineState] = []
        for action in actions:
            if isinstance(action, Report):
                self.statuses.append(action.status)
                shortened.append(action.status.state)
            else:
                shortened.append(action)
        return shortened

    def play(self, *steps: Step) -> None:
        for now, event, expected in steps:
            assert self.at(now, event) == list(expected), f"at {now}: {event}"


def ready_engine(history: History, epoch: int = 1) -> None:
    history.play(
        (history.now, StartWanted(), [Spawn(epoch), STARTING]),
        (history.now, Reported(epoch, Ready()), [READY]),
    )


def idle_beats(history: History, epoch: int, until: float) -> list[Action | EngineState]:
    """A healthy engine's second-by-second signs of life."""
    happened: list[Action | EngineState] = []
    while history.now < until:
        happened += history.at(min(history.now + 1.0, until), Reported(epoch, Beat(0, busy=False)))
    return happened


def crash_while_starting(history: History, epoch: int, at: float) -> list[Action | EngineState]:
    return history.at(at, Exited(epoch, signal=SEGFAULT))


def test_an_engine_is_spawned_once_however_many_ask() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0, StartWanted(), []),
        (1, Reported(1, Loading("imports", 0, None)), [STARTING]),
        (2, StartWanted(), []),
        (3, Reported(1, Ready()), [READY]),
        (4, StartWanted(), []),
    )


def test_an_engine_nobody_wants_any_more_is_terminated_and_awaited() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (2, Exited(1, code=0), [STOPPED]),
    )
    assert history.statuses[-1].failure is None


def test_an_engine_deaf_to_sigterm_is_killed_after_the_grace() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (10.9, Tick(), []),
        (11, Tick(), [Kill(1)]),
        (12, Tick(), []),
        (12.1, Exited(1, signal=9), [STOPPED]),
    )
    assert history.statuses[-1].failure is None


def test_a_start_that_arrives_while_stopping_waits_for_the_exit() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (1.5, StartWanted(), []),
        (3, Exited(1, code=0), [Spawn(2), STARTING]),
    )


def test_an_engine_that_becomes_ready_while_stopping_is_ended_all_the_same() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (1.1, Reported(1, Ready()), []),
        (2, Exited(1, signal=15), [STOPPED]),
    )


def test_news_of_an_earlier_engine_changes_nothing() -> None:
    history = History()
    ready_engine(history)
    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (1.5, StartWanted(), []),
        (2, Exited(1, code=0), [Spawn(2), STARTING]),
    )

    history.play(
        (2, StopWanted(1), []),
        (2, Reported(1, Ready()), []),
        (2, Misspoke(1), []),
        (2, Exited(1, code=0), []),
        (2, SpawnFailed(1, "no memory"), []),
        (2, Reported(2, Ready()), [READY]),
    )


def test_back_off_doubles_with_every_death_while_starting() -> None:
    history = History()
    history.play((0, StartWanted(), [Spawn(1), STARTING]))

    now = 0.0
    for epoch, delay in enumerate((1.0, 2.0, 4.0, 8.0), start=1):
        assert crash_while_starting(history, epoch, now + 0.125) == [BACKING_OFF]
        assert history.statuses[-1].retry_after == delay
        now += 0.125 + delay
        assert history.at(now, Tick()) == [Spawn(epoch + 1), STARTING]


def test_back_off_never_exceeds_thirty_seconds() -> None:
    history = History(Timing(failure_window=1.0))
    history.play((0, StartWanted(), [Spawn(1), STARTING]))

    delays = []
    for epoch in range(1, 10):
        assert crash_while_starting(history, epoch, history.now) == [BACKING_OFF]
        delays.append(history.statuses[-1].retry_after)
        assert history.at(history.now + (delays[-1] or 0.0), Tick())[0] == Spawn(epoch + 1)

    assert delays == [1, 2, 4, 8, 16, 30, 30, 30, 30]


def fail_for_good(history: History) -> None:
    history.play((0, StartWanted(), [Spawn(1), STARTING]))
    for epoch in range(1, 5):
        crash_while_starting(history, epoch, history.now)
        history.at(history.now + 2 ** (epoch - 1), Tick())
    history.play((history.now, Exited(5, code=1), [FAILED]))


def test_the_fifth_failure_in_ten_minutes_is_one_too_many_and_names_its_reason() -> None:
    history = History()

    fail_for_good(history)

    assert history.statuses[-1] == EngineStatus(
        state=FAILED,
        epoch=5,
        stage="",
        done_bytes=0,
        total_bytes=None,
        failure="the engine process ended with exit status 1",
        retry_after=60.0,
        resident_bytes=None,
    )


def test_failures_spread_over_more_than_ten_minutes_do_not_add_up() -> None:
    history = History()
    history.play((0, StartWanted(), [Spawn(1), STARTING]))

    for epoch in range(1, 8):
        history.at(history.now, Reported(epoch, Ready()))
        idle_beats(history, epoch, history.now + 160)
        assert crash_while_starting(history, epoch, history.now) == [BACKING_OFF]
        history.at(history.now + (history.statuses[-1].retry_after or 0.0), Tick())


def test_a_failed_engine_is_tried_again_each_minute_while_it_is_wanted() -> None:
    history = History()
    fail_for_good(history)
    failed_at = history.now

    history.play(
        (failed_at + 59.9, Tick(), []),
        (failed_at + 60, Tick(), [Spawn(6), STARTING]),
        (failed_at + 61, Exited(6, code=1), [FAILED]),
        (failed_at + 121, Tick(), [Spawn(7), STARTING]),
    )


def test_a_failed_engine_nobody_wants_stays_failed_and_is_tried_when_asked_for() -> None:
    history = History()
    fail_for_good(history)
    failed_at = history.now

    history.play(
        (failed_at + 1, StopWanted(5), []),
        (failed_at + 60, Tick(), [FAILED]),
        (failed_at + 500, Tick(), []),
        (failed_at + 501, StartWanted(), [Spawn(6), STARTING]),
    )
    due = history.statuses[-2]
    assert (due.retry_after, due.failure) == (0.0, "the engine process ended with exit status 1")


def test_a_failed_engine_that_is_asked_for_early_waits_for_its_time() -> None:
    history = History()
    fail_for_good(history)
    failed_at = history.now

    history.play(
        (failed_at + 1, StopWanted(5), []),
        (failed_at + 2, StartWanted(), []),
        (failed_at + 60, Tick(), [Spawn(6), STARTING]),
    )


def test_back_off_ends_in_stopped_when_nobody_wants_the_engine_any_more() -> None:
    history = History()
    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0.5, Exited(1, code=1), [BACKING_OFF]),
        (0.6, StopWanted(1), []),
        (1.5, Tick(), [STOPPED]),
    )
    assert history.statuses[-1].failure == "the engine process ended with exit status 1"


def test_a_death_after_finished_work_is_no_failure_and_is_replaced_at_once() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, WorkFinished(1), []),
        (2, Exited(1, signal=SEGFAULT), [Spawn(2), STARTING]),
    )
    assert history.statuses[-1].failure == "the engine process ended with signal 11"


def test_a_death_when_ready_but_before_any_work_is_a_failure() -> None:
    history = History()
    ready_engine(history)

    history.play((1, Exited(1, signal=SEGFAULT), [BACKING_OFF]))


def test_an_end_nobody_asked_for_is_a_death_even_with_exit_status_zero() -> None:
    history = History()
    ready_engine(history)

    history.play((1, Exited(1, code=0), [BACKING_OFF]))
    assert history.statuses[-1].failure == "the engine process ended with exit status 0"


def test_finished_work_resets_count_and_back_off() -> None:
    history = History()
    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0, Exited(1, code=1), [BACKING_OFF]),
        (1, Tick(), [Spawn(2), STARTING]),
        (1, Exited(2, code=1), [BACKING_OFF]),
        (3, Tick(), [Spawn(3), STARTING]),
        (3, Reported(3, Ready()), [READY]),
        (4, WorkFinished(3), []),
        (5, Exited(3, code=1), [Spawn(4), STARTING]),
        (5, Exited(4, code=1), [BACKING_OFF]),
    )
    assert history.statuses[-1].retry_after == 1.0


def test_news_of_finished_work_that_comes_after_the_death_takes_the_failure_back() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Exited(1, signal=SEGFAULT), [BACKING_OFF]),
        (1.25, WorkFinished(1), [Spawn(2), STARTING]),
        (1.5, Exited(2, code=1), [BACKING_OFF]),
    )
    assert history.statuses[-1].retry_after == 1.0


def test_late_news_of_an_older_engine_does_not_excuse_a_newer_one() -> None:
    history = History()
    ready_engine(history)
    history.play(
        (1, Exited(1, code=1), [BACKING_OFF]),
        (2, Tick(), [Spawn(2), STARTING]),
        (2, Exited(2, code=1), [BACKING_OFF]),
    )

    history.play(
        (2.1, WorkFinished(1), []),
        (2.2, WorkFinished(7), []),
        (4, Tick(), [Spawn(3), STARTING]),
    )


def test_a_loading_engine_is_not_held_to_heartbeats() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (250, Reported(1, Ready()), [READY]),
    )


def test_a_loading_engine_without_progress_is_killed() -> None:
    history = History()
    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (100, Reported(1, Loading("weights", 0, 500)), [STARTING]),
        (200, Reported(1, Loading("weights", 0, 500)), []),
        (399.5, Tick(), []),
        (400, Tick(), [Kill(1), STOPPING]),
        (400.1, Exited(1, signal=9), [BACKING_OFF]),
    )
    assert history.statuses[-1].failure == "loading made no progress for 300 s (stage weights)"


def test_a_long_download_is_progress() -> None:
    history = History()
    history.play((0, StartWanted(), [Spawn(1), STARTING]))

    for minute in range(1, 61):
        report = Reported(1, Loading("download", minute * 10_000_000, 4_000_000_000))
        assert history.at(minute * 200.0, report) == [STARTING]


def test_beats_are_no_progress_while_loading() -> None:
    history = History()
    history.play((0, StartWanted(), [Spawn(1), STARTING]))

    assert idle_beats(history, 1, until=299) == []
    assert history.at(300, Reported(1, Beat(0, busy=False))) == []
    assert history.at(300, Tick()) == [Kill(1), STOPPING]


def test_bytes_are_reported_once_a_second_and_stages_at_once() -> None:
    history = History()

    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0.1, Reported(1, Loading("download", 10, 900)), [STARTING]),
        (0.2, Reported(1, Loading("download", 20, 900)), []),
        (0.3, Reported(1, Loading("download", 30, 900)), []),
        (0.4, Tick(), []),
        (1.1, Tick(), [STARTING]),
        (1.2, Reported(1, Loading("weights", 0, None)), [STARTING]),
    )
    told = [(status.stage, status.done_bytes) for status in history.statuses]
    assert told == [("spawn", 0), ("download", 10), ("download", 30), ("weights", 0)]


def test_unreported_bytes_set_the_next_deadline() -> None:
    history = History()
    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0.1, Reported(1, Loading("download", 10, 900)), [STARTING]),
    )
    assert history.supervision.deadline() == 300.1

    history.at(0.2, Reported(1, Loading("download", 20, 900)))

    assert history.supervision.deadline() == 1.1


def test_three_missed_beats_end_a_ready_engine() -> None:
    history = History()
    ready_engine(history)
    idle_beats(history, 1, until=50)

    history.play(
        (52.9, Tick(), []),
        (53, Tick(), [Kill(1), STOPPING]),
        (53.1, Exited(1, signal=9), [BACKING_OFF]),
    )
    assert history.statuses[-1].failure == "the engine process gave no sign of life for 3 s"


def test_a_silent_engine_that_had_finished_work_is_replaced_at_once() -> None:
    history = History()
    ready_engine(history)
    history.play(
        (1, WorkFinished(1), []),
        (3, Tick(), [Kill(1), STOPPING]),
        (3.1, Exited(1, signal=9), [Spawn(2), STARTING]),
    )


def test_an_engine_that_stops_beating_while_stopping_still_gets_its_grace() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (11, Tick(), [Kill(1)]),
    )


def busy_beats(history: History, until: float, steps: int) -> list[Action | EngineState]:
    happened: list[Action | EngineState] = []
    while history.now < until:
        happened += history.at(history.now + 1.0, Reported(1, Beat(steps, busy=True)))
    return happened


def test_busy_without_a_finished_step_is_stuck_though_it_beats() -> None:
    history = History()
    ready_engine(history)
    assert busy_beats(history, until=100, steps=4) == []

    assert busy_beats(history, until=121, steps=4) == []  # busy since the first second
    assert history.at(history.now, Tick()) == [Kill(1), STOPPING]
    history.at(history.now, Exited(1, signal=9))
    assert history.statuses[-1].failure == "no step of work finished for 120 s"


def test_finished_steps_keep_a_busy_engine_alive() -> None:
    history = History()
    ready_engine(history)

    for steps in range(1, 10):
        assert busy_beats(history, history.now + 119, steps) == []


def test_an_idle_engine_may_finish_no_step_for_ever() -> None:
    history = History()
    ready_engine(history)

    assert idle_beats(history, 1, until=2000) == []
    assert busy_beats(history, history.now + 118, steps=0) == []


def test_a_pause_of_the_supervisor_itself_is_not_held_against_the_engine() -> None:
    history = History()
    ready_engine(history)
    idle_beats(history, 1, until=10)

    asleep = 3600.0
    actions = history.supervision.on(Tick(), 10 + asleep)

    assert actions == []
    history.now = 10 + asleep
    history.play((history.now + 2.9, Tick(), []), (history.now + 3, Tick(), [Kill(1), STOPPING]))


def test_the_engines_own_words_name_the_failure() -> None:
    history = History()

    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (1, Reported(1, Failure("the model folder is empty")), [STOPPING]),
        (1.1, Exited(1, code=1), [BACKING_OFF]),
    )
    assert history.statuses[-1].failure == "the model folder is empty"


def test_an_engine_that_announces_its_end_and_stays_is_killed() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (1, Reported(1, Failure("out of memory")), [STOPPING]),
        (11, Tick(), [Kill(1)]),
        (11.1, Exited(1, signal=9), [BACKING_OFF]),
    )


def test_an_engine_that_sends_nonsense_is_killed() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Misspoke(1), [Kill(1), STOPPING]),
        (1.1, Exited(1, signal=9), [BACKING_OFF]),
    )
    assert history.statuses[-1].failure == "the engine process sent a status that cannot be read"


def test_a_spawn_that_fails_is_a_failure_like_any_other() -> None:
    history = History()

    history.play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0, SpawnFailed(1, "no engine process could be started: out of memory"), [BACKING_OFF]),
        (1, Tick(), [Spawn(2), STARTING]),
    )
    assert history.statuses[1].failure == "no engine process could be started: out of memory"


def test_an_engine_ends_when_its_gateway_falls_silent() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, GatewayLost(), [Terminate(1), STOPPING]),
        (2, Exited(1, code=0), [STOPPED]),
    )


def test_nothing_is_tried_again_for_a_gateway_that_is_gone() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0, Exited(1, code=1), [BACKING_OFF]),
        (0.5, GatewayLost(), []),
        (1, Tick(), [STOPPED]),
        (5, StartWanted(), [Spawn(2), STARTING]),
    )


def test_a_new_gateway_finds_the_running_engine_but_inherits_no_wish() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, GatewayReplaced(), []),
        (2, WorkFinished(1), []),
        (2.5, Exited(1, signal=SEGFAULT), [STOPPED]),
    )


def test_shutting_down_without_an_engine_exits_at_once() -> None:
    History().play((0, Shutdown(3), [Exit(3)]))


def test_shutting_down_ends_the_engine_first() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Shutdown(), [Terminate(1), STOPPING]),
        (1.5, StartWanted(), []),
        (2, Exited(1, code=0), [STOPPED, Exit(0)]),
    )


def test_shutting_down_kills_a_deaf_engine_after_the_grace() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Shutdown(), [Terminate(1), STOPPING]),
        (11, Tick(), [Kill(1)]),
        (11.1, Exited(1, signal=9), [STOPPED, Exit(0)]),
    )


def test_a_second_request_to_end_kills_at_once_and_keeps_the_first_exit_status() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Shutdown(0), [Terminate(1), STOPPING]),
        (1.1, Shutdown(4), [Kill(1)]),
        (1.2, Exited(1, signal=9), [STOPPED, Exit(0)]),
    )


def test_shutting_down_while_an_engine_is_stopping_waits_for_it() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, StopWanted(1), [Terminate(1), STOPPING]),
        (2, Shutdown(), []),
        (3, Exited(1, code=0), [STOPPED, Exit(0)]),
    )


def test_shutting_down_ends_waiting_for_a_retry() -> None:
    History().play(
        (0, StartWanted(), [Spawn(1), STARTING]),
        (0, Exited(1, code=1), [BACKING_OFF]),
        (0.5, Shutdown(), [Exit(0)]),
    )


def test_a_death_during_shutdown_is_not_answered_by_another_engine() -> None:
    history = History()
    ready_engine(history)

    history.play(
        (1, Shutdown(), [Terminate(1), STOPPING]),
        (1.1, Reported(1, Failure("out of memory")), []),
        (1.2, Exited(1, signal=SEGFAULT), [STOPPED, Exit(0)]),
    )


EVENTS = st.one_of(
    st.just(StartWanted()),
    st.builds(StopWanted, st.integers(0, 4)),
    st.builds(WorkFinished, st.integers(0, 4)),
    st.just(GatewayLost()),
    st.just(GatewayReplaced()),
    st.just(Tick()),
    st.just("ready"),
    st.just("beat"),
    st.just("busy"),
    st.just("loading"),
    st.just("failure"),
    st.just("exit"),
)


def about_current(name: str, supervision: Supervision) -> Event:
    epoch = supervision.epoch
    reports: dict[str, EngineReport] = {
        "ready": Ready(),
        "beat": Beat(0, busy=False),
        "busy": Beat(0, busy=True),
        "loading": Loading("weights", 1, 2),
        "failure": Failure("no"),
    }
    return Exited(epoch, code=1) if name == "exit" else Reported(epoch, reports[name])


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.9, 11.0, 61.0, 400.0]), EVENTS), max_size=60
    )
)
def test_whatever_happens_one_engine_lives_at_a_time_and_shutdown_ends_it(
    happenings: list[tuple[float, Event | str]],
) -> None:
    supervision = Supervision(Timing())
    now, alive = 0.0, None
    for wait, happening in happenings:
        now += wait
        if isinstance(happening, str):
            event = about_current(happening, supervision)
            if alive is None:
                continue
        else:
            event = happening
        if isinstance(event, Exited):
            alive = None
        for action in supervision.on(event, now):
            if isinstance(action, Spawn):
                assert alive is None
                alive = action.epoch
            elif isinstance(action, Terminate | Kill):
                assert alive == action.epoch
        deadline = supervision.deadline()
        assert alive is None or deadline is not None or _is_being_killed(supervision, now)

    actions = supervision.on(Shutdown(), now)
    if alive is not None:
        assert supervision.status(now).state is STOPPING
        actions = supervision.on(Exited(alive, code=0), now)
    assert actions[-1] == Exit(0)


def _is_being_killed(supervision: Supervision, now: float) -> bool:
    return supervision.status(now).state is STOPPING
