"""Segments as an engine would send them, for the tests of subtitles."""

from collections.abc import Sequence
from random import Random

from protocol.transcription import Segment, Word

SAMPLES = 16_000

SENTENCES = {
    "English": (
        "The old lighthouse keeper, who had lived on the island for thirty years, finally decided "
        "to leave. Mr. Miller saw the boat. He told everyone about it, but nobody believed him."
    ),
    "German": (
        "Der Gemeinderat hat am Donnerstag beschlossen, dass die alte Brücke im nächsten Jahr "
        "gesperrt wird. Das ist für viele Pendler eine schlechte Nachricht."
    ),
    "Chinese": (
        "今天天气很好，我们一起去公园散步吧。昨天晚上我在家里看了一部非常有意思的电影，"
        "讲的是一个年轻人离开家乡到大城市打工的故事。"
    ),
    "Japanese": (
        "昨日は友達と一緒に映画を見に行きました。とても面白かったので、"
        "もう一度見ます。ちょっと高かったけど。"
    ),
    "Korean": (
        "안녕하세요, 오늘은 날씨가 정말 좋아서 친구들과 함께 공원에 가서 산책을 했습니다. "
        "저녁에는 맛있는 음식을 먹었어요."
    ),
    "Thai": "สวัสดีครับ วันนี้อากาศดีมากเราจึงไปเดินเล่นที่สวนสาธารณะด้วยกันกับเพื่อนของเรา",
}

_WORDS = {
    "Chinese": "今天 天气 很 好 我们 一起 去 公园 散步 吧 昨天 晚上 我 在 家里 看 了 一部 非常 "
    "有意思 的 电影 讲 的 是 一个 年轻人 离开 家乡 到 大城市 打工 的 故事",
    "Japanese": "昨日 は 友達 と 一緒に 映画 を 見 に 行き まし た とても 面白かっ た ので "
    "もう 一度 見 ます ちょっと 高かっ た けど",
}


def segment(
    text: str, start: float, end: float, *, words: Sequence[Word] = (), channel: int | None = None
) -> Segment:
    """A segment from second to second."""
    return Segment(
        start=round(start * SAMPLES),
        end=round(end * SAMPLES),
        text=text,
        words=tuple(words),
        channel=channel,
        token_ids=(),
        avg_logprob=None,
        no_speech=0.0,
    )


def word(text: str, start: float, end: float) -> Word:
    return Word(
        start=round(start * SAMPLES), end=round(end * SAMPLES), text=text, is_estimated=False
    )


def spoken(
    text: str, start: float = 0.0, *, pace: float = 15.0, channel: int | None = None
) -> Segment:
    """Words between spaces, one behind the other, at a pace of characters a second."""
    words = []
    time = start
    for content in text.split():
        end = time + (len(content) + 1) / pace
        words.append(word(content, time, end - 0.01))
        time = end
    return segment(text, start, time, words=words, channel=channel)


def aligned(language: str, *, pace: float) -> Segment:
    """Chinese or Japanese with the words an aligner finds, at a pace of characters a second."""
    text = SENTENCES[language]
    words = []
    time = 0.0
    for content in _WORDS[language].split():
        end = time + len(content) / pace
        words.append(word(content, time, end))
        time = end
    return segment(text, 0, time, words=words)


def lecture(words: int, *, seed: int = 1) -> list[Segment]:
    """English of random words at a changing pace, with pauses as between and inside sentences."""
    random = Random(seed)
    vocabulary = SENTENCES["English"].replace(",", "").replace(".", "").lower().split()
    segments = []
    time = 0.0
    while words > 0:
        start, parts, timed = time, [], []
        for _ in range(random.randint(3, 60)):
            content = random.choice(vocabulary)
            mark = random.choices(["", ",", "."], weights=[84, 8, 8])[0]
            end = time + max(0.06, (len(content) + 1) / random.gauss(15, 2))
            timed.append(word(content, time, end))
            parts.append(content + mark)
            time = end + (random.uniform(0.1, 0.6) if mark and random.random() < 0.7 else 0)
        segments.append(segment(" ".join(parts), start, time, words=timed))
        words -= len(parts)
        time += random.uniform(0.4, 2)
    return segments
