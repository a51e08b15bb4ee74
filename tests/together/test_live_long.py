"""One live call of many minutes through the running server, sent faster than it plays.

Needs the recordings of ../shared/speech; skipped without them. `scripts/test --long` takes an hour
at ten times real time, otherwise two minutes do. Figures are logged: --log-cli-level=INFO.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench.live_memory import call, resident_by_minute
from bench.live_server import KINDS, LiveServer, Ran, live_server
from bench.live_streams import error_rate
from tests import speech

logger = logging.getLogger(__name__)

pytestmark = speech.needs_human_speech

MB = 10**6
MOST_GROWTH = 50 * MB
"""From the minute in which memory has settled to the last one."""


@dataclass(frozen=True)
class Length:
    """Of the call, in minutes of audio."""

    minutes: int
    settled: int
    pace: float


SHORT, HOUR = Length(2, 1, 20.0), Length(60, 10, 10.0)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as server:
        yield server


@pytest.fixture(
    scope="module",
    params=[pytest.param(SHORT, id="short"), pytest.param(HOUR, id="hour", marks=pytest.mark.long)],
)
def length(request: pytest.FixtureRequest) -> Length:
    found: Length = request.param
    return found


@pytest.fixture(scope="module")
def ran(server: LiveServer, length: Length) -> Ran:
    return call(server, length.minutes, length.pace)


def test_it_is_understood_to_its_end_and_each_utterance_is_answered(ran: Ran) -> None:
    found = ran.figures()
    (log,) = ran.logs
    rate = error_rate(ran, found)

    logger.info("%d utterances, WER %.2f %%", found.utterances, 100 * rate)
    assert (log.is_answered, log.closed) == (True, None)
    assert found.unanswered == 0
    assert rate < 0.02


def test_memory_stays_flat(ran: Ran, length: Length) -> None:
    by_minute = {found.minute: found.bytes for found in resident_by_minute(ran)}

    for kind in KINDS:
        early, late = by_minute[length.settled][kind], by_minute[length.minutes][kind]
        logger.info("%s: %.1f MB, then %.1f MB", kind, early / MB, late / MB)
        assert late - early < MOST_GROWTH
