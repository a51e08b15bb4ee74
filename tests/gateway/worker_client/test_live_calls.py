"""Which engine holds which live session, as histories of events on a clock of the test's own."""

from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.settings import Settings
from gateway.worker_client.dispatcher import Dispatcher, EngineId
from gateway.worker_client.interface import TranscriptionFailed
from gateway.worker_client.lifecycle import Lifecycle
from gateway.worker_client.live_calls import (
    MOST_DEATHS,
    MOST_LOSSES,
    EngineFound,
    EngineLost,
    LiveCall,
    LiveNews,
    TryAgain,
)
from protocol.control import EngineState, EngineStatus, StartEngine, StopEngine
from protocol.failures import FailureCode
from protocol.live import (
    CloseSession,
    Commit,
    Encoding,
    Listened,
    LiveEvent,
    LiveOptions,
    OpenSession,
    SessionFailed,
    StreamFormat,
)
from protocol.transcription import Hello

OPENING = OpenSession(
    "s1",
    1,
    StreamFormat(Encoding.MULAW, 8000, 1),
    LiveOptions(None, (), "", (), None, wants_partials=True, wants_logprobs=False),
    0,
)


class Fleet:
    """A dispatcher whose workers a test plays; everything it sends is kept."""

    def __init__(self, **settings: object) -> None:
        self.now = 0.0
        self.takes = True
        self.to_engines: list[tuple[EngineId, object]] = []
        self.to_supervisors: list[object] = []
        chosen = Settings(data_dir=Path("/nowhere"), **settings)  # type: ignore[arg-type]
        self.lifecycle = Lifecycle(idle_timeout=chosen.idle_timeout)
        self.dispatcher = Dispatcher(chosen, self.lifecycle, self, lambda: self.now)

    def to_engine(self, engine: EngineId, message: object) -> bool:
        if self.takes:
            self.to_engines.append((engine, message))
        return self.takes

    def to_supervisor(self, worker_id: str, message: object) -> bool:
        self.to_supervisors.append(message)
        return True

    def worker(self, worker_id: str = "one") -> None:
        self.lifecycle.supervisor_joined(worker_id, "first", self.now)
        self.status(EngineState.STOPPED, 0, worker_id)

    def status(self, state: EngineState, epoch: int = 1, worker_id: str = "one") -> None:
        status = EngineStatus(state, epoch, "", 0, None, "it broke", None, None)
        self.dispatcher.engine_died(self.lifecycle.status_changed(worker_id, status, self.now))
        self.dispatcher.move()

    def engine(self, epoch: int = 1, worker_id: str = "one", capacity: int = 1) -> None:
        self.status(EngineState.READY, epoch, worker_id)
        self.lifecycle.engine_joined(Hello(worker_id, epoch, "m", capacity, True), self.now)
        self.dispatcher.move()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.dispatcher.check_deadlines()
        self.dispatcher.move()

    def hear(self, event: LiveEvent, epoch: int = 1, worker_id: str = "one") -> None:
        self.dispatcher.session_answered((worker_id, epoch), event)


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.worker()
    return fleet


async def news(call: LiveCall, count: int) -> list[LiveNews]:
    """The next so many."""
    async with aclosing(call.news()) as coming:
        return [await anext(coming) for _ in range(count)]


def listened(attempt: int, acknowledged: int = 0) -> Listened:
    return Listened("s1", attempt, acknowledged, acknowledged)


async def test_a_session_starts_an_engine(fleet: Fleet) -> None:
    fleet.dispatcher.open_session("s1")

    assert fleet.to_supervisors == [StartEngine()]


