"""What is told of a text under way, and what not yet."""

from dataclasses import replace

import numpy as np
import pytest

from protocol.transcription import Partial, Transcribe
from worker.audio.chunking import Chunk
from worker.audio.conversation import Turn
from worker.chunk_tasks import ChunkTask
from worker.engine.interface import ChunkRequest
from worker.partials import PARTIAL_INTERVAL, PartialTexts

REQUEST = Transcribe("r", 3, "ab/cd", 10, None, "", (), 0.0, False, 0, 0, wants_partials=True)
OPENING = "language English<asr_text>"


def task(
    index: int = 0,
    *,
    context: str = "",
    language: str | None = None,
    is_faint: bool = False,
    previous: str = "",
) -> ChunkTask:
    samples = np.zeros(16, np.float32)
    chunk = Chunk(index, 0, 16, samples, is_silent=False)
    request = ChunkRequest(samples, language, context)
    return ChunkTask(index, chunk, Turn(None, 0, 16, ()), request, is_faint, previous)


def texts(task: ChunkTask, *outputs: str, request: Transcribe = REQUEST) -> list[str | None]:
    partials = PartialTexts(request)
    told = (partials.partial(task, "", output, float(now)) for now, output in enumerate(outputs))
    return [partial.text if partial else None for partial in told]


def test_a_partial_names_chunk_attempt_and_language() -> None:
    partial = PartialTexts(REQUEST).partial(task(4), "", OPENING + "We met ", 0.0)

    assert partial == Partial("r", 3, 4, "English", "We met")


def test_only_growth_is_told() -> None:
    outputs = [
        "lang",
        OPENING,
        OPENING + "We met Ad",
        OPENING + "We met Ada",
        OPENING + "We met Ada ",
    ]

    assert texts(task(), *outputs) == [None, None, "We met", None, "We met Ada"]


def test_what_was_told_is_kept_while_a_displaced_chunk_is_written_again() -> None:
    partials = PartialTexts(REQUEST)
    partials.partial(task(), "", OPENING + "We met ", 0.0)

    assert partials.partial(task(), "", OPENING + "We ", 1.0) is None
    assert partials.told(0) == "We met"


def test_each_chunk_begins_with_nothing_told() -> None:
    partials = PartialTexts(REQUEST)
    partials.partial(task(0), "", OPENING + "We met ", 0.0)
    partial = partials.partial(task(1), "", OPENING + "And left ", 1.0)

    assert partial is not None
    assert partial.text == "And left"
    assert (partials.told(0), partials.told(1)) == ("", "And left")


def test_partials_keep_their_distance() -> None:
    partials = PartialTexts(REQUEST)
    assert partials.is_due(0.0)
    partials.partial(task(), "", OPENING + "We met ", 5.0)

    assert not partials.is_due(5.0 + PARTIAL_INTERVAL / 2)
    assert partials.is_due(5.0 + PARTIAL_INTERVAL * 1.01)


@pytest.mark.parametrize(
    "doubtful",
    [task(context="budget meeting", is_faint=True), task(context="budget meeting", previous="x")],
)
def test_what_may_be_a_copy_of_the_context_is_held_until_it_is_none(doubtful: ChunkTask) -> None:
    outputs = [OPENING + "Budget ", OPENING + "Budget meeting ", OPENING + "Budget meeting is "]

    assert texts(doubtful, *outputs) == [None, None, "Budget meeting is"]


def test_words_of_the_context_that_are_heard_well_are_told() -> None:
    assert texts(task(context="budget meeting"), OPENING + "Budget ") == ["Budget"]


def test_a_text_in_an_unexpected_language_is_held() -> None:
    request = replace(REQUEST, languages=("German",))

    assert texts(task(), OPENING + "We met ", request=request) == [None]
    assert texts(task(), "language German<asr_text>Wir ", request=request) == ["Wir"]
    assert texts(task(language="German"), "Wir trafen ", request=request) == ["Wir trafen"]


def test_what_was_said_before_a_long_pause_stands_before_what_is_written_now() -> None:
    partials = PartialTexts(REQUEST)
    partials.partial(task(), "", OPENING + "We met ", 0.0)

    behind = partials.partial(task(), "We met Ada.", OPENING + "She left ", 1.0)
    unchanged = partials.partial(task(), "We met Ada.", OPENING + "She left ", 2.0)

    assert behind is not None
    assert behind.text == partials.told(0) == "We met Ada. She left"
    assert unchanged is None
