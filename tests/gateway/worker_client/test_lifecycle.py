"""The fleet's decisions, as histories of events."""

import dataclasses

import pytest

from gateway.worker_client.lifecycle import LINK_GRACE, Lifecycle, Start, Stop
from protocol.control import EngineState, EngineStatus
from protocol.transcription import Hello

IDLE_TIMEOUT = 300.0


def status(state: EngineState, epoch: int = 1, failure: str | None = None) -> EngineStatus:
    return EngineStatus(state, epoch, "", 0, None, failure, None, None)


def hello(worker_id: str = "one", epoch: int = 1, capacity: int = 2) -> Hello:
    return Hello(worker_id, epoch, "model", capacity, True, 60.0)


@pytest.fixture
def fleet() -> Lifecycle:
    fleet = Lifecycle(idle_timeout=IDLE_TIMEOUT)
    fleet.supervisor_joined("one", "model")
    fleet.status_changed("one", status(EngineState.STOPPED, epoch=0), 0.0)
    return fleet


def ready(fleet: Lifecycle, now: float = 0.0, epoch: int = 1) -> None:
    fleet.status_changed("one", status(EngineState.READY, epoch), now)
    fleet.engine_joined(hello(epoch=epoch), now)


def assign(fleet: Lifecycle, *request_ids: str, alone: bool = False) -> None:
    for request_id in request_ids:
        worker = fleet.roomiest(alone=alone)
        assert worker is not None
        fleet.assign(worker, request_id, alone=alone)


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

    assert fleet.roomiest(alone=False) is None
    fleet.finished("one", "a", 1.0)
    assert fleet.roomiest(alone=False) is not None


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
    fleet.supervisor_joined("one", "model")
    ready(fleet)

    assert fleet.decide(1e9, waiting=0) == []


def test_a_request_during_the_end_waits_for_the_next_engine(fleet: Lifecycle) -> None:
    ready(fleet)
    assert fleet.decide(IDLE_TIMEOUT, waiting=0) == [Stop("one", 1)]

    assert fleet.roomiest(alone=False) is None
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
    assert fleet.roomiest(alone=False) is None


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


def test_a_suspect_request_gets_an_empty_engine_and_keeps_it_alone(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")
    assert fleet.roomiest(alone=True) is None

    fleet.finished("one", "a", 1.0)
    assign(fleet, "suspect", alone=True)
    assert fleet.roomiest(alone=False) is None

    fleet.release_reservation("one")
    assert fleet.roomiest(alone=False) is not None


def test_the_end_of_a_suspect_request_frees_its_engine(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "suspect", alone=True)
    fleet.finished("one", "suspect", 1.0)

    assert fleet.roomiest(alone=False) is not None


def test_a_second_worker_starts_when_the_first_is_full(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "model")
    ready(fleet)
    assert fleet.decide(0.0, waiting=2) == []

    assign(fleet, "a", "b")
    assert fleet.decide(0.0, waiting=1) == [Start("two")]


def test_requests_go_to_the_engine_with_most_room(fleet: Lifecycle) -> None:
    fleet.supervisor_joined("two", "model")
    ready(fleet)
    fleet.engine_joined(hello("two", capacity=5), 0.0)

    worker = fleet.roomiest(alone=False)

    assert worker is not None
    assert worker.worker_id == "two"


def test_a_worker_without_failures_is_started_first(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.FAILED, failure="no GPU"), 0.0)
    fleet.supervisor_joined("two", "model")

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


def test_the_loss_of_a_supervisor_gives_back_its_requests(fleet: Lifecycle) -> None:
    ready(fleet)
    assign(fleet, "a")

    assert fleet.supervisor_left("one") == {"a"}
    assert list(fleet.workers) == []


def test_an_engine_that_is_ready_but_never_says_hello_is_ended(fleet: Lifecycle) -> None:
    fleet.status_changed("one", status(EngineState.READY), 10.0)

    assert fleet.decide(10.0 + LINK_GRACE - 1, waiting=1) == []
    assert fleet.decide(10.0 + LINK_GRACE, waiting=1) == [Stop("one", 1)]


def test_a_stuck_engine_is_ended_once(fleet: Lifecycle) -> None:
    ready(fleet)

    assert fleet.end_engine("one", 1) == [Stop("one", 1)]
    assert fleet.end_engine("one", 1) == []
