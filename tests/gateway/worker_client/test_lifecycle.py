"""The fleet's decisions, as histories of events."""

import dataclasses

import pytest

from gateway.worker_client.lifecycle import (
    CROWDED,
    LINK_GRACE,
    START_PATIENCE,
    Joined,
    Lifecycle,
    Start,
    Stop,
)
from protocol.control import EngineState, EngineStatus
from protocol.transcription import Hello

IDLE_TIMEOUT = 300.0


def status(state: EngineState, epoch: int = 1, failure: str | None = None) -> EngineStatus:
    return EngineStatus(state, epoch, "", 0, None, failure, None, None)


def hello(worker_id: str = "one", epoch: int = 1, capacity: int = 2) -> Hello:
    return Hello(worker_id, epoch, "model", capacity, True)


@pytest.fixture
def fleet() -> Lifecycle:
    fleet = Lifecycle(idle_timeout=IDLE_TIMEOUT)
    fleet.supervisor_joined("one", "first", 0.0)
    fleet.status_changed("one", status(EngineState.STOPPED, epoch=0), 0.0)
    return fleet


def ready(fleet: Lifecycle, now: float = 0.0, epoch: int = 1) -> None:
    fleet.status_changed("one", status(EngineState.READY, epoch), now)
    fleet.engine_joined(hello(epoch=epoch), now)


def assign(fleet: Lifecycle, *request_ids: str, is_suspect: bool = False) -> None:
    for request_id in request_ids:
        worker = fleet.roomiest(is_suspect=is_suspect)
        assert worker is not None
        fleet.assign(worker, request_id, is_suspect=is_suspect)


def test_nothing_waiting_starts_nothing(fleet: Lifecycle) -> None:
    assert fleet.decide(0.0, waiting=0) == []


def test_concurrent_callers_share_one_start(fleet: Lifecycle) -> None:
    assert fleet.decide(0.0, waiting=1) == [Start("one")]
    assert fleet.decide(0.1, waiting=5) == []
    fleet.status_changed("one", status(EngineState.STARTING), 0.2)
    assert fleet.decide(0.3, waiting=9) == []


