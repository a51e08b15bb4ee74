"""Parameters that live dialects share, from the query of a handshake. Pure.

Raises BadRequest naming the parameter; a dialect says itself how its clients are told.
"""

import math
import re
import secrets

from starlette.datastructures import QueryParams

from gateway.errors import BadRequest
from protocol.limits import LIVE_RATE_STEP

CALL_ID = re.compile(r"[\w.:@+-]{1,128}", re.ASCII)
TRUE_WORDS = ("true", "1", "yes", "on")
LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE = 8_000, 48_000


def call_id_of(query: QueryParams) -> str:
    """The call this session is part of: the client's own id of it, or a new one."""
    given = query.get("call_id", "")
    if not given:
        return f"call_{secrets.token_hex(12)}"
    if not CALL_ID.fullmatch(given):
        message = "call_id is of at most 128 letters, digits and the characters . _ : @ + -"
        raise BadRequest(message, param="call_id")
    return given


def is_on(query: QueryParams, name: str) -> bool:
    """Whether a switch is on: true, 1, yes or on; anything else is off."""
    return query.get(name, "").strip().lower() in TRUE_WORDS


def whole(query: QueryParams, name: str, default: int, least: int, most: int) -> int:
    """A whole number."""
    given = query.get(name, "").strip()
    if not given:
        return default
    is_number = given.isascii() and given.isdigit() and len(given) <= 9
    if not is_number or not least <= int(given) <= most:
        raise BadRequest(f"{name} is a whole number from {least} to {most}.", param=name)
    return int(given)


def number(query: QueryParams, name: str, default: float, least: float, most: float) -> float:
    """A number."""
    given = query.get(name, "").strip()
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not least <= value <= most:  # NaN fails as well
        raise BadRequest(f"{name} is a number from {least:g} to {most:g}.", param=name)
    return value


def sample_rate_of(query: QueryParams, default: int) -> int:
    """Of the audio, in Hz."""
    rate = whole(query, "sample_rate", default, LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE)
    if rate % LIVE_RATE_STEP:
        message = f"sample_rate is a multiple of {LIVE_RATE_STEP} Hz."
        raise BadRequest(message, param="sample_rate")
    return rate


def channels_of(query: QueryParams) -> int:
    """Of the audio: one, or two interleaved."""
    return whole(query, "channels", 1, 1, 2)
