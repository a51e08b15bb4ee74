"""Real supervisors with real (scripted) engine processes that are killed, stopped and deaf."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol import codec
from protocol.control import (
    EngineFinishedWork,
    EngineState,
    EngineStatus,
    Heartbeat,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
)
from protocol.transcription import Cancel
from protocol.version import PROTOCOL_VERSION
from tests.worker.gateway_end import FAST, GatewayEnd, await_gone, is_alive
from worker.control_session import ExitStatus


@pytest.fixture
def gateway(short_folder: Path) -> Iterator[GatewayEnd]:
    with GatewayEnd(short_folder) as end:
        yield end


def with_timing(**timing: float) -> dict[str, Any]:
    return {**FAST, "timing": {**FAST["timing"], **timing}}


def test_an_engine_is_started_watched_and_stopped(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.welcome()

    ready = gateway.start_engine()
    pid = gateway.engine_pid(1)
    assert (ready.epoch, ready.failure) == (1, None)
    assert (ready.resident_bytes or 0) > 1_000_000
    assert os.getpgid(pid) == pid

    gateway.stop_engine(1)
    assert not is_alive(pid)
    assert gateway.start_engine().epoch == 2


def test_the_stages_of_loading_are_passed_on(gateway: GatewayEnd) -> None:
    gateway.start("wait")
    gateway.welcome()

    gateway.send(StartEngine())

    assert gateway.await_status(lambda status: status.stage == "spawn").epoch == 1
    assert gateway.await_status(lambda status: status.stage == "imports").epoch == 1


def test_a_killed_engine_is_replaced_at_once_after_finished_work(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.welcome()
    gateway.start_engine()
    gateway.send(EngineFinishedWork(1))

    os.kill(gateway.engine_pid(1), signal.SIGKILL)

    status = gateway.await_status(lambda one: one.epoch == 2)
    assert status.state is EngineState.STARTING
    assert status.failure == "the engine process ended with signal 9"
    gateway.await_state(EngineState.READY)


def test_a_stopped_engine_is_killed_after_its_missed_beats(gateway: GatewayEnd) -> None:
    gateway.start("ready beat", with_timing(beat_interval=0.1, beats_missed=5))
    gateway.welcome()
    gateway.start_engine()
    gateway.send(EngineFinishedWork(1))
    pid = gateway.engine_pid(1)

    os.kill(pid, signal.SIGSTOP)

    status = gateway.await_status(lambda one: one.epoch == 2)
    assert status.failure == "the engine process gave no sign of life for 0.5 s"
    assert not is_alive(pid)


def test_an_engine_that_beats_but_is_stuck_is_killed(gateway: GatewayEnd) -> None:
    gateway.start("ready busy", with_timing(step=0.3))
    gateway.welcome()
    gateway.start_engine()

    status = gateway.await_state(EngineState.BACKING_OFF)

    assert status.failure == "no step of work finished for 0.3 s"


def test_an_engine_that_loads_without_progress_is_killed(gateway: GatewayEnd) -> None:
    gateway.start("wait", with_timing(load_stall=0.5))
    gateway.welcome()
    gateway.send(StartEngine())

    status = gateway.await_state(EngineState.BACKING_OFF)

    assert status.failure == "loading made no progress for 0.5 s (stage imports)"


def test_an_engine_deaf_to_sigterm_is_killed(gateway: GatewayEnd) -> None:
    gateway.start("deaf ready beat")
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)

    gateway.stop_engine(1)

    assert not is_alive(pid)
    gateway.await_log("killing the engine process epoch=1")


def test_a_start_while_stopping_gets_the_next_engine(gateway: GatewayEnd) -> None:
    gateway.start("deaf ready beat")
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)

    gateway.send(StopEngine(1))
    gateway.send(StartEngine())

    assert gateway.await_status(lambda one: one.epoch == 2).state is EngineState.STARTING
    assert not is_alive(pid)


def test_a_crash_loop_backs_off_and_then_fails(gateway: GatewayEnd) -> None:
    gateway.start("crash", with_timing(failed_retry=1000.0))
    gateway.welcome()
    gateway.send(StartEngine())

    delays = []
    while (status := gateway.receive(EngineStatus)).state is not EngineState.FAILED:
        if status.state is EngineState.BACKING_OFF:
            delays.append(status.retry_after)

    assert len(delays) == 4
    assert status.epoch == 5
    assert status.failure == "the engine process ended with signal 11"
    assert 900 < (status.retry_after or 0) <= 1000


def test_the_engines_own_words_reach_the_gateway(gateway: GatewayEnd) -> None:
    gateway.start("print fail")
    gateway.welcome()
    gateway.send(StartEngine())

    status = gateway.await_state(EngineState.BACKING_OFF)

    assert status.failure == "the model folder is empty"
    assert "last_line='a line of the engine'" in gateway.await_log("engine process ended")
    assert "\na line of the engine\n" in gateway.log


def test_an_engine_that_sends_nonsense_is_killed(gateway: GatewayEnd) -> None:
    gateway.start("ready garbage wait")
    gateway.welcome()
    gateway.send(StartEngine())

    status = gateway.await_state(EngineState.BACKING_OFF)

    assert status.failure == "the engine process sent a status that cannot be read"


def test_a_command_that_cannot_be_run_is_a_failure(gateway: GatewayEnd) -> None:
    gateway.start("", {**FAST, "command": ["/nonexistent/python"]})
    gateway.welcome()
    gateway.send(StartEngine())

    status = gateway.await_state(EngineState.BACKING_OFF)

    assert status.failure == "no engine process could be started: No such file or directory"


def test_children_of_a_dead_engine_are_killed_and_reaped_before_the_next(
    gateway: GatewayEnd,
) -> None:
    gateway.start("child ready beat")
    gateway.welcome()
    gateway.start_engine()
    child = int(gateway.await_log("child ").rpartition(" ")[2])
    gateway.send(EngineFinishedWork(1))

    os.kill(gateway.engine_pid(1), signal.SIGKILL)
    gateway.await_status(lambda one: one.epoch == 2)

    assert not is_alive(child)


def test_sigterm_ends_engine_and_supervisor(gateway: GatewayEnd) -> None:
    supervisor = gateway.start("child ready beat")
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)
    child = int(gateway.await_log("child ").rpartition(" ")[2])

    supervisor.terminate()

    assert gateway.await_end() == ExitStatus.ASKED
    assert not is_alive(pid)
    assert not is_alive(child)


def test_a_second_sigterm_does_not_wait_for_a_deaf_engine(gateway: GatewayEnd) -> None:
    supervisor = gateway.start("deaf ready beat", with_timing(stop_grace=1000.0))
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)

    supervisor.terminate()
    gateway.await_state(EngineState.STOPPING)
    supervisor.terminate()

    assert gateway.await_end() == ExitStatus.ASKED
    assert not is_alive(pid)


def test_a_killed_supervisor_takes_its_engine_with_it(gateway: GatewayEnd) -> None:
    supervisor = gateway.start("deaf ready wait")
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)

    supervisor.kill()

    await_gone(pid)


def test_the_end_of_standard_input_ends_everything_in_serve_mode(gateway: GatewayEnd) -> None:
    supervisor = gateway.start("ready beat", {**FAST, "with_parent": True})
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)
    assert supervisor.stdin is not None

    supervisor.send_signal(signal.SIGINT)  # Ctrl-C is the parent's to pass on
    supervisor.stdin.close()

    assert gateway.await_end() == ExitStatus.ASKED
    assert not is_alive(pid)
    assert "asked to end" not in gateway.log


def test_a_silent_gateway_ends_the_engine_but_not_the_supervisor(gateway: GatewayEnd) -> None:
    gateway.start("ready beat", {**FAST, "session": {"beat_interval": 0.05, "gateway_silence": 1}})
    gateway.welcome()
    gateway.start_engine()
    pid = gateway.engine_pid(1)

    gateway.await_log("engine process ended epoch=1")

    assert not is_alive(pid)
    gateway.welcome()


def test_a_gateway_that_restarts_finds_the_running_engine(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.welcome()
    gateway.start_engine()

    gateway.send(Introduce("gateway-2", "gateway-2/probe", "secret"))
    gateway.receive(SupervisorHello)
    gateway.send_welcome()

    assert gateway.receive(EngineStatus).state is EngineState.READY


def test_a_worker_id_that_stays_taken_ends_the_supervisor(gateway: GatewayEnd) -> None:
    session = {"beat_interval": 0.05, "refusal_patience": 0.3}
    gateway.start("ready beat", {**FAST, "session": session})
    gateway.receive(Heartbeat)
    gateway.send(Introduce("gateway-1", "gateway-1/probe", "secret"))

    refusals = gateway.refuse_until_end(
        Refused("worker_id_taken", "another worker is called gpu-1")
    )

    assert gateway.await_end() == ExitStatus.WORKER_ID_TAKEN
    assert refusals > 1
    assert "refused by the gateway: another worker is called gpu-1" in gateway.log


def test_a_gateway_of_another_version_ends_the_supervisor(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.receive(Heartbeat)

    gateway.send_frame(msgpack.packb([PROTOCOL_VERSION + 1, "Introduce", {}]))

    assert gateway.await_end() == ExitStatus.PROTOCOL_VERSION
    assert f"protocol version {PROTOCOL_VERSION + 1} met, {PROTOCOL_VERSION} spoken" in gateway.log


def test_malformed_and_misplaced_frames_are_dropped_and_counted(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.welcome()

    for frame in (b"", b"\xc1", b"GET / HTTP/1.1\r\n", codec.encode(Cancel("r1"))):
        gateway.send_frame(frame)

    assert gateway.start_engine().state is EngineState.READY
    assert "(4)" in gateway.await_log("a message of the other link")


def test_an_engine_is_resident_in_the_status_only_while_it_runs(gateway: GatewayEnd) -> None:
    gateway.start("ready beat")
    gateway.welcome()
    gateway.start_engine()

    gateway.stop_engine(1)

    assert gateway.status is not None
    assert gateway.status.resident_bytes is None
