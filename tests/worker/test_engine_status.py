import contextlib
import os
import threading
from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine_status import (
    BadReport,
    Beat,
    EngineReport,
    Failure,
    Loading,
    Ready,
    StatusReader,
    StatusWriter,
    SupervisorGone,
)

PIPE_BUF = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # the test may have closed it
            os.close(end)


def test_what_is_written_is_read(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = StatusWriter(writing)

    writer.loading("download", 10, 4_000_000_000)
    writer.loading("imports")
    writer.ready()
    writer.beat(17, True)
    writer.failed("the model folder is empty")

    assert StatusReader().feed(os.read(reading, 65536)) == [
        Loading("download", 10, 4_000_000_000),
        Loading("imports", 0, None),
        Ready(),
        Beat(17, True),
        Failure("the model folder is empty"),
    ]


def test_reports_may_come_in_any_pieces(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = StatusWriter(writing)
    writer.loading("weights", 1, 2)
    writer.beat(1, False)
    reader = StatusReader()

    reports: list[EngineReport] = []
    for byte in os.read(reading, 65536):
        reports += reader.feed(bytes([byte]))

    assert reports == [Loading("weights", 1, 2), Beat(1, False)]


def test_a_report_is_always_short_enough_to_be_written_in_one_go(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    StatusWriter(writing).failed("\U0001f600" * 100_000)

    written = os.read(reading, 65536)

    assert len(written) <= PIPE_BUF
    assert StatusReader().feed(written) == [Failure("\U0001f600" * 1000)]


def test_text_that_is_no_unicode_does_not_stop_a_failure(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    StatusWriter(writing).failed("file \udce9 is missing")

    assert StatusReader().feed(os.read(reading, 65536)) == [Failure("file ? is missing")]


def test_threads_do_not_mix_their_reports(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = StatusWriter(writing)

    def beat() -> None:
        for steps in range(200):
            writer.beat(steps, True)

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(StatusReader().feed(os.read(reading, 65536))) == 800


def test_the_engines_children_do_not_inherit_the_pipe(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    os.set_inheritable(writing, True)

    StatusWriter(writing)

    assert not os.get_inheritable(writing)


def test_writing_to_nobody_says_that_the_supervisor_is_gone(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)

    with pytest.raises(SupervisorGone):
        StatusWriter(writing).beat(0, False)


@pytest.mark.parametrize(
    "report",
    [
        None,
        7,
        [],
        {},
        {"loading": "x"},
        {"loading": 1, "done": 0, "total": None},
        {"loading": "x", "done": -1, "total": None},
        {"loading": "x", "done": True, "total": None},
        {"loading": "x", "done": 0, "total": 2**60},
        {"ready": False},
        {"beat": "1", "busy": False},
        {"beat": 1, "busy": 1},
        {"failure": b"bytes"},
    ],
)
def test_anything_else_is_a_bad_report(report: object) -> None:
    with pytest.raises(BadReport):
        StatusReader().feed(msgpack.packb(report))


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_random_bytes_raise_nothing_but_bad_report(pieces: list[bytes]) -> None:
    reader = StatusReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except BadReport:
        return


def test_an_endless_report_is_refused_before_it_fills_the_memory() -> None:
    reader = StatusReader()
    start = b"\xdb\xff\xff\xff\xff"  # a string of 4 GiB

    with pytest.raises(BadReport):
        for piece in [start] + [b"x" * 65536] * 16:
            reader.feed(piece)
