import json

from gateway.formats.cue_rules import rules_for
from gateway.formats.documents import SEGMENTS_AT_ONCE, Document, Json, Subtitles, Text
from protocol.transcription import ChunkDone
from tests.fakes import chunk_done, segment, tokens_of


def finished(document: Document, *chunks: ChunkDone) -> str:
    for chunk in chunks:
        document.add(chunk)
    return b"".join(document.finish(5.0)).decode()


def test_logprobs_are_there_only_if_asked_for_and_are_the_text() -> None:
    chunks = (
        chunk_done(" my dog", tokens=tokens_of(b" my", b" dog")),
        chunk_done("barks", index=1, tokens=tokens_of(b"barks")),
    )
    answer = json.loads(finished(Json(None, with_logprobs=True), *chunks))

    assert "".join(entry["token"] for entry in answer["logprobs"]) == answer["text"]
    assert answer["text"] == "my dog barks"
    assert "logprobs" not in json.loads(finished(Json(None, with_logprobs=False), *chunks))


def test_only_subtitles_of_long_recordings_are_left_to_a_thread() -> None:
    def printed(segments: object, rules: object, until: float) -> str:
        return ""

    document = Subtitles("text/plain", None, rules_for, printed)
    assert not document.takes_long
    for number in range(SEGMENTS_AT_ONCE + 1):
        document.add(chunk_done("one", index=number))

    assert document.takes_long
    assert not Text().takes_long


def test_text_ends_in_one_line_end() -> None:
    assert finished(Text(), chunk_done("one"), chunk_done("two", index=1)) == "one two\n"
    assert finished(Text(), chunk_done("")) == "\n"


def test_cues_follow_the_rules_of_the_language_that_was_heard() -> None:
    asked: list[str | None] = []
    shown: list[str] = []

    def rules_of(language: str | None) -> object:
        asked.append(language)
        return rules_for(language)

    def printed(segments: object, rules: object, until: float) -> str:
        shown.append(f"{len(segments)} {until}")  # type: ignore[arg-type]
        return "cues"

    document = Subtitles("text/plain", "German", rules_of, printed)  # type: ignore[arg-type]
    chunk = chunk_done("one two", language="English", segments=[segment("one two", 0, 1)])

    assert finished(document, chunk, chunk_done("three", index=1)) == "cues"
    assert (asked, shown) == (["English"], ["2 5.0"])
