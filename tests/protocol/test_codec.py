import dataclasses
import math
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import BadMessage, WrongVersion
from protocol.control import EngineStatus, Heartbeat, StopEngine
from protocol.limits import MAX_FRAME_BYTES, UPLOAD_PIECE_BYTES
from protocol.transcription import Failed, Final, Transcribe, UploadPiece
from protocol.version import PROTOCOL_VERSION
from tests.protocol.examples import EXAMPLES
from tests.protocol.golden_files import plain
from tests.protocol.strategies import messages


def envelope(name: Any, fields: Any, version: Any = PROTOCOL_VERSION) -> bytes:
    packed: bytes = msgpack.packb([version, name, fields])
    return packed


def fields_of(message: Any, **changed: Any) -> dict[str, Any]:
    """A message's fields as they are packed, some of them replaced."""
    packed: dict[str, Any] = msgpack.unpackb(codec.encode(message))[2]
    return {**packed, **changed}


@given(messages())
def test_every_message_comes_back_as_it_was_sent(message: Any) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_bad_message(frame: bytes) -> None:
    with pytest.raises(BadMessage):
        codec.decode(frame)


@given(messages(), st.data())
def test_damaged_frames_raise_nothing_but_bad_message(message: Any, data: st.DataObject) -> None:
    frame = bytearray(codec.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change":
                frame[position] = data.draw(st.integers(0, 255))
            case "remove" if len(frame) > 1:
                del frame[position]
            case "insert":
                frame[position:position] = data.draw(st.binary(min_size=1, max_size=5))
            case "cut" if position > 0:
                del frame[position:]

    try:
        survivor = codec.decode(bytes(frame))
    except BadMessage:
        return
    assert codec.decode(codec.encode(survivor)) == survivor  # damage may hit a text or a number


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)  # fmt: skip


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_a_field_of_a_wrong_type_raises_nothing_but_bad_message(
    name: str, data: st.DataObject
) -> None:
    fields = fields_of(EXAMPLES[name])
    if not fields:
        return
    changed = data.draw(st.sampled_from(sorted(fields)))
    fields[changed] = data.draw(PLAIN)

    try:
        message = codec.decode(envelope(name, fields))
    except BadMessage:
        return
    assert plain(message)[changed] == plain(_listed(fields[changed]))  # it was of the right type


def _listed(value: Any) -> Any:
    return float(value) if isinstance(value, float) else value


@given(PLAIN)
@example([1, "Heartbeat"])
@example([1, "Heartbeat", {}, {}])
@example([1, ["Heartbeat"], {}])
@example([1, "Heartbeat", []])
def test_any_other_envelope_raises_nothing_but_bad_message(value: Any) -> None:
    with pytest.raises(BadMessage):
        codec.decode(msgpack.packb(value))


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, None, True, "1", 1.0, [1], -1])
def test_another_version_is_told_apart_from_nonsense(version: Any) -> None:
    with pytest.raises(WrongVersion, match=f"{PROTOCOL_VERSION} spoken here") as caught:
        codec.decode(envelope("Heartbeat", {}, version))

    assert caught.value.version == version


def test_a_version_is_named_only_if_it_is_a_number() -> None:
    with pytest.raises(WrongVersion) as caught:
        codec.decode(envelope("Heartbeat", {}, "x" * 100_000))

    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("name", ["", "heartbeat", "Stage", "object", "\x00", 1, None])
def test_an_unknown_type_is_refused(name: Any) -> None:
    with pytest.raises(BadMessage, match="unknown message type"):
        codec.decode(envelope(name, {}))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_missing_and_additional_fields_are_refused(name: str) -> None:
    fields = fields_of(EXAMPLES[name])
    for missing in fields:
        fewer = {field: value for field, value in fields.items() if field != missing}
        with pytest.raises(BadMessage, match="differ from the schema"):
            codec.decode(envelope(name, fewer))
    with pytest.raises(BadMessage, match="differ from the schema"):
        codec.decode(envelope(name, {**fields, "additional": 1}))


@pytest.mark.parametrize("value", [-1, 2**53 + 1, True, False, 1.0, "1", None, math.nan])
def test_counts_are_whole_numbers_that_every_language_holds(value: Any) -> None:
    with pytest.raises(BadMessage, match=r"StopEngine\.epoch"):
        codec.decode(envelope("StopEngine", {"epoch": value}))


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, -math.inf, True, 1e300, "1", None])
def test_seconds_are_finite_and_never_negative(value: Any) -> None:
    final = EXAMPLES["Final"]
    with pytest.raises(BadMessage, match=r"Final\.audio_seconds"):
        codec.decode(envelope("Final", fields_of(final, audio_seconds=value)))