async def test_a_quiet_session_keeps_its_engine(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    fleet.wait(100_000.0)
    assert StopEngine(1) not in fleet.to_supervisors
    call.close()
    fleet.wait(100_000.0)

    assert StopEngine(1) in fleet.to_supervisors


async def test_sessions_take_no_places_of_recordings(fleet: Fleet) -> None:
    for name in "abc":
        fleet.dispatcher.open_session(name)
    fleet.engine(capacity=1)

    worker = fleet.lifecycle.worker("one")
    assert worker is not None
    assert worker.free == 1
    assert fleet.dispatcher.live.waiting == 0


async def test_sessions_beyond_the_limit_are_refused() -> None:
    fleet = Fleet(max_live_sessions=1)
    fleet.dispatcher.open_session("s1")

    with pytest.raises(TranscriptionFailed) as refusal:
        fleet.dispatcher.open_session("s2")
    assert refusal.value.code is FailureCode.QUEUE_FULL


async def test_a_place_is_free_again_when_a_session_closes() -> None:
    fleet = Fleet(max_live_sessions=1)
    fleet.dispatcher.open_session("s1").close()

    fleet.dispatcher.open_session("s2")


async def test_a_lost_engine_is_followed_by_the_next_under_another_attempt(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine(1)
    fleet.status(EngineState.BACKING_OFF, 1)
    fleet.engine(2)

    assert await news(call, 3) == [EngineFound(1), EngineLost(), EngineFound(2)]
    assert not call.send(1, Commit("s1"))
    assert call.send(2, Commit("s1"))
    assert fleet.to_engines == [(("one", 2), Commit("s1"))]


async def test_what_an_earlier_engine_still_says_is_dropped(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine(1)
    fleet.status(EngineState.BACKING_OFF, 1)
    fleet.engine(2)
    fleet.hear(listened(1), epoch=1)
    fleet.hear(listened(2), epoch=2)

    assert (await news(call, 4))[3] == listened(2)


async def test_deaths_without_anything_done_end_a_session(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    for epoch in range(1, MOST_DEATHS + 1):
        fleet.engine(epoch)
        fleet.status(EngineState.BACKING_OFF, epoch)

    last = (await news(call, 2 * MOST_DEATHS + 1))[-1]
    assert isinstance(last, TranscriptionFailed)
    assert last.code is FailureCode.WORKER_FAILED


async def test_deaths_are_forgiven_once_something_got_done(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    for epoch in range(1, 2 * MOST_DEATHS):
        fleet.engine(epoch)
        fleet.hear(listened(epoch, acknowledged=epoch), epoch)
        fleet.status(EngineState.BACKING_OFF, epoch)

    assert not call.has_failed


async def test_cut_links_are_nobodys_fault_but_not_endured_for_ever(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.status(EngineState.READY)
    for _ in range(MOST_LOSSES - 1):
        fleet.engine()
        fleet.dispatcher.engine_fell_silent(("one", 1))
        fleet.dispatcher.move()
    assert not call.has_failed
    fleet.engine()
    fleet.dispatcher.engine_fell_silent(("one", 1))
    fleet.dispatcher.move()

    assert call.has_failed


async def test_an_engine_that_ends_gets_no_session_back(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    fleet.hear(SessionFailed("s1", 1, FailureCode.SHUTTING_DOWN, "The engine is ending."))

    assert await news(call, 2) == [EngineFound(1), EngineLost()]
    assert call.engine is None
    assert not call.has_failed


async def test_a_session_no_engine_can_serve_fails_with_the_engines_words(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    fleet.hear(SessionFailed("s1", 1, FailureCode.AUDIO_LIMITS, "Send another format."))

    last = (await news(call, 2))[1]
    assert isinstance(last, TranscriptionFailed)
    assert last.message == "Send another format."


async def test_a_slow_start_is_waited_for_while_there_is_room(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.status(EngineState.STARTING)
    fleet.wait(100_000.0)
    assert not call.has_failed
    call.is_full = True
    fleet.wait(1.0)

    assert call.has_failed


async def test_a_worker_that_may_yet_connect_is_waited_for_a_while() -> None:
    fleet = Fleet()
    call = fleet.dispatcher.open_session("s1")
    fleet.wait(100.0)
    assert not call.has_failed
    fleet.wait(100.0)

    assert call.has_failed


async def test_a_session_opened_where_the_worker_has_failed_ends_at_once(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.status(EngineState.FAILED)

    [failure] = await news(call, 1)
    assert isinstance(failure, TranscriptionFailed)
    assert "it broke" in failure.message


async def test_a_stalled_link_is_told_of_again_later(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    fleet.takes = False
    assert not call.send(1, Commit("s1"))
    fleet.takes = True
    fleet.wait(1.0)

    assert await news(call, 2) == [EngineFound(1), TryAgain()]


async def test_an_engine_that_does_not_even_take_the_opening_is_left(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    fleet.takes = False
    assert not call.send(1, OPENING)
    fleet.wait(1.0)

    assert await news(call, 2) == [EngineFound(1), EngineLost()]


async def test_closing_tells_the_engine(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.engine()
    call.close()

    assert fleet.to_engines == [(("one", 1), CloseSession("s1"))]


async def test_the_end_of_the_gateway_fails_every_session(fleet: Fleet) -> None:
    call = fleet.dispatcher.open_session("s1")
    fleet.dispatcher.end_all()

    [failure] = await news(call, 1)
    assert isinstance(failure, TranscriptionFailed)
    assert failure.code is FailureCode.SHUTTING_DOWN
