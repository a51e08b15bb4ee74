import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, UploadTooLarge
from gateway.multipart import (
    MAX_OVERHEAD_BYTES,
    MAX_UNREAD_BYTES,
    Form,
    MultipartReader,
)
from tests.gateway.harness import field_part, file_part, multipart_body

BODY = multipart_body(
    field_part("model", "m"),
    file_part(b"\r\n--b-\r\n--bb\r\r\n" * 3),
    field_part("prompt", "Grüße\r\n"),
    field_part("keywords[]", "a"),
    field_part("keywords[]", "b"),
)


def read(pieces: list[bytes]) -> tuple[Form, bytes]:
    """The form and the file of a body fed in pieces."""
    received = bytearray()
    reader = MultipartReader(b"b", write_file=received.extend, max_file_bytes=10_000)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish(), bytes(received)


@given(st.lists(st.integers(min_value=0, max_value=len(BODY)), max_size=20))
def test_result_does_not_depend_on_how_the_body_was_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in itertools.pairwise(edges)]

    assert read(pieces) == read([BODY])


def test_one_byte_at_a_time_gives_the_same() -> None:
    assert read([BODY[i : i + 1] for i in range(len(BODY))]) == read([BODY])


def test_fields_keep_order_and_text() -> None:
    form, recording = read([BODY])

    assert form.fields == (
        ("model", "m"),
        ("prompt", "Grüße\r\n"),
        ("keywords[]", "a"),
        ("keywords[]", "b"),
    )
    assert recording == b"\r\n--b-\r\n--bb\r\r\n" * 3


def test_list_field_is_read_in_every_way_clients_write_one() -> None:
    for fields in (
        (("keywords[]", "a"), ("keywords[]", "b")),
        (("keywords", "a"), ("keywords", "b")),
        (("keywords[0]", "a"), ("keywords[1]", "b")),
        (("keywords", '["a", "b"]'),),
    ):
        assert Form(fields).texts("keywords") == ("a", "b")


def test_an_empty_list_is_no_value() -> None:
    assert Form((("keywords", "[]"),)).texts("keywords") == ()


def test_text_that_only_looks_like_a_list_is_one_text() -> None:
    assert Form((("keywords", "[applause"),)).texts("keywords") == ("[applause",)
    assert Form((("keywords", "[1, 2]"),)).texts("keywords") == ("[1, 2]",)
    assert Form((("keywords", "[" * 60_000),)).texts("keywords") == ("[" * 60_000,)
    assert Form((("keywords", "a"),)).texts("other") == ()


def test_escapes_in_a_list_stand_for_whole_characters() -> None:
    assert Form((("keywords", '["\\ud83d\\ude00"]'),)).texts("keywords") == ("\U0001f600",)
    for half in ('["\\ud83d"]', '["a", "\\ude00\\ud83d"]'):
        with pytest.raises(BadRequest) as caught:
            Form((("keywords", half),)).texts("keywords")
        assert caught.value.param == "keywords"


def test_nested_names_are_no_lists_of_the_outer_name() -> None:
    assert Form((("chunking_strategy[type]", "server_vad"),)).texts("chunking_strategy") == ()


def test_voices_of_known_speakers_are_counted_and_not_kept() -> None:
    voice = "data:audio/wav;base64," + "A" * 1_000_000
    voices = [field_part("known_speaker_references[]", voice)] * 4
    form, recording = read([multipart_body(*voices, file_part(b"speech"))])

    assert form.texts("known_speaker_references") == ("", "", "", "")
    assert recording == b"speech"


def test_voices_are_bounded_like_everything_beside_the_recording() -> None:
    voice = field_part("known_speaker_references[]", "A" * (MAX_UNREAD_BYTES + MAX_OVERHEAD_BYTES))

    with pytest.raises(UploadTooLarge):
        read([multipart_body(voice, file_part(b"speech"))])
