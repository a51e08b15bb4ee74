"""Which chunks are inferred when, with what context, and once more if need be."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from protocol.transcription import Transcribe
from worker.audio.chunking import Chunk
from worker.audio.conversation import Turn
from worker.chunk_outcomes import TAIL_CHARACTERS
from worker.chunk_tasks import ChunkTask
from worker.engine.interface import ChunkText
from worker.segments import SpeechSpan
from worker.text.written_tokens import WrittenToken
from worker.unfinished_chunks import Taken, ToldOtherwise, UnfinishedChunks

REQUEST = Transcribe("r", 1, "ab/cd", 10, None, "", (), 0.0, False, 0, 0)
WITH_PREVIOUS = replace(REQUEST, uses_previous_context=True)
GERMAN_OR_FRENCH = replace(REQUEST, languages=("German", "French"))


def chunk(index: int, *, loudness: float = 0.3, channels: Sequence[float] = ()) -> Chunk:
    start, end = index * 16_000, index * 16_000 + 16_000
    wave = np.sin(np.arange(16_000) / 5).astype(np.float32)
    samples = np.stack([wave * each for each in channels], axis=1) if channels else wave * loudness
    spans = (SpeechSpan(start + 1_000, start + 15_000, 0.9),)
    spoken = [channel for channel, each in enumerate(channels) if each]
    turns = tuple(Turn(channel, start, end, spans) for channel in (spoken or [None]))
    return Chunk(index, start, end, samples, False, spans, turns)


def said(text: str, language: str | None = "English", *, is_cut_off: bool = False) -> ChunkText:
    return ChunkText(language, text, 9, 7, 2, is_cut_off)


def unfinished(
    request: Transcribe = REQUEST, context: str = "", chunks: int = 1
) -> tuple[UnfinishedChunks, list[ChunkTask]]:
    unfinished = UnfinishedChunks(request, context)
    for index in range(chunks):
        unfinished.add(chunk(index))
    return unfinished, list(unfinished.next_tasks())


def text_of(taken: Taken) -> str:
    assert taken.outcome is not None
    return taken.outcome.text


def test_all_chunks_run_at_once_with_the_callers_context() -> None:
    chunks, tasks = unfinished(context="Ada, Bo", chunks=3)

    assert [task.number for task in tasks] == chunks.numbers == [0, 1, 2]
    assert {task.request.context for task in tasks} == {"Ada, Bo"}
    assert list(chunks.next_tasks()) == []


def test_an_answer_becomes_text_with_segments() -> None:
    chunks, _ = unfinished()

    taken = chunks.take(0, said("We met Ada."), "")

    assert taken.outcome is not None
    assert " ".join(segment.text for segment in taken.outcome.segments) == "We met Ada."
    assert all(1_000 <= segment.start < segment.end <= 15_000 for segment in taken.outcome.segments)
    assert taken.outcome.tokens == ()
    assert chunks.numbers == []


@pytest.mark.parametrize(("text", "count"), [("no", 2), ("no " * 50, 0)])
def test_tokens_are_told_of_a_text_that_needed_no_repair(text: str, count: int) -> None:
    chunks, [task] = unfinished(replace(REQUEST, wants_logprobs=True))
    tokens = (WrittenToken(5, b"n", -0.5), WrittenToken(6, b"o", 1e-9))

    taken = chunks.take(0, replace(said(text), tokens=tokens), "")

    assert task.request.wants_logprobs
    assert taken.outcome is not None
    assert [(token.content, token.logprob) for token in taken.outcome.tokens] == [
        (b"n", -0.5),
        (b"o", 0.0),
    ][:count]
    assert taken.outcome.segments[0].avg_logprob == pytest.approx(-0.25)


@pytest.mark.parametrize("are_wanted", [False, True])
def test_times_of_words_are_asked_for_where_they_matter(are_wanted: bool) -> None:
    _, [task] = unfinished(replace(REQUEST, wants_words=are_wanted))

    assert task.request.wants_words is are_wanted


def test_a_failed_chunk_is_tried_once_more() -> None:
    chunks, [task] = unfinished()

    again = chunks.retry(0)

    assert again is not None
    assert again.request is task.request
    assert text_of(chunks.take(0, said("hello"), "")) == "hello"


def test_a_chunk_that_fails_twice_is_given_up() -> None:
    chunks, _ = unfinished()
    chunks.retry(0)

    assert chunks.retry(0) is None


@pytest.mark.parametrize("language", ["German", "french", None])
def test_an_expected_language_or_silence_is_believed(language: str | None) -> None:
    chunks, _ = unfinished(GERMAN_OR_FRENCH)

    assert chunks.take(0, said("", language), "").outcome is not None


def test_an_unexpected_language_is_heard_once_more_as_the_first_expected() -> None:
    chunks, _ = unfinished(GERMAN_OR_FRENCH)

    again = chunks.take(0, said("good day", "English"), "").again

    assert again is not None
    assert again.request.language == "German"
    taken = chunks.take(0, said("guten Tag", "Dutch"), "")
    assert text_of(taken) == "guten Tag"


def test_what_a_wrong_language_would_be_does_not_matter_where_one_is_given() -> None:
    chunks, [task] = unfinished(replace(GERMAN_OR_FRENCH, language="Dutch"))

    assert task.request.language == "Dutch"
    assert text_of(chunks.take(0, said("dag", "Dutch"), "")) == "dag"


def test_with_the_previous_context_chunks_run_one_after_the_other() -> None:
    chunks, tasks = unfinished(WITH_PREVIOUS, "Names: Ada", chunks=3)
    contexts = [task.request.context for task in tasks]
    for index, text in enumerate(["First.", "Second."]):
        chunks.take(index, said(text), "")
        [task] = chunks.next_tasks()
        contexts.append(task.request.context)

    assert contexts == ["Names: Ada", "Names: Ada\nFirst.", "Names: Ada\nSecond."]


def context_behind(answer: ChunkText, context: str = "") -> str:
    chunks, _ = unfinished(WITH_PREVIOUS, context, chunks=2)
    chunks.take(0, answer, "")
    [task] = chunks.next_tasks()
    return task.previous_context


def test_the_previous_context_is_the_end_of_the_text_in_whole_words() -> None:
    text = " ".join(f"word{number}" for number in range(100))

    context = context_behind(said(text))

    assert text.endswith(f" {context}")
    assert TAIL_CHARACTERS - 8 < len(context) <= TAIL_CHARACTERS


def test_scripts_without_spaces_are_cut_anywhere() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(300))

    assert context_behind(said(text)) == text[-TAIL_CHARACTERS:]


@pytest.mark.parametrize(
    "answer",
    [
        said("We met and talked", is_cut_off=True),
        said("thank you " * 60),
        said("please spell Ada and Grace"),
        said(""),
    ],
)
def test_a_suspicious_text_is_no_context(answer: ChunkText) -> None:
    assert context_behind(answer, "Please spell Ada and Grace.") == ""


def test_a_chunk_behind_one_without_speech_has_no_previous_context() -> None:
    chunks = UnfinishedChunks(WITH_PREVIOUS, "")
    chunks.add(chunk(0))
    list(chunks.next_tasks())
    chunks.take(0, said("First."), "")
    chunks.add(chunk(2))
    [task] = chunks.next_tasks()

    assert task.request.context == ""


def test_a_copy_of_the_previous_context_is_heard_once_more_without_it() -> None:
    chunks, _ = unfinished(WITH_PREVIOUS, "Names", chunks=2)
    chunks.take(0, said("and so we all went home"), "")
    list(chunks.next_tasks())

    again = chunks.take(1, said("so we all went home"), "").again

    assert again is not None
    assert again.request.context == "Names"
    assert text_of(chunks.take(1, said("so we all went home"), "")) == "so we all went home"


def test_an_echo_of_the_context_over_near_silence_is_no_text() -> None:
    chunks = UnfinishedChunks(GERMAN_OR_FRENCH, "budget meeting with Ada")
    chunks.add(chunk(0, loudness=0.002))
    list(chunks.next_tasks())

    taken = chunks.take(0, said("Budget meeting with Ada."), "")

    assert taken.outcome is not None
    assert (taken.outcome.text, taken.outcome.language) == ("", None)
    assert taken.outcome.segments == ()
    assert taken.outcome.output_tokens == 2


def test_what_was_told_is_not_repaired_away() -> None:
    chunks, _ = unfinished()
    text = "big dog Q big dog " + ("dog " * 30 + "Q big dog ") * 9

    assert text_of(chunks.take(0, said(text), "big dog Q big")).startswith("big dog Q big")


def test_a_text_that_does_not_begin_as_told_is_refused() -> None:
    chunks, _ = unfinished()

    with pytest.raises(ToldOtherwise):
        chunks.take(0, said("We saw Ada."), "We met")


def split(*channels: float) -> tuple[UnfinishedChunks, list[ChunkTask]]:
    chunks = UnfinishedChunks(replace(REQUEST, splits_channels=True), "")
    chunks.add(chunk(0, channels=channels))
    chunks.add(chunk(1, channels=channels))
    return chunks, list(chunks.next_tasks())


def test_channels_are_inferred_apart_and_joined_as_they_spoke() -> None:
    chunks, tasks = split(0.3, 0.1)
    assert [(task.turn.channel, task.chunk.index) for task in tasks] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
    ]
    assert [float(task.request.samples.max()) for task in tasks[:2]] == pytest.approx(
        [0.3, 0.1], 0.01
    )
    second, first = tasks[1].number, tasks[0].number

    assert chunks.take(second, said("Hello back.", "German"), "") == Taken()
    outcome = chunks.take(first, said("Hello."), "").outcome

    assert outcome is not None
    assert sorted(segment.channel or 0 for segment in outcome.segments) == [0, 1]
    assert outcome.text == " ".join(segment.text for segment in outcome.segments)
    assert (outcome.prompt_tokens, outcome.audio_tokens, outcome.output_tokens) == (18, 14, 4)
    assert len(chunks.numbers) == 2


def test_a_channel_in_which_nobody_speaks_is_not_inferred() -> None:
    chunks, tasks = split(0.0, 0.3)

    assert [(task.turn.channel, task.number) for task in tasks] == [(1, 0), (1, 1)]
    outcome = chunks.take(0, said("Alone."), "").outcome
    assert outcome is not None
    assert [(segment.text, segment.channel) for segment in outcome.segments] == [("Alone.", 1)]


def test_only_a_chunk_in_one_piece_is_told_while_it_is_written() -> None:
    whole, _ = unfinished()
    both, tasks = split(0.3, 0.3)
    both.take(tasks[0].number, said("Hello."), "")

    assert whole.next_to_tell(0) == (whole.task(0), "")
    assert whole.next_to_tell(1) is None
    assert both.next_to_tell(0) is None
    assert both.next_to_tell(1) is None


def conversation(*turns: tuple[int, int, int], index: int = 0) -> Chunk:
    """A chunk of two sides: (channel, start, end) of each turn, in samples of the chunk."""
    begin = index * 16_000
    parted = tuple(
        Turn(channel, begin + start, begin + end, (SpeechSpan(begin + start, begin + end, 0.9),))
        for channel, start, end in turns
    )
    rising = np.arange(16_000, dtype=np.float32) / 2**14
    return Chunk(
        index, begin, begin + 16_000, np.stack([rising, -rising], axis=1), False, (), parted
    )


def test_turns_are_inferred_each_with_its_own_sound_and_joined_in_their_order() -> None:
    chunks = UnfinishedChunks(replace(REQUEST, splits_channels=True), "")
    chunks.add(conversation((0, 0, 4_000), (1, 3_000, 9_000), (0, 9_000, 16_000)))
    tasks = list(chunks.next_tasks())

    heard = [2**14 * task.request.samples for task in tasks]
    assert [each.tolist() for each in heard] == [
        list(range(4_000)),
        list(range(-3_000, -9_000, -1)),
        list(range(9_000, 16_000)),
    ]
    assert chunks.next_to_tell(0) is None
    assert chunks.take(2, said("Fine."), "") == chunks.take(0, said("Hello."), "") == Taken()
    outcome = chunks.take(1, said("How are you?"), "").outcome

    assert outcome is not None
    assert outcome.text == "Hello. How are you? Fine."
    assert [(one.channel, one.start, one.end) for one in outcome.segments] == [
        (0, 0, 4_000),
        (1, 3_000, 9_000),
        (0, 9_000, 16_000),
    ]
    assert outcome.output_tokens == 6


def test_the_language_of_a_chunk_is_that_of_most_of_its_text() -> None:
    chunks = UnfinishedChunks(replace(REQUEST, splits_channels=True), "")
    chunks.add(conversation((0, 0, 4_000), (1, 4_000, 9_000), (0, 9_000, 16_000)))
    list(chunks.next_tasks())
    chunks.take(0, said("OK.", "English"), "")
    chunks.take(1, said("Das war alles.", "German"), "")

    outcome = chunks.take(2, said("", None), "").outcome

    assert outcome is not None
    assert outcome.language == "German"


def test_the_previous_context_of_a_side_is_what_it_said_in_all_its_turns() -> None:
    chunks = UnfinishedChunks(WITH_PREVIOUS, "")
    chunks.add(conversation((0, 0, 4_000), (1, 4_000, 9_000), (0, 9_000, 16_000)))
    chunks.add(conversation((0, 0, 4_000), (1, 4_000, 9_000), index=1))
    list(chunks.next_tasks())
    for number, text in ((2, "We leave."), (1, "What now?"), (0, "It is late.")):
        chunks.take(number, said(text), "")

    contexts = [task.request.context for task in chunks.next_tasks()]

    assert contexts == ["It is late. We leave.", "What now?"]


def test_what_was_said_before_a_suspicious_turn_is_no_context_either() -> None:
    chunks = UnfinishedChunks(WITH_PREVIOUS, "")
    chunks.add(conversation((0, 0, 3_000), (0, 5_000, 8_000), (0, 10_000, 13_000)))
    chunks.add(conversation((0, 0, 4_000), index=1))
    list(chunks.next_tasks())
    chunks.take(0, said("First."), "")
    chunks.take(1, said("and on and", is_cut_off=True), "")
    chunks.take(2, said("Last."), "")

    [task] = chunks.next_tasks()

    assert task.request.context == "Last."


def with_long_pauses(request: Transcribe = REQUEST, turns: int = 2) -> UnfinishedChunks:
    """One channel, cut apart at its pauses; submitted."""
    chunks = UnfinishedChunks(request, "")
    whole = chunk(0)
    size = 16_000 // turns
    parts = tuple(
        Turn(
            None,
            size * number,
            size * (number + 1),
            (SpeechSpan(size * number, size * (number + 1), 0.9),),
        )
        for number in range(turns)
    )
    chunks.add(replace(whole, turns=parts))
    list(chunks.next_tasks())
    return chunks


def test_what_is_said_between_long_pauses_is_told_in_order() -> None:
    chunks = with_long_pauses(turns=3)

    assert chunks.next_to_tell(0) == (chunks.task(0), "")
    chunks.take(1, said("Two."), "One is")
    assert chunks.next_to_tell(0) == (chunks.task(0), "")
    chunks.take(0, said("One is here."), "One is")
    assert chunks.next_to_tell(0) == (chunks.task(2), "One is here. Two.")
    taken = chunks.take(2, said("Three are."), "One is here. Two. Three")

    assert text_of(taken) == "One is here. Two. Three are."
    assert chunks.next_to_tell(0) is None


def test_a_part_that_does_not_begin_as_told_is_refused() -> None:
    chunks = with_long_pauses()
    chunks.take(0, said("One."), "One.")

    with pytest.raises(ToldOtherwise):
        chunks.take(1, said("Two."), "One. Three")


@pytest.mark.parametrize(("second", "whole"), [("b", b"a b"), ("\u4e8c", "a \u4e8c".encode())])
def test_tokens_of_what_is_said_between_long_pauses_make_up_the_text(
    second: str, whole: bytes
) -> None:
    chunks = with_long_pauses(replace(REQUEST, wants_logprobs=True))
    for number, text in enumerate(("a", second)):
        token = WrittenToken(number, text.encode(), -0.5)
        taken = chunks.take(number, replace(said(text), tokens=(token,)), "")

    assert taken.outcome is not None
    assert b"".join(token.content for token in taken.outcome.tokens) == whole
    assert taken.outcome.text.encode() == whole


def test_where_the_tokens_of_a_part_are_unknown_the_chunk_has_none() -> None:
    chunks = with_long_pauses(replace(REQUEST, wants_logprobs=True))
    chunks.take(0, replace(said("a"), tokens=(WrittenToken(1, b"a", -0.5),)), "")

    taken = chunks.take(1, said("b"), "")

    assert taken.outcome is not None
    assert (taken.outcome.text, taken.outcome.tokens) == ("a b", ())
