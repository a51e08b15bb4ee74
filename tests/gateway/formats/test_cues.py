from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.cue_checks import SOFT, violations
from gateway.formats.cues import Cue, CueRules, cues_of, iter_cues, rules_for, with_text
from gateway.formats.display_width import is_zero_width
from protocol.transcription import Segment, Word
from tests.gateway.formats.speech import SENTENCES, aligned, lecture, segment, spoken, word


def texts(cues: Sequence[Cue]) -> list[str]:
    return ["\n".join(cue.lines) for cue in cues]


def cued(source: Segment, language: str | None = "English") -> list[Cue]:
    return cues_of([source], rules_for(language))


def test_english_ends_cues_with_clauses_and_keeps_titles_with_their_names() -> None:
    assert texts(cued(spoken(SENTENCES["English"]))) == [
        "The old lighthouse keeper, who had lived\non the island for thirty years,",
        "finally decided to leave.\nMr. Miller saw the boat.",
        "He told everyone about it,\nbut nobody believed him.",
    ]


def test_german_ends_cues_before_its_conjunctions() -> None:
    assert texts(cued(spoken(SENTENCES["German"]), "German")) == [
        "Der Gemeinderat\nhat am Donnerstag beschlossen,",
        "dass die alte Brücke\nim nächsten Jahr gesperrt wird.",
        "Das ist für viele Pendler\neine schlechte Nachricht.",
    ]


def test_chinese_ends_cues_at_its_own_marks() -> None:
    assert texts(cued(aligned("Chinese", pace=5), "Chinese")) == [
        "今天天气很好，\n我们一起去公园散步吧。",
        "昨天晚上我在家里看了\n一部非常有意思的电影，",
        "讲的是一个年轻人离开\n家乡到大城市打工的故事。",
    ]


def test_japanese_ends_lines_with_particles() -> None:
    assert texts(cued(aligned("Japanese", pace=6), "Japanese")) == [
        "昨日は友達と一緒に\n映画を見に行きました。",
        "とても面白かったので、\nもう一度見ます。",
        "ちょっと高かったけど。",
    ]


def test_korean_ends_lines_at_spaces() -> None:
    for cue in cued(spoken(SENTENCES["Korean"], pace=6), "Korean"):
        assert set(cue.text.split()) <= set(SENTENCES["Korean"].split())
        assert len(cue.lines) <= 2


def test_nothing_said_makes_no_cue() -> None:
    assert cues_of([], rules_for("English")) == []
    assert cues_of([segment("  ", 0, 1)], rules_for(None)) == []


def test_short_text_stands_in_one_line() -> None:
    (cue,) = cued(spoken("All of this fits into one single line."))

    assert cue.lines == ("All of this fits into one single line.",)


def test_a_pause_always_ends_a_cue() -> None:
    words = [word("Well", 0.0, 0.3), word("I", 1.0, 1.1), word("think", 1.1, 1.5)]

    cues = cued(segment("Well I think", 0, 1.5, words=words))

    assert texts(cues) == ["Well", "I think"]
    assert (cues[0].start, cues[0].end, cues[1].start) == (0.0, 0.917, 1.0)


def test_sentences_across_segments_share_a_cue_where_no_pause_parts_them() -> None:
    source = [spoken("It was getting", 0), spoken("late.", 1.1)]

    assert texts(cues_of(source, rules_for("English"))) == ["It was getting late."]
    chinese = [segment("今天", 0, 1), segment("很好。", 1.2, 2)]
    assert texts(cues_of(chinese, rules_for("Chinese"))) == ["今天很好。"]


def test_a_cue_stays_for_the_reader_while_nothing_else_is_said() -> None:
    fast = cued(spoken("thirty columns in one second..", pace=31))[0]
    brief = cued(segment("No.", 5, 5.1))[0]

    assert fast.end == pytest.approx(1.49)  # half a second behind the last word
    assert brief.end == 5.833


def test_pauses_too_short_to_be_seen_are_bridged() -> None:
    first = spoken("This sentence is a little longer than its line would like to be.", 0)
    second = spoken("And this one follows, it is just about as long as the first.", 4.8)

    cues = cues_of([first, second], rules_for("English"))

    assert cues[0].end == pytest.approx(cues[1].start - 0.083)


def test_a_cue_does_not_outlast_the_recording() -> None:
    (cue,) = cues_of([segment("No.", 5, 5.1)], rules_for("English"), until=5.2)

    assert cue.end == 5.2


def test_a_word_held_for_long_leaves_after_the_longest_time() -> None:
    (cue,) = cued(segment("Ommm", 0, 20))

    assert (cue.start, cue.end) == (0.0, 7.0)


