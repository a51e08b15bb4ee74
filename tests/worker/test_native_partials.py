"""Texts under way from the native engine through the engine loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.transcription import ChunkDone, Partial
from tests.worker.engine.test_native import FLITE, loaded, speech
from tests.worker.test_engine_loop import Workshop, told
from worker.audio.decoding import AudioDecoder


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with AudioDecoder() as decoder:
        workshop = Workshop(tmp_path, decoder, loaded())
        yield workshop
        workshop.end()


def test_words_arrive_one_by_one_and_add_up_to_the_text(workshop: Workshop) -> None:
    workshop.upload("c0", speech("flite"))
    workshop.open("r", wants_partials=True, wants_logprobs=True)
    answers = told(workshop)

    chunks = [answer for answer in answers if isinstance(answer, ChunkDone)]
    partials = [answer for answer in answers if isinstance(answer, Partial)]
    assert " ".join(chunk.text for chunk in chunks) == FLITE
    assert len(partials) > len(chunks)
    assert {partial.language for partial in partials} == {"English"}
    for chunk in chunks:
        of_chunk = [partial.text for partial in partials if partial.index == chunk.index]
        assert of_chunk == sorted(set(of_chunk), key=len)
        assert all(chunk.text.startswith(text) for text in of_chunk)
        assert b"".join(token.content for token in chunk.tokens) == chunk.text.encode()
        assert all(segment.avg_logprob is not None for segment in chunk.segments)