def test_seconds_may_be_whole() -> None:
    message = codec.decode(envelope("Final", fields_of(EXAMPLES["Final"], audio_seconds=60)))

    assert isinstance(message, Final)
    assert isinstance(message.audio_seconds, float)


@pytest.mark.parametrize("value", ["Starting", "", None, 1, ["starting"], {}])
def test_words_of_a_closed_list_are_checked(value: Any) -> None:
    status = EXAMPLES["EngineStatus"]
    assert isinstance(status, EngineStatus)
    with pytest.raises(BadMessage, match=r"EngineStatus\.state"):
        codec.decode(envelope("EngineStatus", fields_of(status, state=value)))


def test_parts_of_a_message_are_checked_too() -> None:
    transcribe = EXAMPLES["Transcribe"]
    for keywords in ([1], [None], [["a"]], "a", {"a": "b"}, None):
        with pytest.raises(BadMessage, match=r"Transcribe\.keywords"):
            codec.decode(envelope("Transcribe", fields_of(transcribe, keywords=keywords)))


def test_bytes_and_text_are_not_confused() -> None:
    with pytest.raises(BadMessage, match=r"Cancel\.request_id"):
        codec.decode(envelope("Cancel", {"request_id": b"r1"}))
    piece = EXAMPLES["UploadPiece"]
    with pytest.raises(BadMessage, match=r"UploadPiece\.content"):
        codec.decode(envelope("UploadPiece", fields_of(piece, content="text")))


def test_text_that_is_no_utf_8_is_refused() -> None:
    frame = codec.encode(EXAMPLES["Cancel"]).replace(b"req_", b"\xff\xfe__")

    with pytest.raises(BadMessage, match="not msgpack"):
        codec.decode(frame)


def test_text_with_lone_surrogates_is_sent_with_question_marks() -> None:
    failed = EXAMPLES["Failed"]
    assert isinstance(failed, Failed)
    odd = dataclasses.replace(failed, message="a \ud800 b")

    assert codec.decode(codec.encode(odd)) == dataclasses.replace(failed, message="a ? b")


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01"])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    for depth in (100, 600, 100_000):
        nested = opening * depth + b"\xc0"
        start = b"\x93" + msgpack.packb(PROTOCOL_VERSION) + msgpack.packb("Heartbeat")
        with pytest.raises(BadMessage):
            codec.decode(start + nested)


@pytest.mark.parametrize(
    "claim",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xdb\xff\xff\xff\xff",  # a text of 4 GiB
        b"\xc6\xff\xff\xff\xff",  # bytes
        b"\xc9\xff\xff\xff\xff\x01",  # an extension
    ],
)
def test_a_claim_of_more_than_there_is_costs_nothing(claim: bytes) -> None:
    for frame in (claim, b"\x93\x01" + claim, b"\x93\x01\xa9Heartbeat" + claim):
        with pytest.raises(BadMessage):
            codec.decode(frame)


def test_extension_types_and_timestamps_are_refused() -> None:
    for extension in (msgpack.ExtType(1, b""), msgpack.Timestamp(0), msgpack.ExtType(5, b"x" * 99)):
        with pytest.raises(BadMessage):
            codec.decode(envelope("Cancel", {"request_id": extension}))


def test_map_keys_that_are_no_text_are_refused() -> None:
    for frame in (envelope("Heartbeat", {1: 2}), b"\x93\x01\xa9Heartbeat\x81\x90\x01"):
        with pytest.raises(BadMessage):
            codec.decode(frame)


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BadMessage, match="too large"):
        codec.decode(codec.encode(Heartbeat()) + b"\xc0" * MAX_FRAME_BYTES)


def test_anything_after_the_message_is_refused() -> None:
    with pytest.raises(BadMessage):
        codec.decode(codec.encode(StopEngine(1)) + b"\x00")


def test_the_largest_messages_there_are_fit_into_a_frame() -> None:
    piece = UploadPiece("r" * 40, 2**40, b"\xff" * UPLOAD_PIECE_BYTES, False)
    transcribe = EXAMPLES["Transcribe"]
    assert isinstance(transcribe, Transcribe)
    wordy = dataclasses.replace(transcribe, prompt="p" * 8192, keywords=("k" * 32,) * 256)

    for message in (piece, wordy):
        assert codec.decode(codec.encode(message)) == message
