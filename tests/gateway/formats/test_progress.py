import json
from dataclasses import replace
from typing import Any

from gateway.formats.progress import ProgressEvents
from protocol.limits import SAMPLE_RATE
from protocol.transcription import ChunkDone, Partial, Progress, Stage
from tests.fakes import chunk_done, partial


def moved(total_seconds: float | None) -> Progress:
    return Progress("req_1", 1, Stage.INFERRING, 0.0, total_seconds)


def done_until(seconds: float) -> ChunkDone:
    return replace(chunk_done("one"), end=round(seconds * SAMPLE_RATE))


def told(progress: ProgressEvents, message: ChunkDone | Partial | Progress, now: float) -> Any:
    """The event's fields, or None where there is none."""
    written = b"".join(progress.of(message, now))
    return json.loads(written.removeprefix(b"data: ")) if written else None


def last(progress: ProgressEvents, audio_seconds: float) -> Any:
    (written,) = progress.done(audio_seconds)
    assert written.endswith(b"}\n\n")
    return json.loads(written.removeprefix(b"data: "))


def test_percent_is_what_is_transcribed_of_the_length_the_container_tells() -> None:
    progress = ProgressEvents()

    assert told(progress, moved(120.0), 0.0) is None
    assert told(progress, partial("one"), 1.0) is None
    assert told(progress, done_until(30.0), 2.0) == {
        "type": "transcript.progress",
        "percent": 25,
        "done_seconds": 30.0,
        "total_seconds": 120.0,
    }


def test_without_a_known_length_there_are_seconds_and_no_percent() -> None:
    progress = ProgressEvents()

    assert told(progress, moved(None), 0.0) is None
    event = told(progress, done_until(30.0), 1.0)

    assert (event["percent"], event["done_seconds"], event["total_seconds"]) == (None, 30.0, None)
    assert last(progress, 61.5)["percent"] == 100


def test_there_is_at_most_one_event_a_second_and_none_without_news() -> None:
    progress = ProgressEvents()
    told(progress, moved(100.0), 0.0)

    assert told(progress, done_until(10.0), 5.0)["percent"] == 10
    assert told(progress, done_until(20.0), 5.2) is None
    assert told(progress, done_until(30.0), 5.9) is None
    assert told(progress, moved(100.0), 6.1)["percent"] == 30
    assert told(progress, moved(100.0), 9.0) is None


def test_the_last_event_says_100_per_cent_however_soon_it_comes() -> None:
    progress = ProgressEvents()
    told(progress, moved(100.0), 0.0)
    told(progress, done_until(50.0), 5.0)

    event = last(progress, 99.7)

    assert event["percent"] == 100
    assert event["done_seconds"] == event["total_seconds"] == 99.7


def test_a_container_that_promises_too_little_never_makes_it_look_finished() -> None:
    progress = ProgressEvents()
    told(progress, moved(10.0), 0.0)

    events = [told(progress, done_until(5.0 * i), 2.0 * i) for i in range(1, 6)]

    assert [event["percent"] for event in events] == [50, 99, 99, 99, 99]
    assert events[-1]["total_seconds"] == events[-1]["done_seconds"] == 25.0


def test_the_next_engine_neither_forgets_the_length_nor_takes_percent_back() -> None:
    progress = ProgressEvents()
    told(progress, moved(100.0), 0.0)
    assert told(progress, done_until(50.0), 1.0)["percent"] == 50

    told(progress, moved(None), 2.0)
    assert told(progress, done_until(60.0), 3.0)["percent"] == 60
    told(progress, moved(200.0), 4.0)
    assert told(progress, done_until(70.0), 5.0)["percent"] == 60


def test_nothing_heard_of_an_empty_recording_is_all_of_it() -> None:
    assert last(ProgressEvents(), 0.0)["percent"] == 100
