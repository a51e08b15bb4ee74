import pytest

from gateway.formats.transcripts import Usage, join_chunks, join_texts
from tests.fakes import chunk_done


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["Hello.", "How are you?"], "Hello. How are you?"),
        (["你好。", "今天很好。"], "你好。今天很好。"),
        (["こんにちは", "カタカナ"], "こんにちはカタカナ"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "반갑습니다"], "안녕하세요 반갑습니다"),
        (["你好", "world"], "你好 world"),
        (["价格,", "「一」"], "价格, 「一」"),
        (["（一）", "，二"], "（一），二"),
        (["  padded ", "\ntext\t"], "padded text"),
        (["one", "", "  ", "two"], "one two"),
        (["", ""], ""),
        ([], ""),
        (["𠀀", "𠀁"], "𠀀𠀁"),
    ],
)
def test_texts_are_joined_as_their_scripts_are_written(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


def test_language_is_the_one_most_of_the_audio_is_in() -> None:
    transcript = join_chunks(
        [
            chunk_done("Hallo", language="German", start=0, end=16_000),
            chunk_done("hello hello", language="English", start=16_000, end=64_000),
            chunk_done("Tschüss", language="German", start=64_000, end=80_000),
        ]
    )

    assert transcript.language == "English"
    assert transcript.languages == ("German", "English")
    assert transcript.text == "Hallo hello hello Tschüss"


def test_silent_chunks_have_no_say_in_the_language() -> None:
    transcript = join_chunks(
        [
            chunk_done("", language=None, start=0, end=960_000),
            chunk_done("hello", language="English", start=960_000, end=976_000),
        ]
    )

    assert (transcript.language, transcript.languages) == ("English", ("English",))


def test_nothing_heard_is_no_language() -> None:
    transcript = join_chunks([chunk_done("", language=None)])

    assert (transcript.text, transcript.language, transcript.languages) == ("", None, ())


def test_tokens_of_all_chunks_are_summed() -> None:
    assert join_chunks([chunk_done("a"), chunk_done("b")]).usage == Usage(40, 26, 10)
    assert join_chunks([]).usage == Usage(0, 0, 0)
