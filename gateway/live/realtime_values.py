"""Checks of single values in a realtime session's configuration. Pure.

What cannot be used raises BadValue; null is the default everywhere.
"""

import math
from collections.abc import Mapping
from typing import Any

from gateway.live.messages import clean
from gateway.routes.options import MAX_KEYWORDS, MAX_PROMPT_BYTES
from protocol.languages import UnknownLanguage, parse_language

MAX_NAME = 256


class BadValue(Exception):
    """One value of a client's message; the message is fit for it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message


def mapping(value: object, param: str) -> Mapping[str, Any]:
    """An object of JSON."""
    if not isinstance(value, dict):
        raise BadValue(param, f"{param} must be an object.")
    return value


def number(value: object, param: str, default: float, least: float, most: float) -> float:
    """A number in a closed range."""
    if value is None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:  # type: ignore[operator]  # is a number
        raise BadValue(param, f"{param} must be a number from {least:g} to {most:g}.")
    return float(value)  # type: ignore[arg-type]


def whole(value: object, param: str, default: int, least: int, most: int) -> int:
    """The same, rounded."""
    checked = number(value, param, default, least, most)
    return math.floor(checked + 0.5)


def choice(value: object, param: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in choices:
        raise BadValue(param, f"{param} must be one of: {', '.join(choices)}.")
    assert isinstance(value, str)
    return value


def name(value: object, param: str, default: str) -> str:
    """A short text, such as a model's name."""
    if value is None or value == "":
        return default
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise BadValue(param, f"{param} must be a text of at most {MAX_NAME} characters.")
    return clean(value)


def prompt(value: object, param: str) -> str:
    """The context's free text."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(clean(value).encode("utf-8")) > MAX_PROMPT_BYTES:
        raise BadValue(param, f"{param} must be a text of at most {MAX_PROMPT_BYTES} bytes.")
    return clean(value)


def texts(value: object, param: str) -> tuple[str, ...]:
    """A list of words; one alone need not be in a list."""
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise BadValue(param, f"{param} must be a list of texts.")
    words = tuple(clean(word) for word in listed)
    if len(words) > MAX_KEYWORDS or len("".join(words).encode("utf-8")) > MAX_PROMPT_BYTES:
        message = f"{param} are at most {MAX_KEYWORDS}, of {MAX_PROMPT_BYTES} bytes together."
        raise BadValue(param, message)
    return words


def language(value: object, param: str) -> str | None:
    """A language as the client wrote it, which parse_language takes; None where it is left open.
    One that the model does not know is detected: clients end over an error."""
    given = name(value, param, "")
    try:
        return given if parse_language(given) is not None else None
    except UnknownLanguage:
        return None
