from collections.abc import Sequence

import pysubs2
import pytest
import srt as srt_reader
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.cues import Cue, CueWord, cues_of, rules_for
from gateway.formats.subtitles import ass, lrc, srt, vtt, words_by_line
from tests.gateway.formats.speech import SENTENCES, aligned, lecture, segment, spoken


def cue(start: float, end: float, *lines: str, speaker: str | None = None) -> Cue:
    return Cue(start, end, lines, (), speaker)


TWO = [cue(0.5, 2.25, "Hello,", "world."), cue(3661.001, 3663.0, "The end.")]
ALL_LANGUAGES = [
    one
    for language, text in SENTENCES.items()
    for one in cues_of(
        [aligned(language, pace=5) if language in ("Chinese", "Japanese") else spoken(text)],
        rules_for(language),
    )
]


def test_srt_numbers_cues_and_writes_hours_to_milliseconds() -> None:
    assert srt(TWO) == (
        "1\n00:00:00,500 --> 00:00:02,250\nHello,\nworld.\n\n"
        "2\n01:01:01,001 --> 01:01:03,000\nThe end.\n\n"
    )


def test_vtt_writes_points_for_commas_behind_its_header() -> None:
    assert vtt(TWO) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.250\nHello,\nworld.\n\n"
        "01:01:01.001 --> 01:01:03.000\nThe end.\n\n"
    )


def test_ass_writes_centiseconds_and_one_event_for_each_cue() -> None:
    assert ass(TWO).splitlines()[-2:] == [
        "Dialogue: 0,0:00:00.50,0:00:02.25,Default,,0,0,0,,Hello,\\Nworld.",
        "Dialogue: 0,1:01:01.00,1:01:03.00,Default,,0,0,0,,The end.",
    ]


def test_lrc_writes_one_line_for_each_cue_and_minutes_behind_59() -> None:
    assert lrc(TWO) == "[00:00.50]Hello, world.\n[61:01.00]The end.\n"


def test_files_without_cues_are_empty_but_for_headers() -> None:
    assert (srt([]), vtt([]), lrc([])) == ("", "WEBVTT\n\n", "")
    assert ass([]).endswith(", MarginL, MarginR, MarginV, Effect, Text\n")
    assert len(pysubs2.SSAFile.from_string(ass([]))) == 0
    assert len(webvtt.from_string(vtt([]))) == 0


def test_hours_above_99_are_written_out() -> None:
    late = [cue(360_000.0, 360_001.0, "late")]

    assert srt(late).startswith("1\n100:00:00,000 --> 100:00:01,000\n")
    assert vtt(late).startswith("WEBVTT\n\n100:00:00.000 --> 100:00:01.000\n")
    assert "0,100:00:00.00,100:00:01.00," in ass(late)
    assert lrc(late) == "[6000:00.00]late\n"


def test_arrows_and_markup_in_the_text_stay_text() -> None:
    tricky = [cue(1, 2, "a --> b & <i>c</i>"), cue(3, 4, "x")]

    assert "a -> b" in srt(tricky)
    assert len(list(srt_reader.parse(srt(tricky)))) == 2
    assert "a --&gt; b &amp; &lt;i&gt;c&lt;/i&gt;" in vtt(tricky)
    assert [caption.start for caption in webvtt.from_string(vtt(tricky)).captions] == [
        "00:00:01.000",
        "00:00:03.000",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<i>so</i>", "‹i›so‹/i›"),
        ("say <font color=red>no", "say ‹font color=red›no"),
        ("<b\nbold>", "‹b\nbold›"),
        ("{\\an8}up {y:i}{so", "｛\\an8｝up ｛y:i｝｛so"),
        ("1 < 2 > 0 x<y", "1 < 2 > 0 x<y"),
    ],
)
def test_commands_of_players_in_the_text_are_shown_in_srt(text: str, shown: str) -> None:
    printed = srt([cue(1, 2, *text.split("\n"))])

    (read,) = srt_reader.parse(printed)
    (event,) = pysubs2.SSAFile.from_string(printed)
    assert read.content == shown
    assert event.plaintext == shown


def test_ass_shows_braces_and_backslashes_instead_of_obeying_them() -> None:
    (event,) = pysubs2.SSAFile.from_string(ass([cue(1, 2, "{\\b1} C:\\New")]))

    assert event.plaintext == "｛\\\u2060b1｝ C:\\\u2060New"


