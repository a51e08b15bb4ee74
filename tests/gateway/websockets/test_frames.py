"""What the reader makes of frames, also beside the websockets library as a client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close as TheirClose
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from gateway.websockets import frames
from gateway.websockets.frames import Close, Event, FrameReader, Ping, Pong, Violation, unmasked
from tests.gateway.websockets.servers import masked

LIMIT = 1000
URI = parse_uri("ws://localhost/")


def events(*received: bytes, limit: int = LIMIT) -> list[Event]:
    reader = FrameReader(limit)
    return [event for piece in received for event in reader.feed(piece)]


def violation_of(*received: bytes) -> Violation:
    with pytest.raises(Violation) as caught:
        events(*received)
    return caught.value


messages = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    st.builds(Ping, st.binary(max_size=125)),
    st.builds(Pong, st.binary(max_size=125)),
)


def sent_by_the_library(event: Event) -> bytes:
    client = ClientProtocol(URI, state=State.OPEN)
    if isinstance(event, str):
        client.send_text(event.encode())
    elif isinstance(event, bytes):
        client.send_binary(event)
    elif isinstance(event, Ping):
        client.send_ping(event.payload)
    elif isinstance(event, Pong):
        client.send_pong(event.payload)
    return b"".join(client.data_to_send())


@given(st.lists(messages, max_size=6), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_every_message_arrives_however_tcp_cuts_it(sent: list[Event], cuts: list[int]) -> None:
    stream = b"".join(sent_by_the_library(event) for event in sent)
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(stream[start : start + cut])
        start += cut
    pieces.append(stream[start:])

    assert events(*pieces, limit=10_000) == sent


@given(st.binary(max_size=200), st.lists(st.binary(max_size=70), max_size=5), st.booleans())
def test_fragments_become_one_message_with_control_frames_between(
    first: bytes, others: list[bytes], is_pinged: bool
) -> None:
    pieces = [masked(0x02, first)]
    for piece in others:
        if is_pinged:
            pieces.append(masked(0x89, b"!"))
        pieces.append(masked(0x00, piece))
    pieces.append(masked(0x80, b"end"))
    reader = FrameReader(LIMIT)
    stream = b"".join(pieces)

    seen = [event for byte in stream for event in reader.feed(bytes((byte,)))]

    assert seen == [Ping(b"!")] * (len(others) if is_pinged else 0) + [
        first + b"".join(others) + b"end"
    ]
    assert reader.held_bytes == 0


@given(st.binary(max_size=70_000))
def test_library_reads_what_is_written(payload: bytes) -> None:
    client = ClientProtocol(URI, state=State.OPEN, max_size=None)
    client.receive_data(frames.encode_frame(frames.BINARY, payload))
    client.receive_data(frames.encode_close(1013, "é" * 100))

    message, close = client.events_received()

    assert message == Frame(Opcode.BINARY, payload)
    assert isinstance(close, Frame)
    assert TheirClose.parse(close.data) == TheirClose(1013, "é" * 61)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_lengths_of_every_form_are_read_and_written(size: int) -> None:
    assert events(masked(0x82, bytes(size)), limit=size) == [bytes(size)]
    frame = frames.encode_frame(frames.TEXT, bytes(size))
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65_536 else 10)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(payload: bytes, mask: bytes) -> None:
    once = unmasked(payload, mask)

    assert unmasked(once, mask) == payload
    assert all(byte == payload[i] ^ mask[i % 4] for i, byte in enumerate(once))


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\x81\x01a", id="not masked"),
        pytest.param(masked(0xC1, b"a"), id="reserved bit 1"),
        pytest.param(masked(0x91, b"a"), id="reserved bit 3"),
        pytest.param(masked(0x83, b"a"), id="unknown data frame"),
        pytest.param(masked(0x8B, b"a"), id="unknown control frame"),
        pytest.param(masked(0x09, b"a"), id="fragmented ping"),
        pytest.param(masked(0x89, bytes(126)), id="long ping"),
        pytest.param(masked(0x80, b"a"), id="continues nothing"),
        pytest.param(masked(0x01, b"a") + masked(0x81, b"b"), id="message within a message"),
        pytest.param(masked(0x01, b"") + masked(0x82, b"b"), id="within an empty fragment"),
        pytest.param(masked(0x88, b"\x03"), id="close of one byte"),
        pytest.param(masked(0x88, b"\x03\xed"), id="close with 1005"),
        pytest.param(masked(0x88, b"\x03\xee"), id="close with 1006"),
        pytest.param(masked(0x88, b"\x03\xf7"), id="close with 1015"),
        pytest.param(masked(0x88, b"\x13\x88"), id="close with 5000"),
        pytest.param(masked(0x88, b"\x00\x00"), id="close with 0"),
    ],
)
def test_broken_rule_is_a_protocol_error(stream: bytes) -> None:
    assert violation_of(stream).code == frames.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(masked(0x81, b"\xff"), id="message"),
        pytest.param(masked(0x01, b"\xc3") + masked(0x80, b"\xc3"), id="across fragments"),
        pytest.param(masked(0x81, b"\xed\xa0\x80"), id="surrogate"),
        pytest.param(masked(0x88, b"\x03\xe8\xff"), id="reason"),
    ],
)
def test_text_that_is_not_utf_8_is_told_so(stream: bytes) -> None:
    assert violation_of(stream).code == frames.INVALID_TEXT


def test_character_may_be_split_between_fragments() -> None:
    assert events(masked(0x01, b"\xc3"), masked(0x80, b"\xa9")) == ["é"]


def test_message_of_the_limit_is_taken_and_a_byte_more_is_not() -> None:
    assert events(masked(0x82, bytes(LIMIT))) == [bytes(LIMIT)]
    assert violation_of(masked(0x82, bytes(LIMIT + 1))).code == frames.TOO_BIG
    fragments = masked(0x02, bytes(LIMIT)) + masked(0x00, b"") + masked(0x00, b"x")
    assert violation_of(fragments).code == frames.TOO_BIG


def test_announced_length_is_refused_before_its_bytes_come() -> None:
    announced = b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + b"mask"

    assert violation_of(announced).code == frames.TOO_BIG


def test_no_byte_is_kept_of_frames_that_are_read() -> None:
    reader = FrameReader(LIMIT)

    assert list(reader.feed(masked(0x02, bytes(100)) + b"\x00")) == []
    assert reader.held_bytes == 101


@pytest.mark.parametrize(
    ("payload", "close", "reply"),
    [
        (b"", Close(1005, ""), b"\x88\x00"),
        (b"\x03\xe8", Close(1000, ""), b"\x88\x02\x03\xe8"),
        (b"\x0f\xa1bye", Close(4001, "bye"), b"\x88\x02\x0f\xa1"),
    ],
)
def test_close_is_answered_with_its_code(payload: bytes, close: Close, reply: bytes) -> None:
    assert events(masked(0x88, payload)) == [close]
    assert frames.encode_close_reply(close) == reply


def test_reason_is_cut_between_characters() -> None:
    frame = frames.encode_close(1013, "a" + "é" * 100)

    assert frame[1] <= 125
    assert frame[4:].decode() == "a" + "é" * 61
