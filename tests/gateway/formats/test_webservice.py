import json
from collections.abc import Sequence
from typing import Any

from gateway.formats.documents import Document
from gateway.formats.translated import Translated
from gateway.formats.webservice import Detection, Lines, TranslatedSegments, WhisperJson
from protocol.transcription import ChunkDone
from tests.fakes import chunk_done, segment

CHUNKS = (
    chunk_done(
        "Guten Tag. Wie geht's?",
        language="German",
        end=64_000,
        segments=[segment("Guten Tag.", 0.5, 1.5), segment("Wie geht's?", 2.0, 3.25)],
    ),
    chunk_done("Gut\tso.", language="German", index=1, start=64_000, end=96_000),
)


def written(document: Document | Translated, chunks: Sequence[ChunkDone] = CHUNKS) -> str:
    for chunk in chunks:
        document.add(chunk)
    return b"".join(document.finish(6.0)).decode()


def detected(*chunks: ChunkDone) -> dict[str, object]:
    detection = Detection(30.0)
    for chunk in chunks:
        detection.add(chunk)
    return detection.json()


def test_txt_is_a_line_for_each_segment() -> None:
    assert written(Lines(with_times=False)) == "Guten Tag.\nWie geht's?\nGut so.\n"


def test_tsv_has_milliseconds_and_no_tab_in_a_text() -> None:
    assert written(Lines(with_times=True)).splitlines() == [
        "start\tend\ttext",
        "500\t1500\tGuten Tag.",
        "2000\t3250\tWie geht's?",
        "4000\t6000\tGut so.",
    ]


def test_json_has_text_segments_and_the_languages_code() -> None:
    body: Any = json.loads(written(WhisperJson(None, with_words=False)))

    assert set(body) == {"text", "segments", "language"}
    assert body["language"] == "de"
    assert "".join(one["text"] for one in body["segments"]) == body["text"]
    assert [one["id"] for one in body["segments"]] == [0, 1, 2]
    assert "words" not in body["segments"][0]


def test_json_has_words_where_asked_for() -> None:
    body: Any = json.loads(written(WhisperJson(None, with_words=True)))

    words = body["segments"][0]["words"]
    assert [word["word"] for word in words] == ["Guten", "Tag."]
    assert (words[0]["start"], words[1]["end"]) == (0.5, 1.5)


def test_silence_in_json_has_the_language_that_was_asked_for() -> None:
    assert json.loads(written(WhisperJson("French", with_words=False), ())) == {
        "text": "",
        "segments": [],
        "language": "fr",
    }


def test_translated_segments_keep_their_times() -> None:
    document = TranslatedSegments(Lines(with_times=True), "English")
    for chunk in CHUNKS:
        document.add(chunk)
    assert document.lines(6.0) == ["Guten Tag.", "Wie geht's?", "Gut\tso."]
    document.translate(["Hello.", "How are you?", "Fine."])

    assert b"".join(document.finish(6.0)).decode().splitlines() == [
        "start\tend\ttext",
        "500\t1500\tHello.",
        "2000\t3250\tHow are you?",
        "4000\t6000\tFine.",
    ]


def test_translated_json_is_in_the_target_language() -> None:
    document = TranslatedSegments(WhisperJson("English", with_words=False), "English")
    for chunk in CHUNKS:
        document.add(chunk)
    document.translate(["Hello.", "How are you?", "Fine."])
    body = json.loads(b"".join(document.finish(6.0)))

    assert body["text"] == "Hello. How are you? Fine."
    assert body["language"] == "en"


def test_what_was_said_in_the_target_language_is_not_translated() -> None:
    document = TranslatedSegments(Lines(with_times=False), "English")
    document.add(chunk_done("Hello."))

    assert document.lines(1.0) == ()
    assert b"".join(document.finish(1.0)) == b"Hello.\n"


def test_language_is_that_of_most_of_the_speech() -> None:
    answer = detected(
        chunk_done("Hi", end=960_000, segments=[segment("Hi", 59.0, 60.0)]),
        chunk_done("Guten Tag", language="German", segments=[segment("Guten Tag", 60.0, 63.0)]),
    )

    assert answer == {"detected_language": "german", "language_code": "de", "confidence": 0.75}


def test_enough_speech_settles_it_however_long_the_silence_before() -> None:
    detection = Detection(2.0)
    detection.add(chunk_done("", language=None, end=16_000_000))
    assert not detection.is_settled
    detection.add(chunk_done("a b", end=32_000_000, segments=[segment("a b", 1000.0, 1001.0)]))
    assert not detection.is_settled
    detection.add(chunk_done("c", end=32_000_000, segments=[segment("c", 1001.0, 1002.0)]))

    assert detection.is_settled


def test_nothing_heard_is_no_language() -> None:
    assert detected() == {}
    assert detected(chunk_done("", language=None)) == {}