def test_speakers_never_share_a_cue() -> None:
    source = [
        spoken("Are you there?", 0.0, channel=0),
        spoken("Yes.", 1.0, channel=1),
        spoken("Good.", 1.5, channel=0),
    ]

    cues = cues_of(source, rules_for("English"))

    assert [(cue.speaker, cue.text) for cue in cues] == [
        ("Speaker 1", "Are you there?"),
        ("Speaker 2", "Yes."),
        ("Speaker 1", "Good."),
    ]


def test_who_speaks_at_the_same_time_is_shown_one_after_the_other() -> None:
    source = [
        spoken("I would like to say something about this matter.", 0.0, channel=0),
        spoken("Let me finish my own sentence first, please.", 0.2, channel=1),
    ]
    rules = rules_for("English")

    cues = cues_of(source, rules)

    assert [cue.speaker for cue in cues] == ["Speaker 1", "Speaker 2"]
    assert cues[0].end - cues[0].start >= rules.min_duration
    assert not _hard(cues, rules)


def test_two_words_at_once_share_the_time_there_is() -> None:
    source = [segment("Yes.", 0, 0.5, channel=0), segment("No.", 0, 0.5, channel=1)]

    cues = cues_of(source, rules_for("English"))

    assert [(cue.text, cue.start, cue.end) for cue in cues] == [
        ("Yes.", 0.0, 0.167),
        ("No.", 0.25, 1.083),
    ]


def test_the_order_of_channels_does_not_matter() -> None:
    source = [spoken("One.", 0, channel=0), spoken("Three.", 4, channel=0)]
    others = [spoken("Two.", 2, channel=1)]
    rules = rules_for("English")

    assert cues_of(source + others, rules) == cues_of(others + source, rules)


def test_words_of_a_cue_lie_inside_it_and_make_its_text() -> None:
    for cue in cues_of(lecture(500), rules_for("English")):
        assert " ".join(word.text for word in cue.words) == cue.text
        assert all(cue.start <= word.start <= word.end <= cue.end for word in cue.words)


def test_wishes_of_a_caller_change_the_cues() -> None:
    narrow = rules_for("English", max_line_chars=20, max_lines=1, max_duration=3)

    cues = cues_of([spoken(SENTENCES["English"])], narrow)

    assert len(cues) > 6
    assert not _hard(cues, narrow)
    assert {len(cue.lines) for cue in cues} == {1}


def test_three_lines_are_filled_where_they_are_allowed() -> None:
    rules = rules_for("English", max_line_chars=24, max_lines=3)

    cues = cues_of([spoken(SENTENCES["English"], pace=20)], rules)

    assert 3 in {len(cue.lines) for cue in cues}
    assert not _hard(cues, rules)


def test_other_words_keep_a_cues_times_and_get_lines_of_their_own() -> None:
    cue = cued(spoken("The bridge will be closed next year.", 3))[0]

    translated = with_text(
        cue, "Die Brücke wird im nächsten Jahr für alle Autos gesperrt.", rules_for("German")
    )

    assert (translated.start, translated.end, translated.words) == (cue.start, cue.end, ())
    assert translated.lines == ("Die Brücke wird im nächsten Jahr", "für alle Autos gesperrt.")
    assert with_text(cue, " ", rules_for("German")).lines == ()


def test_words_too_many_for_a_cue_spread_evenly_over_its_lines() -> None:
    cue = cued(spoken("Brief."))[0]

    translated = with_text(cue, " ".join(["word"] * 40), rules_for("English"))

    assert [len(line) for line in translated.lines] == [99, 99]


def test_soft_rules_hold_on_nearly_all_cues_of_a_lecture_and_hard_ones_on_all() -> None:
    rules = rules_for("English")
    cues = cues_of(lecture(6000), rules)

    broken = violations(cues, rules)

    assert len(cues) > 300
    assert [violation for violation in broken if violation.rule not in SOFT] == []
    assert len({violation.index for violation in broken}) <= 0.05 * len(cues)


def test_speech_without_any_pause_is_cued_piece_by_piece_like_the_rest() -> None:
    source = spoken(" ".join([SENTENCES["English"]] * 60))
    rules = rules_for("English")

    cues = cues_of([source], rules)

    assert not violations(cues, rules)
    assert " ".join(cue.text for cue in cues) == source.text


def test_the_first_cue_of_a_long_transcript_does_not_wait_for_the_last_segment() -> None:
    class Watched(list[Segment]):
        read = 0

        def __iter__(self) -> Iterator[Segment]:
            self.read = 0
            for index in range(len(self)):
                self.read += 1
                yield self[index]

    segments = Watched(lecture(3000))

    next(iter_cues(segments, rules_for("English")))

    assert 0 < segments.read < 5


