import json
from collections.abc import Sequence

from gateway.formats.cue_rules import CueRules, rules_for
from gateway.formats.cues import Cue
from gateway.formats.documents import SEGMENTS_AT_ONCE
from gateway.formats.translated import Translated, TranslatedSubtitles, TranslatedText
from protocol.transcription import ChunkDone
from tests.fakes import chunk_done, segment


def spoken(language: str, *texts: str, index: int = 0) -> ChunkDone:
    """A chunk of 30 s with a segment every three seconds."""
    at = index * 30.0
    segments = [segment(text, at + 3 * n, at + 3 * n + 2) for n, text in enumerate(texts)]
    start, end = round(at * 16_000), round((at + 30) * 16_000)
    return chunk_done(
        " ".join(texts), language=language, index=index, start=start, end=end, segments=segments
    )


def written(document: Translated) -> str:
    return b"".join(document.finish(60.0)).decode("utf-8")


def subtitles(language: str = "English") -> TranslatedSubtitles:
    def rules_of(spoken: str | None) -> CueRules:
        return rules_for(spoken)

    def printed(cues: Sequence[Cue]) -> str:
        return "".join(f"{cue.start:g}-{cue.end:g} {'|'.join(cue.lines)}\n" for cue in cues)

    return TranslatedSubtitles("text/plain", language, rules_of, printed)


def test_lines_of_all_chunks_are_asked_for_in_order() -> None:
    document = TranslatedText("json", "English", 0.0)
    document.add(spoken("German", "eins", "zwei"))
    document.add(spoken("French", "trois", index=1))

    assert list(document.lines(60.0)) == ["eins", "zwei", "trois"]


def test_chunk_without_times_is_one_line() -> None:
    document = TranslatedText("verbose_json", "English", 0.0)
    document.add(chunk_done(" eins zwei ", language="German", start=16_000, end=48_000))

    assert list(document.lines(3.0)) == ["eins zwei"]
    document.translate(["one two"])
    (only,) = json.loads(written(document))["segments"]
    assert (only["start"], only["end"], only["text"]) == (1.0, 3.0, "one two")


def test_nothing_is_asked_where_all_was_said_in_the_language_wanted() -> None:
    for document in (TranslatedText("json", "English", 0.0), subtitles()):
        document.add(spoken("English", "one"))
        assert list(document.lines(60.0)) == []
        assert "one" in written(document)


def test_one_foreign_chunk_has_the_whole_recording_asked_for() -> None:
    document = TranslatedText("json", "English", 0.0)
    document.add(spoken("English", "one"))
    document.add(spoken("German", "zwei", index=1))

    assert list(document.lines(60.0)) == ["one", "zwei"]


def test_translations_are_joined_as_their_script_asks() -> None:
    chinese = TranslatedText("text", "Chinese", 0.0)
    chinese.add(spoken("English", "good", "day"))
    chinese.translate(["你", "好"])

    english = TranslatedText("text", "English", 0.0)
    english.add(spoken("Chinese", "你", "好"))
    english.translate(["good", "day"])

    assert written(chinese) == "你好\n"
    assert written(english) == "good day\n"


def test_words_and_tokens_of_another_language_are_not_shown() -> None:
    document = TranslatedText("verbose_json", "English", 0.5)
    document.add(spoken("German", "eins"))
    document.translate(["one"])

    answer = json.loads(written(document))
    assert "words" not in answer
    assert (answer["segments"][0]["tokens"], answer["segments"][0]["temperature"]) == ([], 0.5)


def test_cues_keep_their_times_and_are_broken_by_the_rules_of_the_new_language() -> None:
    document = subtitles("Chinese")
    document.add(spoken("English", "one two", "three four"))

    assert list(document.lines(60.0)) == ["one two", "three four"]
    before = [line.split(" ")[0] for line in written(document).splitlines()]
    document.translate(["一二", "三" * 20])

    after = [line.split(" ") for line in written(document).splitlines()]
    assert [line[0] for line in after] == before
    assert after[0][1] == "一二"
    assert [len(line) <= 16 for line in after[1][1].split("|")] == [True, True]


def test_only_long_subtitles_would_hold_up_the_event_loop() -> None:
    short, long = subtitles(), subtitles()
    short.add(spoken("German", "eins"))
    long.add(spoken("German", *["eins"] * (SEGMENTS_AT_ONCE + 1)))

    assert (short.takes_long, long.takes_long) == (False, True)
    long.lines(600.0)
    assert long.takes_long
