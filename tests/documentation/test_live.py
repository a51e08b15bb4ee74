"""The API page names what the live dialects read and say."""

import re
from pathlib import Path

import pytest
from starlette.datastructures import QueryParams

from gateway.live.predecessor_query import ENCODINGS, wishes_of
from gateway.live.realtime_events import ErrorCode
from gateway.live.realtime_session import FLAT_FORMATS, NESTED_FORMATS, STEP_SECONDS
from gateway.settings import Settings
from protocol.live import Strategy
from tests.gateway.live.dialects import conversation, realtime

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text("utf-8")


class QueryThatRemembers(QueryParams):
    """A query that knows which parameters were asked for."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self.asked: set[str] = set()

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]  # never None here
        self.asked.add(key)
        return super().get(key, default)


def section(title: str) -> str:
    """Of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


REALTIME = section("WS /v1/realtime")
PREDECESSOR = section("WS /ws/transcribe")


def unnamed(names: set[str], text: str) -> set[str]:
    """Those that the text has not as code."""
    return {name for name in names if not re.search(rf"[`\"]{re.escape(name)}[`\"]", text)}


def test_every_parameter_of_ws_transcribe_has_a_place_on_the_page() -> None:
    query = QueryThatRemembers("strategy=rollback")
    wishes_of(query, Settings())

    assert len(query.asked) > 12
    assert unnamed(query.asked, PREDECESSOR) == set()


def test_every_parameter_of_realtime_has_a_place_on_the_page() -> None:
    query = QueryThatRemembers("")
    realtime(query)

    assert len(query.asked) >= 5
    assert unnamed(query.asked, REALTIME) == set()


@pytest.mark.parametrize(
    "names",
    [set(map(str, ErrorCode)), {*NESTED_FORMATS, *FLAT_FORMATS}, set(STEP_SECONDS)],
    ids=["errors", "formats", "delays"],
)
def test_every_word_of_realtime_has_a_place_on_the_page(names: set[str]) -> None:
    assert unnamed(names, REALTIME) == set()


def test_every_word_of_ws_transcribe_has_a_place_on_the_page() -> None:
    assert unnamed({*ENCODINGS, *map(str, Strategy)}, PREDECESSOR) == set()


def test_every_event_of_realtime_has_a_place_on_the_page() -> None:
    kinds = {
        frame["type"]
        for headers in ({}, {"openai-beta": "realtime=v1"})
        for frame in conversation("model=x-diarize&extensions=1", headers)
    }

    assert len(kinds) > 15
    assert unnamed(kinds - {"transcription_session.created"}, REALTIME) == set()