_TEXT = st.sampled_from(
    [
        *" ".join(SENTENCES[name] for name in ("English", "German", "Korean")).split(),
        *SENTENCES.values(),
        "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
        "-->",
        "{\\k}",
        "<b>",
        "…",
        "「はい」",
    ]
)


@st.composite
def _segments(draw: st.DrawFn) -> list[Segment]:
    """Segments as the protocol promises them: in order for each channel, words inside."""
    result = []
    channels: list[int | None] = draw(st.sampled_from([[None], [0, 1]]))
    for channel in channels:
        time = draw(st.floats(0, 5))
        for _ in range(draw(st.integers(0, 4))):
            start, parts, words = time, [], []
            for content in draw(st.lists(_TEXT, min_size=1, max_size=12)):
                end = time + len(content) * draw(st.floats(0.02, 0.2)) + 0.01
                words.append(word(content, time, end))
                parts.append(content)
                time = end + draw(st.sampled_from([0, 0, 0, 0.1, 0.6, 2]))
            has_words = draw(st.booleans())
            end = words[-1].end / 16_000
            result.append(
                segment(
                    " ".join(parts),
                    start,
                    end,
                    words=words if has_words else (),
                    channel=channel,
                )
            )
            time = max(time, end) + draw(st.sampled_from([0, 0.3, 1.5]))
    return result


_RULES = st.builds(
    rules_for,
    st.sampled_from([None, "English", "German", "Chinese", "Japanese", "Korean", "Thai"]),
    max_line_chars=st.sampled_from([None, 8, 20, 60]),
    max_lines=st.sampled_from([None, 1, 3]),
    max_duration=st.sampled_from([None, 1.0, 4.0]),
    min_duration=st.sampled_from([None, 0.1]),
    pause=st.sampled_from([None, 0.1, 3.0]),
    gap=st.sampled_from([None, 0.0, 1.0]),
    linger=st.sampled_from([None, 0.0, 5.0]),
)


@settings(max_examples=150, deadline=None)
@given(segments=_segments(), rules=_RULES)
def test_hard_rules_hold_whatever_is_said(segments: list[Segment], rules: CueRules) -> None:
    until = max((one.end for one in segments), default=0) / 16_000

    cues = cues_of(segments, rules, until=until)

    assert not _hard(cues, rules)
    assert all(cue.end <= max(until, cue.start + 0.041) for cue in cues)
    for channel in (None, 0, 1):
        speaker = None if channel is None else f"Speaker {channel + 1}"
        shown = "".join(cue.text for cue in cues if cue.speaker == speaker)
        said = "".join(one.text for one in segments if one.channel == channel)
        assert "".join(shown.split()) == "".join(said.split())


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    duration=st.floats(0.2, 3),
)
def test_even_text_that_nobody_can_speak_so_fast_makes_cues_in_order(
    counts: list[int], duration: float
) -> None:
    rules = rules_for("English")
    source = [
        segment(" ".join(["impossible"] * count), i * duration, (i + 1) * duration)
        for i, count in enumerate(counts)
    ]

    cues = cues_of(source, rules)

    assert not _hard(cues, rules)
    assert sum(len(cue.words) for cue in cues) == sum(counts)


def test_words_at_one_and_the_same_moment_still_follow_each_other() -> None:
    at_once = [Word(16_000, 16_001, text, True) for text in ["same"] * 100]
    rules = rules_for("English")

    cues = cues_of([segment(" ".join(["same"] * 100), 1, 1.1, words=at_once)], rules)

    assert not _hard(cues, rules)


def _hard(cues: Sequence[Cue], rules: CueRules) -> list[object]:
    return [one for one in violations(cues, rules) if one.rule not in SOFT]


@pytest.mark.parametrize("language", [None, "German", "Japanese", "Hindi"])
def test_words_wider_than_a_line_break_no_hard_rule_and_lose_nothing(language: str | None) -> None:
    rules = rules_for(language, max_line_chars=8)
    text = "das ist ein https://example.org/path?query=long " + "क्षत्रिय" * 8 + " Ende"
    cues = cues_of([segment(text, 0, 30)], rules)

    assert [each for each in violations(cues, rules) if each.rule not in SOFT] == []
    assert " ".join(each.text for each in cues).replace(" ", "") == text.replace(" ", "")
    assert all(not is_zero_width(line[0]) for each in cues for line in each.lines)


def test_the_text_of_a_cue_has_no_space_inside_a_word_cut_in_two() -> None:
    (cue,) = cues_of([segment("abcdefghijklm", 0, 3)], rules_for(None, max_line_chars=8))

    assert cue.lines == ("abcdefgh", "ijklm")
    assert cue.text == "abcdefghijklm"
