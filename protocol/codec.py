"""Messages to bytes and back: one msgpack array [version, type name, fields], schema-checked.

The schema is the dataclass itself. Nothing here trusts the peer: whatever does not fit raises
BadMessage, whatever the bytes.
"""

import dataclasses
import importlib
import types
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack

from protocol.limits import MAX_FRAME_BYTES
from protocol.units import Nats
from protocol.version import PROTOCOL_VERSION

_NAMES = {
    "protocol.control": (
        "Heartbeat",
        "Introduce",
        "Welcome",
        "Refused",
        "SupervisorHello",
        "StartEngine",
        "StopEngine",
        "EngineFinishedWork",
        "EngineStatus",
    ),
    "protocol.transcription": (
        "Hello",
        "Transcribe",
        "UploadGrown",
        "Cancel",
        "PullUpload",
        "UploadPiece",
        "Progress",
        "Partial",
        "ChunkDone",
        "Final",
        "Failed",
    ),
    "protocol.live": (
        "OpenSession",
        "AudioPacket",
        "Commit",
        "Clear",
        "Configure",
        "CloseSession",
        "SpeechStarted",
        "UtteranceEnded",
        "Hypothesis",
        "UtteranceDone",
        "UtteranceFailed",
        "Listened",
        "SessionClosed",
        "SessionFailed",
    ),
}


class _MessageTypes(Mapping[str, type[Any]]):
    """A module is imported with the first message of it: a supervisor needs those of the control
    link alone, and each dataclass takes memory."""

    def __init__(self) -> None:
        self._modules = {name: module for module, names in _NAMES.items() for name in names}

    def __getitem__(self, name: str) -> type[Any]:
        found: type[Any] = getattr(importlib.import_module(self._modules[name]), name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


MESSAGE_TYPES: Mapping[str, type[Any]] = _MessageTypes()
"""Every message either link carries, by the name it has on the wire."""

MAX_INTEGER = 2**53
"""Counts stay exact in every language's number type."""


class BadMessage(ValueError):
    """The bytes are no message of this protocol."""


class WrongVersion(BadMessage):
    """The peer speaks another version of the protocol."""

    def __init__(self, version: object) -> None:
        shown = version if type(version) is int else f"of type {type(version).__name__}"
        super().__init__(f"protocol version {shown} met, {PROTOCOL_VERSION} spoken here")
        self.version = version


def encode(message: object) -> bytes:
    """One message as one wire frame. Lone surrogates, which JSON can carry and UTF-8 cannot, turn
    into question marks."""
    packed = _packed(message)
    assert len(packed) <= MAX_FRAME_BYTES, "libzmq would drop the peer that gets this"
    return packed


def packed_bytes(message: object) -> int:
    """The size of a message's wire frame, however large."""
    return len(_packed(message))


def _packed(message: object) -> bytes:
    fields = {name: _plain(getattr(message, name)) for name in _schema(type(message))}
    envelope = [PROTOCOL_VERSION, type(message).__name__, fields]
    packed: bytes = msgpack.packb(envelope, unicode_errors="replace")
    return packed


def decode(frame: bytes) -> Any:
    """The message in one wire frame; raises BadMessage for anything else."""
    if len(frame) > MAX_FRAME_BYTES:
        raise BadMessage("frame too large")
    try:
        envelope = msgpack.unpackb(frame, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadMessage("not msgpack") from error
    if not isinstance(envelope, list) or len(envelope) != 3:
        raise BadMessage("not an envelope of three")
    version, name, fields = envelope
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise WrongVersion(version)
    message_type = MESSAGE_TYPES.get(name) if isinstance(name, str) else None
    if message_type is None:
        raise BadMessage("unknown message type")
    return _build(message_type, fields, message_type.__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _schema(type(value))}
    return str(value) if isinstance(value, StrEnum) else value


Reader = Callable[[Any, str], Any]
_schemas: dict[type[Any], dict[str, Reader]] = {}


def _schema(message_type: Any) -> dict[str, Reader]:
    """Field name -> reader of that field, derived once from the annotations."""
    if message_type not in _schemas:
        hints = get_type_hints(message_type)
        _schemas[message_type] = {
            field.name: _reader(hints[field.name]) for field in dataclasses.fields(message_type)
        }
    return _schemas[message_type]


def _build(message_type: type[Any], fields: Any, where: str) -> Any:
    schema = _schema(message_type)
    if not isinstance(fields, dict) or fields.keys() != schema.keys():
        raise BadMessage(f"{where}: fields differ from the schema")
    return message_type(
        **{name: read(fields[name], f"{where}.{name}") for name, read in schema.items()}
    )


def _reader(hint: Any) -> Reader:
    if get_origin(hint) in (types.UnionType, Union):
        inner = next(option for option in get_args(hint) if option is not types.NoneType)
        read = _reader(inner)
        return lambda value, where: None if value is None else read(value, where)
    if get_origin(hint) is tuple:
        read_item = _reader(get_args(hint)[0])
        return lambda value, where: tuple(read_item(item, where) for item in _list(value, where))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value, where: _member(hint, value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda value, where: _build(hint, value, where)
    return _SCALARS[hint]


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadMessage(f"{where}: not a list")
    return value


def _member(choices: type[StrEnum], value: Any, where: str) -> StrEnum:
    try:
        return choices(value)
    except ValueError as error:
        raise BadMessage(f"{where}: not one of its values") from error


def _integer(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise BadMessage(f"{where}: not a whole number from 0 to 2^53")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_INTEGER:  # NaN fails as well
        raise BadMessage(f"{where}: not a number from 0 to 2^53")
    return float(value)


def _nats(value: Any, where: str) -> Nats:
    if type(value) not in (int, float) or not -MAX_INTEGER <= value <= 0:  # NaN fails as well
        raise BadMessage(f"{where}: not the logarithm of a probability")
    return Nats(float(value))


def _exactly(kind: type[Any]) -> Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not kind:
            raise BadMessage(f"{where}: not {kind.__name__}")
        return value

    return read


_SCALARS: dict[Any, Reader] = {
    int: _integer,
    float: _number,
    Nats: _nats,
    str: _exactly(str),
    bool: _exactly(bool),
    bytes: _exactly(bytes),
}
