"""Random messages, derived from the message classes themselves."""

import types
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from protocol import codec
from protocol.transcription import Nats

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, codec.MAX_INTEGER),
    float: st.floats(0, float(codec.MAX_INTEGER)),
    Nats: st.floats(-float(codec.MAX_INTEGER), 0),
    str: st.text(st.characters(exclude_categories=["Cs"])),
    bool: st.booleans(),
    bytes: st.binary(),
}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of one annotation of a message class."""
    if hint in SCALARS:
        return SCALARS[hint]
    if get_origin(hint) in (types.UnionType, Union):
        inner = next(option for option in get_args(hint) if option is not types.NoneType)
        return st.none() | of_type(inner)
    if get_origin(hint) is tuple:
        return st.lists(of_type(get_args(hint)[0]), max_size=4).map(tuple)
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    fields = {name: of_type(inner) for name, inner in get_type_hints(hint).items()}
    return st.builds(hint, **fields)


def messages() -> st.SearchStrategy[Any]:
    """Messages of every type."""
    return st.one_of([of_type(message_type) for message_type in codec.MESSAGE_TYPES.values()])
