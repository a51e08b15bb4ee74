"""Scripted conversations on the control link."""

from protocol.control import (
    EngineFinishedWork,
    Heartbeat,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
    Welcome,
)
from protocol.transcription import Cancel
from worker.control_session import (
    ControlSession,
    ExitStatus,
    Reaction,
    Say,
    SayStatus,
    SessionTiming,
    Unexpected,
)
from worker.supervision import (
    GatewayLost,
    GatewayReplaced,
    Shutdown,
    StartWanted,
    StopWanted,
    WorkFinished,
)

HELLO = SupervisorHello("gpu-1", "9b1d", "embedded")
FIRST = Introduce("gateway-1", "gateway-1/probe", "secret")
SECOND = Introduce("gateway-2", "gateway-2/probe", "secret")
TAKEN = Refused("worker_id_taken", "another worker has this WORKER_ID")


def new_session() -> ControlSession:
    return ControlSession(HELLO, SessionTiming(), 0.0)


def welcome_session() -> ControlSession:
    session = new_session()
    session.heard(FIRST, 0.0)
    session.heard(Welcome(), 0.0)
    return session


def ticks(session: ControlSession, start: float, end: float) -> list[Reaction]:
    """Every reaction but heartbeats, second by second."""
    happened: list[Reaction] = []
    now = start
    while now <= end:
        happened += [one for one in session.tick(now) if one != Say(Heartbeat())]
        now += 1.0
    return happened


def test_a_heartbeat_goes_out_every_second() -> None:
    session = new_session()

    beats = [now for now in (0.0, 0.5, 1.0, 1.9, 2.0) if session.tick(now) == [Say(Heartbeat())]]

    assert beats == [0.0, 1.0, 2.0]


def test_a_beat_can_be_brought_forward() -> None:
    session = new_session()
    session.tick(0.0)

    session.beat_at_once()

    assert session.deadline() <= 0.5
    assert session.tick(0.5) == [Say(Heartbeat())]
    assert session.tick(1.0) == []


def test_an_introduction_is_answered_by_hello_and_a_welcome_by_the_status() -> None:
    session = new_session()

    assert session.heard(FIRST, 0.0) == [Say(HELLO)]
    assert not session.is_welcome
    assert session.heard(Welcome(), 0.1) == [SayStatus()]
    assert session.is_welcome


def test_orders_of_a_gateway_that_welcomed_us_become_events() -> None:
    session = welcome_session()

    assert session.heard(StartEngine(), 1.0) == [StartWanted()]
    assert session.heard(StopEngine(3), 1.0) == [StopWanted(3)]
    assert session.heard(EngineFinishedWork(3), 1.0) == [WorkFinished(3)]
    assert session.heard(Heartbeat(), 1.0) == []


def test_orders_before_the_welcome_are_void() -> None:
    session = new_session()
    session.heard(FIRST, 0.0)

    assert session.heard(StartEngine(), 0.0) == []


def test_a_second_introduction_of_the_same_gateway_only_asks_for_another_hello() -> None:
    session = welcome_session()

    assert session.heard(FIRST, 5.0) == [Say(HELLO)]
    assert not session.is_welcome


def test_another_gateway_voids_what_the_first_one_wanted() -> None:
    session = welcome_session()

    assert session.heard(SECOND, 5.0) == [GatewayReplaced(), Say(HELLO)]


def test_messages_of_the_other_link_are_unexpected() -> None:
    assert welcome_session().heard(Cancel("r1"), 1.0) == [Unexpected()]


def test_a_gateway_silent_for_ten_seconds_is_lost_once() -> None:
    session = welcome_session()

    assert ticks(session, 1, 9) == []
    assert ticks(session, 10, 60) == [GatewayLost()]


def test_a_gateway_that_was_only_paused_is_obeyed_again_without_a_greeting() -> None:
    session = welcome_session()
    ticks(session, 1, 20)

    assert session.heard(StartEngine(), 21.0) == [StartWanted()]
    assert session.is_welcome


def test_any_message_is_a_sign_of_the_gateways_life() -> None:
    session = welcome_session()

    for now in range(1, 100, 9):
        session.heard(Heartbeat(), float(now))
        assert ticks(session, now, now + 8) == []


def test_a_gateway_that_comes_back_can_be_lost_again() -> None:
    session = welcome_session()
    ticks(session, 1, 20)

    session.heard(FIRST, 21.0)

    assert ticks(session, 21, 40) == [GatewayLost()]


def test_a_pause_of_the_supervisor_itself_is_not_the_gateways_silence() -> None:
    session = welcome_session()
    ticks(session, 1, 5)

    assert session.tick(3600.0) == [Say(Heartbeat())]
    assert ticks(session, 3601, 3604) == []
    assert ticks(session, 3605, 3610) == [GatewayLost()]


def test_a_taken_worker_id_is_tried_again_until_the_earlier_session_has_expired() -> None:
    session = new_session()
    session.heard(FIRST, 0.0)

    assert session.heard(TAKEN, 0.0) == []
    assert session.tick(1.0) == [Say(HELLO)]
    assert session.heard(TAKEN, 1.0) == []
    assert session.tick(4.0) == [Say(HELLO)]
    assert session.heard(Welcome(), 4.1) == [SayStatus()]
    assert session.tick(5.0) == [Say(Heartbeat())]


def test_a_worker_id_still_taken_after_ten_seconds_ends_the_supervisor() -> None:
    session = new_session()
    session.heard(FIRST, 0.0)
    session.heard(TAKEN, 0.0)

    assert session.heard(TAKEN, 9.9) == []
    assert session.heard(TAKEN, 10.0) == [Shutdown(ExitStatus.WORKER_ID_TAKEN)]
    assert session.refusal == "another worker has this WORKER_ID"


def test_patience_with_a_taken_worker_id_begins_anew_with_each_gateway() -> None:
    session = new_session()
    session.heard(FIRST, 0.0)
    session.heard(TAKEN, 0.0)

    session.heard(SECOND, 9.0)

    assert session.heard(TAKEN, 11.0) == []


def test_a_gateway_of_another_version_ends_the_supervisor() -> None:
    session = new_session()

    reactions = session.heard(Refused("protocol_version", "version 2 is spoken here"), 0.0)

    assert reactions == [Shutdown(ExitStatus.PROTOCOL_VERSION)]
    assert session.refusal == "version 2 is spoken here"
