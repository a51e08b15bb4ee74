"""Words of a text, and times for them where none are measured."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.word_times import MIN_WORD_SAMPLES, estimated_words, words_of

TEXTS = [
    "And so, my fellow Americans, ask not what your country can do for you.",
    "在短短兩週內，美軍和自由法國軍就解放了南法，並轉向德國。",
    "这并不是告别，这是一个篇章的结束，也是新篇章的开始。",
    "कुछ अणुओं में अस्थिर केंद्रक होता है। जिसका मतलब यह है",
    "インターネットで「敵対的環境コース」について検索すると、現地企業の住所が出てくるでしょう。",
    "สิ่งนี้เรียกว่าค่า pH ของสารเคมี คุณสามารถสร้างตัวระบุได้",
    "「Python」を100%使う… (もちろん) 안녕하세요, 반갑습니다!",
]


@dataclass(frozen=True)
class Span:
    start: int
    end: int


def texts() -> st.SearchStrategy[str]:
    """Of the languages above, pieced together, and of anything else."""
    parts = st.tuples(st.sampled_from(TEXTS), st.integers(0, 80), st.integers(0, 40)).map(
        lambda drawn: drawn[0][drawn[1] : drawn[1] + drawn[2]]
    )
    return st.one_of(st.lists(parts, max_size=4).map("".join), st.text(max_size=30))


@st.composite
def span_lists(draw: st.DrawFn) -> list[Span]:
    """One to five spans of a sample to ten seconds."""
    position, spans = draw(st.integers(0, 10_000)), []
    lengths = st.one_of(st.integers(1, 40), st.integers(1_000, 160_000))
    for _ in range(draw(st.integers(1, 5))):
        position += draw(st.integers(0, 30_000))
        spans.append(Span(position, position + draw(lengths)))
        position = spans[-1].end
    return spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ask not, friend.", ["Ask", "not,", "friend."]),
        ("你好，世界！", ["你", "好，", "世", "界！"]),
        ("我用Python写「代码」。", ["我", "用", "Python", "写", "「代", "码」。"]),
        ("東京タワーは333メートル", ["東", "京", "タ", "ワー", "は", "333", "メー", "ト", "ル"]),
        ("きょう、学校", ["きょ", "う、", "学", "校"]),
        ("Bonjour ! – Ça va ?", ["Bonjour ! –", "Ça", "va ?"]),
        ("“Hello,” he said… (yes)", ["“Hello,”", "he", "said…", "(yes)"]),
        ("안녕하세요, 반갑습니다.", ["안녕하세요,", "반갑습니다."]),
        ("เป็นไปได้", ["เป็", "น", "ไป", "ได้"]),
        ("100% sure, don't", ["100%", "sure,", "don't"]),
        ("- hi", ["- hi"]),
        ("...", ["..."]),
        ("नॉर्स में", ["नॉर्स", "में"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words_keep_their_punctuation(text: str, expected: list[str]) -> None:
    assert words_of(text, None) == expected


def test_korean_is_spaced_even_in_chinese_characters() -> None:
    assert words_of("大韓民國의 국민", "Korean") == ["大韓民國의", "국민"]


@given(text=texts(), language=st.sampled_from([None, "Korean", "Japanese"]))
def test_words_are_the_text_but_for_the_spaces_between(text: str, language: str | None) -> None:
    rest = text
    for word in words_of(text, language):
        rest = rest.lstrip()
        assert word
        assert word == word.strip()
        assert rest.startswith(word)
        rest = rest[len(word) :]

    assert not rest.strip()


@given(text=texts(), spans=span_lists())
def test_words_are_in_order_inside_spans_and_last_some_time(text: str, spans: list[Span]) -> None:
    words = estimated_words(text, None, spans)

    assert [word.text for word in words] == words_of(text, None)
    for word in words:
        assert word.is_estimated
        assert any(span.start <= word.start < word.end <= span.end for span in spans)
    for left, right in pairwise(words):
        assert left.start <= right.start
        if min(span.end - span.start for span in spans) >= len(words):
            assert left.end <= right.start


@given(text=texts())
def test_where_there_is_room_no_word_is_shorter_than_20_ms(text: str) -> None:
    count = len(words_of(text, None))

    for word in estimated_words(text, None, [Span(0, MIN_WORD_SAMPLES * max(1, count))]):
        assert word.end - word.start == MIN_WORD_SAMPLES


def test_longer_words_last_longer_and_digits_and_ideographs_are_long() -> None:
    a, extraordinary, digit, ideograph = estimated_words(
        "a extraordinary 7 字", None, [Span(0, 64_000)]
    )

    lengths = [word.end - word.start for word in (a, ideograph, digit, extraordinary)]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == 4


def test_a_pause_falls_to_the_end_of_a_sentence_nearby() -> None:
    spans = [Span(0, 14_000), Span(30_000, 60_000)]

    words = estimated_words("I came here. You did not come at all", None, spans)

    assert [word.text for word in words if word.end <= 14_000] == ["I", "came", "here."]


def test_punctuation_far_from_a_pause_does_not_move_it() -> None:
    words = estimated_words(
        "Yes. one two three four five six seven eight nine ten eleven twelve",
        None,
        [Span(0, 80_000), Span(100_000, 180_000)],
    )

    assert 5 <= sum(word.end <= 80_000 for word in words) <= 8


def test_words_without_a_span_are_refused() -> None:
    with pytest.raises(ValueError, match="need a span"):
        estimated_words("text", None, [])
