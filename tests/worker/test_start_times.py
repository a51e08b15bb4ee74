"""How a start's seconds are told apart."""

from worker.start_times import StartTimes, seconds_since_process_start


def test_each_stage_gets_the_seconds_until_the_next_one_began() -> None:
    now = [100.0]
    times = StartTimes(lambda: now[0], age=lambda: 0.5)
    for stage, at in (("imports", 100.25), ("weights", 102.25), ("warm_up", 103.0), ("", 104.0)):
        now[0] = at
        times.enter(stage)

    assert str(times) == (
        "spawn_seconds=0.75 imports_seconds=2.00 weights_seconds=0.75 warm_up_seconds=1.00"
    )


def test_a_stage_entered_again_goes_on() -> None:
    now = [0.0]
    times = StartTimes(lambda: now[0], age=lambda: 0.0)
    for at in (1.0, 2.0, 3.0):
        now[0] = at
        times.enter("download")
    now[0] = 4.0
    times.enter("imports")

    assert "download_seconds=3.00" in str(times)


def test_this_process_has_an_age() -> None:
    assert 0 < seconds_since_process_start() < 24 * 3600
