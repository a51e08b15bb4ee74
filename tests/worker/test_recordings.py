"""What is said to the gateway about one recording, and in which order."""

import pytest

from protocol import codec
from protocol.limits import MAX_FRAME_BYTES
from protocol.transcription import ChunkDone, Final, Nats, Segment, Stage, Token, Transcribe, Word
from worker.recordings import (
    PROGRESS_INTERVAL,
    ChunkOutcome,
    ChunkSpan,
    CutDifferently,
    Recording,
    fitting,
)


def request(
    *, done: tuple[int, int] = (0, 0), prompt: str = "", keywords: tuple[str, ...] = ()
) -> Transcribe:
    return Transcribe("r", 3, "ab/cd", 10, None, prompt, keywords, 0.0, False, *done)


def span(index: int) -> ChunkSpan:
    return ChunkSpan(index * 16000, index * 16000 + 16000)


def texts(reports: list[ChunkDone | Final]) -> list[str | int]:
    return [report.text if isinstance(report, ChunkDone) else report.chunks for report in reports]


def test_chunks_are_reported_in_order_whatever_the_order_of_inference() -> None:
    recording = Recording(request())
    for index in range(3):
        assert recording.cut(index, span(index))
    recording.finish(2, ChunkOutcome(text="c"))
    assert recording.reports() == []
    recording.finish(0, ChunkOutcome(text="a"))
    assert texts(recording.reports()) == ["a"]
    recording.finish(1, ChunkOutcome(text="b"))
    assert texts(recording.reports()) == ["b", "c"]


def test_the_totals_come_once_everything_is_cut_and_reported() -> None:
    recording = Recording(request())
    recording.cut(0, span(0))
    recording.cut_all(16000)
    assert recording.reports() == []
    recording.finish(0, ChunkOutcome(text="a"))

    assert recording.reports()[-1] == Final("r", 3, 1, 1.0)


def test_a_recording_without_samples_ends_at_once() -> None:
    recording = Recording(request())
    recording.cut_all(0)

    assert recording.reports() == [Final("r", 3, 0, 0.0)]


def test_chunks_an_earlier_engine_did_are_counted_and_not_reported_again() -> None:
    recording = Recording(request(done=(1, 16000)))
    assert not recording.cut(0, span(0))
    assert recording.cut(1, span(1))
    recording.finish(1, ChunkOutcome(text="b"))
    recording.cut_all(32000)

    assert texts(recording.reports()) == ["b", 2]


def test_a_recording_cut_elsewhere_than_before_is_not_pieced_together() -> None:
    recording = Recording(request(done=(2, 31000)))
    recording.cut(0, span(0))

    with pytest.raises(CutDifferently):
        recording.cut(1, span(1))


def test_a_recording_that_ends_before_what_was_done_is_not_pieced_together() -> None:
    recording = Recording(request(done=(2, 32000)))
    recording.cut(0, span(0))

    with pytest.raises(CutDifferently):
        recording.cut_all(16000)


def test_a_chunk_carries_its_place_and_attempt() -> None:
    recording = Recording(request())
    recording.cut(0, ChunkSpan(5, 9))
    recording.finish(0, ChunkOutcome("English", "one", 7, 5, 2))

    assert recording.reports() == [ChunkDone("r", 3, 0, 5, 9, "English", "one", 7, 5, 2)]


def test_progress_is_told_at_most_once_an_interval() -> None:
    recording = Recording(request())
    recording.cut(0, span(0))
    first = recording.progress(Stage.DECODING, 10.0)

    assert first is not None
    assert first.decoded_seconds == 1.0
    assert recording.progress(Stage.DECODING, 10.0 + PROGRESS_INTERVAL / 2) is None
    assert recording.progress(Stage.INFERRING, 10.0 + PROGRESS_INTERVAL) is not None


def test_prompt_and_keywords_become_the_context() -> None:
    assert (
        Recording(request(prompt=" Names: ", keywords=("Ada", "Bo"))).context == "Names:\nAda, Bo"
    )
    assert Recording(request()).context == ""


def chunk_done(*, words: int = 0, segments: int = 1, tokens: int = 0) -> ChunkDone:
    spoken = tuple(Word(n, n + 1, "spoken", is_estimated=True) for n in range(words))
    segment = Segment(0, 16000, "spoken", spoken, None, (), None, 0.1)
    logprobs = tuple(Token(b"spoken", Nats(-0.1)) for _ in range(tokens))
    return ChunkDone("r", 3, 0, 0, 9, "English", "text", 7, 5, 2, (segment,) * segments, logprobs)


@pytest.mark.parametrize(
    ("done", "fits"),
    [
        (chunk_done(words=100, tokens=100), chunk_done(words=100, tokens=100)),
        (chunk_done(words=100, tokens=50_000), chunk_done(words=100)),
        (chunk_done(words=50_000, tokens=50_000), chunk_done()),
        (chunk_done(words=1, segments=50_000), chunk_done(segments=0)),
    ],
)
def test_what_does_not_fit_a_wire_frame_is_left_out(done: ChunkDone, fits: ChunkDone) -> None:
    assert fitting(done) == fits
    assert len(codec.encode(fitting(done))) <= MAX_FRAME_BYTES
