import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.messages import (
    MAX_BODY_BYTES,
    MAX_FRAME_BYTES,
    Answer,
    BadFrame,
    Call,
    Drop,
    Failure,
    Message,
    Reason,
    Unpacker,
    pack,
)

HEADERS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Call,
        number=st.integers(0, 2**60),
        method=st.sampled_from(["GET", "POST"]),
        url=st.text(max_size=20),
        headers=HEADERS,
        body=st.binary(max_size=50),
        timeout=st.floats(0, 1000),
        max_answer_bytes=st.integers(0, MAX_BODY_BYTES),
    ),
    st.builds(Drop, number=st.integers(0, 2**60)),
    st.builds(
        Answer,
        number=st.integers(0, 2**60),
        status=st.integers(100, 599),
        headers=HEADERS,
        body=st.binary(max_size=50),
    ),
    st.builds(
        Failure,
        number=st.integers(0, 2**60),
        reason=st.sampled_from(Reason),
        words=st.text(max_size=20),
    ),
)


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 64))
def test_messages_come_out_as_they_went_in_however_the_pipe_cuts_them(
    messages: list[Message], piece: int
) -> None:
    stream = b"".join(map(pack, messages))
    unpacker = Unpacker()

    heard = [
        message
        for start in range(0, len(stream), piece)
        for message in unpacker.feed(stream[start : start + piece])
    ]

    assert heard == messages
    assert all(type(left) is type(right) for left, right in zip(heard, messages, strict=True))


@given(st.binary(max_size=60))
def test_other_bytes_are_no_message(content: bytes) -> None:
    frame = len(content).to_bytes(4, "big") + content

    try:
        heard = list(Unpacker().feed(frame))
    except BadFrame:
        return
    assert [type(message) for message in heard] in ([Call], [Drop], [Answer], [Failure])


def test_frames_are_bounded_on_both_ends() -> None:
    with pytest.raises(BadFrame):
        pack(Answer(1, 200, {}, bytes(MAX_FRAME_BYTES)))
    with pytest.raises(BadFrame):
        list(Unpacker().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))


def test_neither_keys_nor_texts_are_in_what_a_log_could_show() -> None:
    call = Call(1, "POST", "https://a", {"authorization": "Bearer sk-1"}, b"words", 1.0, 10)

    assert "sk-1" not in repr(call)
    assert "words" not in repr(call)
    assert "words" not in repr(Answer(1, 200, {}, b"words"))