def test_speakers_are_voices_in_vtt_and_names_in_ass() -> None:
    two = cues_of(
        [spoken("Hello.", 0, channel=0), spoken("Good day.", 2, channel=1)], rules_for("English")
    )

    assert [caption.voice for caption in webvtt.from_string(vtt(two)).captions] == [
        "Speaker 1",
        "Speaker 2",
    ]
    assert [event.name for event in pysubs2.SSAFile.from_string(ass(two))] == [
        "Speaker 1",
        "Speaker 2",
    ]
    assert "<v A &amp; B>x" in vtt([cue(1, 2, "x", speaker="A & B")])
    assert ",Default,A  B,0," in ass([cue(1, 2, "x", speaker="A, B")])


def test_word_times_in_vtt_rise_inside_their_cue_and_leave_the_text_as_it_was() -> None:
    words = (
        CueWord(1.0, 1.2, "Rise", True),
        CueWord(1.2, 1.2, "&", True),
        CueWord(1.2, 1.9, "shine,", True),
        CueWord(2.0, 2.0, "all!", True),
    )
    timed = Cue(1.0, 2.0, ("Rise & shine,", "all!"), words, None)

    assert vtt([timed], word_times=True) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nRise <00:00:01.200>&amp; shine,\nall!\n\n"
    )


def test_karaoke_lasts_as_long_as_its_cue() -> None:
    words = (
        CueWord(1.0, 1.2, "Two", True),
        CueWord(1.204, 1.5, "lines", True),
        CueWord(1.6, 2.0, "here", True),
    )
    sung = Cue(1.0, 2.006, ("Two lines", "here"), words, None)

    assert ass([sung], karaoke=True).endswith(",{\\k20}Two {\\k40}lines\\N{\\k41}here\n")


def test_translated_cues_have_no_word_times_to_print() -> None:
    assert vtt(TWO, word_times=True) == vtt(TWO)
    assert ass(TWO, karaoke=True) == ass(TWO)


def test_a_cue_of_a_few_milliseconds_lasts_a_centisecond_in_ass() -> None:
    (event,) = pysubs2.SSAFile.from_string(ass([cue(1.001, 1.004, "x")]))

    assert event.end - event.start == 10


def test_words_are_found_in_the_lines_they_make() -> None:
    for one in ALL_LANGUAGES:
        held = words_by_line(one)

        assert [word for words in held for word in words] == list(one.words)
        assert tuple(_line(words) for words in held) == one.lines


def _line(words: Sequence[CueWord]) -> str:
    return "".join((" " if word.follows_space else "") + word.text for word in words).strip()


def _assert_same(read: Sequence[tuple[float, float, str]], cues: Sequence[Cue]) -> None:
    assert [text for _, _, text in read] == ["\n".join(one.lines) for one in cues]
    for (start, end, _), one in zip(read, cues, strict=True):
        assert (start, end) == pytest.approx((one.start, one.end), abs=0.0051)


@pytest.mark.parametrize("cues", [TWO, ALL_LANGUAGES, cues_of(lecture(400), rules_for("English"))])
def test_other_peoples_readers_read_what_was_printed(cues: Sequence[Cue]) -> None:
    _assert_same(
        [
            (one.start.total_seconds(), one.end.total_seconds(), one.content)
            for one in srt_reader.parse(srt(cues), ignore_errors=False)
        ],
        cues,
    )
    _assert_same(
        [
            (_seconds(one.start), _seconds(one.end), one.text)
            for one in webvtt.from_string(vtt(cues), strict=True).captions
        ],
        cues,
    )
    for printed in (srt(cues), vtt(cues), ass(cues)):
        _assert_same(
            [
                (e.start / 1000, e.end / 1000, e.plaintext)
                for e in pysubs2.SSAFile.from_string(printed)
            ],
            cues,
        )


@pytest.mark.parametrize("cues", [ALL_LANGUAGES, cues_of(lecture(400), rules_for("English"))])
def test_timed_words_are_read_as_the_same_text(cues: Sequence[Cue]) -> None:
    read = webvtt.from_string(vtt(cues, word_times=True))
    sung = pysubs2.SSAFile.from_string(ass(cues, karaoke=True))

    assert [one.text for one in read.captions] == ["\n".join(one.lines) for one in cues]
    assert [one.plaintext for one in sung] == ["\n".join(one.lines) for one in cues]


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@settings(max_examples=100, deadline=None)
@given(text=st.text(min_size=1, max_size=120))
def test_no_text_breaks_a_file(text: str) -> None:
    cues = cues_of([segment(text, 1, 6), segment("fine", 8, 9)], rules_for(None))
    count = len(cues)

    assert len(list(srt_reader.parse(srt(cues), ignore_errors=False))) == count
    assert len(webvtt.from_string(vtt(cues), strict=True)) == count
    assert len(pysubs2.SSAFile.from_string(ass(cues, karaoke=True))) == count
    assert len(lrc(cues).split("\n")) == count + 1
