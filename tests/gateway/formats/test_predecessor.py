import json
from typing import Any

from gateway.formats.predecessor import ChunkEvents
from protocol.transcription import ChunkDone, Partial
from tests.fakes import chunk_done, partial


def events(
    *messages: ChunkDone | Partial, audio_seconds: float, asked: str | None = None
) -> list[Any]:
    stream = ChunkEvents(asked)
    pieces = [piece for message in messages for piece in stream.of(message)]
    pieces += stream.done(audio_seconds)
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    return [json.loads(piece[6:]) for piece in pieces]


def test_short_recording_is_one_event_without_an_index() -> None:
    assert events(partial("one"), chunk_done("one two"), audio_seconds=5.0) == [
        {"text": "one two", "language": "English", "is_final": True},
        {"done": True},
    ]


def test_long_recording_counts_its_chunks_and_the_last_one_is_final() -> None:
    chunks = [chunk_done(text, index=number) for number, text in enumerate(("one", "two", "three"))]

    assert events(*chunks, audio_seconds=80.0) == [
        {"text": "one", "language": "English", "is_final": False, "chunk_index": 0},
        {"text": "two", "language": "English", "is_final": False, "chunk_index": 1},
        {"text": "three", "language": "English", "is_final": True, "chunk_index": 2},
        {"done": True},
    ]


def test_one_chunk_of_a_long_recording_has_an_index() -> None:
    first, _ = events(chunk_done("one"), audio_seconds=5.1)

    assert (first["chunk_index"], first["is_final"]) == (0, True)


def test_silence_is_one_empty_event_in_the_language_asked_for() -> None:
    assert events(audio_seconds=1.0, asked="German") == [
        {"text": "", "language": "German", "is_final": True},
        {"done": True},
    ]
    assert events(audio_seconds=1.0)[0]["language"] == ""