def test_a_ready_engine_takes_requests_up_to_its_capacity(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a", "b")

    assert fleet.roomiest(is_suspect=False) is None
    fleet.finished("one", "a", 1.0)
    assert fleet.roomiest(is_suspect=False) is not None


def test_an_engine_is_ended_after_the_idle_timeout_counted_from_the_last_work(
    fleet: Lifecycle,
) -> None:
    ready(fleet)
    assign(fleet, "a")
    fleet.finished("one", "a", 50.0)

    assert fleet.decide(50.0 + IDLE_TIMEOUT - 0.1, waiting=0) == []
    assert fleet.decide(50.0 + IDLE_TIMEOUT, waiting=0) == [Stop("one", 1)]
    assert fleet.decide(50.0 + IDLE_TIMEOUT + 1, waiting=0) == []


def test_an_engine_with_a_request_is_never_idle(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.decide(100 * IDLE_TIMEOUT, waiting=0) == []


def test_idle_timeout_zero_keeps_the_engine_for_ever() -> None:
    fleet = Lifecycle(idle_timeout=0)
    fleet.supervisor_joined("one", "first", 0.0)
    ready(fleet)

    assert fleet.decide(1e9, waiting=0) == []


def test_a_request_during_the_end_waits_for_the_next_engine(fleet: Lifecycle) -> None:
    ready(fleet)
    assert fleet.decide(IDLE_TIMEOUT, waiting=0) == [Stop("one", 1)]

    assert fleet.roomiest(is_suspect=False) is None
    assert fleet.decide(IDLE_TIMEOUT + 0.1, waiting=1) == []
    fleet.status_changed("one", status(EngineState.STOPPING), IDLE_TIMEOUT + 0.2)
    assert fleet.decide(IDLE_TIMEOUT + 0.2, waiting=1) == []
    fleet.status_changed("one", status(EngineState.STOPPED), IDLE_TIMEOUT + 0.3)
    assert fleet.decide(IDLE_TIMEOUT + 0.3, waiting=1) == [Start("one")]


def test_the_death_of_an_engine_gives_back_its_requests(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a", "b")

    lost = fleet.status_changed("one", status(EngineState.BACKING_OFF, failure="signal 9"), 1.0)

    assert lost == {"a", "b"}
    assert fleet.roomiest(is_suspect=False) is None


def test_a_newer_epoch_declares_the_older_engine_dead(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.status_changed("one", status(EngineState.STARTING, epoch=2), 1.0) == {"a"}


def test_what_is_said_of_an_earlier_epoch_is_ignored(fleet: Lifecycle) -> None:
    ready(fleet, epoch=2)
    assign(fleet, "a")

    assert fleet.engine_left("one", 1, 1.0) == set()
    assert fleet.engine_joined(hello(epoch=1), 1.0) is None
    assert fleet.worker("one").running_requests == 1  # type: ignore[union-attr]


def test_an_engine_without_a_known_supervisor_is_not_used(fleet: Lifecycle) -> None:
    assert fleet.engine_joined(hello("stranger"), 0.0) is None


def test_an_engine_takes_one_suspect_at_a_time(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.READY), 0.0)
    fleet.engine_joined(hello(capacity=4), 0.0)
    assign(fleet, "film")
    assign(fleet, "suspect", is_suspect=True)

    assert fleet.roomiest(is_suspect=True) is None
    assert fleet.roomiest(is_suspect=False) is not None


@pytest.mark.parametrize("way", ["cleared", "finished"])
def test_a_suspect_that_is_cleared_or_gone_makes_room_for_the_next(
    fleet: Lifecycle, way: str
) -> None:
    ready(fleet)
    assign(fleet, "suspect", is_suspect=True)
    if way == "cleared":
        fleet.cleared("one", "suspect")
    else:
        fleet.finished("one", "suspect", 1.0)

    assert fleet.roomiest(is_suspect=True) is not None


def test_nothing_goes_to_an_engine_that_its_supervisor_is_ending(fleet: Lifecycle) -> None:
    ready(fleet)
    fleet.status_changed("one", status(EngineState.STOPPING), 1.0)

    assert fleet.roomiest(is_suspect=False) is None
    assert fleet.decide(1.0, waiting=1) == []


def test_a_request_on_its_way_in_keeps_a_running_engine_and_starts_none(fleet: Lifecycle) -> None:
    fleet.expected = 1
    assert fleet.decide(0.0, waiting=0) == []
    ready(fleet)
    assert fleet.decide(10 * IDLE_TIMEOUT, waiting=0) == []
    fleet.expected = 0
    assert fleet.decide(10 * IDLE_TIMEOUT, waiting=0) == [Stop("one", 1)]


def test_another_worker_starts_where_the_first_one_takes_long(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "first", 0.0)
    assert fleet.decide(0.0, waiting=1) == [Start("one")]
    fleet.status_changed("one", status(EngineState.STARTING), 1.0)

    assert fleet.decide(START_PATIENCE - 1, waiting=1) == []
    assert fleet.decide(START_PATIENCE, waiting=1) == [Start("two")]


def test_another_worker_starts_where_the_first_one_backs_off(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "first", 0.0)
    fleet.decide(0.0, waiting=1)
    fleet.status_changed("one", status(EngineState.BACKING_OFF, failure="no GPU"), 1.0)

    assert fleet.decide(1.0, waiting=1) == [Start("two")]


def test_an_engine_on_a_new_connection_is_the_same_engine(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.engine_joined(hello(), 1.0) == Joined(frozenset({"a"}), is_same_engine=True)
    assert fleet.engine_joined(hello(epoch=2), 2.0) == Joined(frozenset(), is_same_engine=False)


def test_a_supervisor_on_a_new_connection_takes_nothing_from_its_engine(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.supervisor_joined("one", "first", 1.0) == set()
    assert fleet.worker("one").running_requests == 1  # type: ignore[union-attr]


def test_a_supervisor_started_anew_has_lost_the_engine_of_the_one_before(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.supervisor_joined("one", "second", 1.0) == {"a"}
    assert fleet.roomiest(is_suspect=False) is None


def test_a_second_worker_starts_when_the_first_is_full(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "first", 0.0)
    ready(fleet)
    assert fleet.decide(0.0, waiting=2) == []

    assign(fleet, "a", "b")
    assert fleet.decide(0.0, waiting=1) == [Start("two")]


def test_a_second_worker_starts_once_the_first_is_crowded_though_it_takes_more(
    fleet: Lifecycle,
) -> None:
    fleet.status_changed("one", status(EngineState.READY), 0.0)
    fleet.engine_joined(hello(capacity=128), 0.0)
    fleet.supervisor_joined("two", "first", 0.0)
    fleet.status_changed("two", status(EngineState.STOPPED, epoch=0), 0.0)

    assign(fleet, *(str(number) for number in range(CROWDED)))
    assert fleet.decide(1.0, waiting=0) == []
    assign(fleet, "one more")

    assert fleet.decide(2.0, waiting=0) == [Start("two")]
    assert fleet.decide(3.0, waiting=0) == []


def test_a_crowd_without_newcomers_starts_nothing(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.READY), 0.0)
    fleet.engine_joined(hello(capacity=128), 0.0)
    assign(fleet, *(str(number) for number in range(CROWDED + 1)))
    assert fleet.decide(1.0, waiting=0) == []
    fleet.supervisor_joined("two", "first", 2.0)
    fleet.status_changed("two", status(EngineState.STOPPED, epoch=0), 2.0)

    assert fleet.decide(3.0, waiting=0) == []


def test_requests_go_to_the_engine_with_most_room(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "first", 0.0)
    ready(fleet)
    fleet.engine_joined(hello("two", capacity=5), 0.0)

    worker = fleet.roomiest(is_suspect=False)

    assert worker is not None
    assert worker.worker_id == "two"


def test_a_worker_without_failures_is_started_first(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.FAILED, failure="no GPU"), 0.0)
    fleet.supervisor_joined("two", "first", 0.0)

    assert fleet.decide(0.0, waiting=1) == [Start("two")]


def test_without_workers_it_says_so(fleet: Lifecycle) -> None:
    fleet.supervisor_left("one")

    assert fleet.why_not() == "no worker is connected"


def test_scaled_to_zero_can_serve(fleet: Lifecycle) -> None:
    assert fleet.why_not() is None


def test_when_every_worker_failed_the_reason_is_given(fleet: Lifecycle) -> None:
    failed = dataclasses.replace(
        status(EngineState.FAILED, failure="model not found"), retry_after=40.0
    )
    fleet.status_changed("one", failed, 0.0)

    assert fleet.why_not() == "the engine cannot be started: model not found"
    assert fleet.retry_after() == 40.0


def test_a_failed_worker_is_asked_once_so_that_it_tries_again(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.FAILED, failure="no GPU"), 0.0)

    assert fleet.decide(0.0, waiting=1) == [Start("one")]
    assert fleet.decide(1.0, waiting=1) == []


@pytest.mark.parametrize("state", [EngineState.BACKING_OFF, EngineState.FAILED])
def test_a_start_that_fails_is_not_tried_again_for_nobody(
    fleet: Lifecycle, state: EngineState
) -> None:
    fleet.decide(0.0, waiting=1)
    fleet.status_changed("one", status(state, epoch=3, failure="no GPU"), 1.0)

    assert fleet.decide(1.0, waiting=1) == []
    assert fleet.decide(2.0, waiting=0) == [Stop("one", 3)]
    assert fleet.decide(3.0, waiting=0) == []
    assert fleet.decide(4.0, waiting=1) == [Start("one")]
    assert fleet.decide(5.0, waiting=0) == [Stop("one", 3)]


def test_an_engine_works_on_while_its_supervisor_is_silent(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")
    fleet.supervisor_left("one")

    assert fleet.roomiest(is_suspect=False) is not None
    assert fleet.decide(10 * IDLE_TIMEOUT, waiting=9) == []
    assert fleet.engine_left("one", 1, 1.0) == {"a"}
    assert list(fleet.workers) == []


def test_a_silent_supervisor_without_an_engine_is_gone(fleet: Lifecycle) -> None:
    fleet.supervisor_left("one")

    assert list(fleet.workers) == []


def test_an_engine_that_is_ready_but_never_says_hello_is_ended(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.READY), 10.0)

    assert fleet.decide(10.0 + LINK_GRACE - 1, waiting=1) == []
    assert fleet.decide(10.0 + LINK_GRACE, waiting=1) == [Stop("one", 1)]


def test_a_wanted_engine_is_started_once_though_nobody_waits(fleet: Lifecycle) -> None:
    fleet.want_until(60.0)

    assert fleet.decide(0.0, waiting=0) == [Start("one")]
    assert fleet.decide(0.1, waiting=0) == []


def test_an_engine_that_runs_is_kept_while_it_is_wanted_and_no_longer(fleet: Lifecycle) -> None:
    ready(fleet)
    fleet.want_until(IDLE_TIMEOUT + 60.0)

    assert fleet.decide(IDLE_TIMEOUT + 59.9, waiting=0) == []
    assert fleet.decide(IDLE_TIMEOUT + 60.0, waiting=0) == [Stop("one", 1)]


def test_the_idle_timeout_goes_on_when_an_engine_is_no_longer_wanted(fleet: Lifecycle) -> None:
    fleet.want_until(60.0)
    ready(fleet, now=10.0)

    assert fleet.decide(9.9 + IDLE_TIMEOUT, waiting=0) == []
    assert fleet.decide(10.0 + IDLE_TIMEOUT, waiting=0) == [Stop("one", 1)]


def test_wanting_an_engine_for_less_long_shortens_nothing(fleet: Lifecycle) -> None:
    fleet.want_until(60.0)
    fleet.want_until(5.0)

    assert fleet.decide(59.9, waiting=0) == [Start("one")]


def test_an_engine_that_was_wanted_once_is_not_started_afterwards(fleet: Lifecycle) -> None:
    fleet.want_until(60.0)

    assert fleet.decide(60.0, waiting=0) == []


def test_a_wanted_engine_that_died_is_started_again(fleet: Lifecycle) -> None:
    ready(fleet)
    fleet.want_until(60.0)
    fleet.status_changed("one", status(EngineState.STOPPED), 1.0)

    assert fleet.decide(1.0, waiting=0) == [Start("one")]


def test_a_supervisor_goes_on_trying_while_an_engine_is_wanted(fleet: Lifecycle) -> None:
    fleet.want_until(60.0)
    fleet.decide(0.0, waiting=0)
    fleet.status_changed("one", status(EngineState.BACKING_OFF), 1.0)

    assert fleet.decide(1.0, waiting=0) == []
    assert fleet.decide(60.0, waiting=0) == [Stop("one", 1)]
