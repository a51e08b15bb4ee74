"""Reading settings from environment variables, the same way in gateway and worker.

A settings class is a frozen dataclass whose fields carry a variable name and a parser in their
metadata (see `setting`). All bad values are reported together.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Settings = TypeVar("Settings")


class BadSettings(Exception):
    """One or more environment variables cannot be used; the message has a line for each."""


def setting(name: str, default: Any, parse: Callable[[str], Any]) -> Any:
    """A dataclass field read from variable `name`; parse raises ValueError saying what is valid.

    A default that is callable is called; it may raise ValueError where this machine has none.
    """
    metadata = {"variable": name, "parse": parse}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def variables(settings_type: type[Any]) -> list[str]:
    """The names of the variables a settings class reads."""
    return [field.metadata["variable"] for field in dataclasses.fields(settings_type)]


def read_settings(settings_type: type[Settings], environment: Mapping[str, str]) -> Settings:
    """Settings from the environment; an empty value counts as unset. Raises BadSettings."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in dataclasses.fields(settings_type):  # type: ignore[arg-type]
        variable, parse = field.metadata["variable"], field.metadata["parse"]
        text = environment.get(variable, "").strip()
        try:
            if text:
                values[field.name] = parse(text)
            elif field.default_factory is not dataclasses.MISSING:
                values[field.name] = field.default_factory()
        except ValueError as error:
            faults.append(f"{variable}: {error}")
    if faults:
        raise BadSettings("\n".join(faults))
    return settings_type(**values)


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Parser of a number in a closed range."""

    def parse(text: str) -> float:
        fault = f"must be a number from {minimum:g} to {maximum:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(fault) from None
        if not minimum <= value <= maximum:
            raise ValueError(fault)
        return value

    return parse


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Parser of a whole number in a closed range."""

    def parse(text: str) -> int:
        fault = f"must be a whole number from {minimum} to {maximum}"
        try:
            value = int(text)
        except ValueError:
            raise ValueError(fault) from None
        if not minimum <= value <= maximum:
            raise ValueError(fault)
        return value

    return parse


def flag(text: str) -> bool:
    """Parser of true/false in the spellings operators use."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def choice(*options: str) -> Callable[[str], str]:
    """Parser of one of a few words, case ignored."""

    def parse(text: str) -> str:
        if text.lower() not in options:
            raise ValueError(f"must be one of {', '.join(options)}")
        return text.lower()

    return parse


def byte_count(text: str) -> int:
    """Parser of a size in bytes: a whole number, or one with K, M, G (powers of 1024)."""
    factor = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:].upper(), 1)
    digits = text if factor == 1 else text[:-1]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18) or int(digits) == 0:
        raise ValueError("must be a size in bytes, such as 500M or 2G")
    return int(digits) * factor


def one_line(text: str) -> str:
    """Parser of text without line breaks and other control characters."""
    if not text.isprintable():
        raise ValueError("must be one line of text")
    return text


def folder(text: str) -> Path:
    """Parser of a folder's path; ~ is the user's home."""
    try:
        text.encode("utf-8")
        return Path(text).expanduser().absolute()
    except UnicodeEncodeError:
        raise ValueError("must be a path in UTF-8") from None
    except RuntimeError:
        raise ValueError("begins with ~, but no such user has a home folder") from None


def default_data_dir() -> Path:
    """Default of DATA_DIR: in the user's data folder, by the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "qwen3-asr"
    try:
        return Path.home() / ".local" / "share" / "qwen3-asr"
    except RuntimeError:
        raise ValueError("must name a folder, as this user has no home folder") from None


def comma_list(text: str) -> tuple[str, ...]:
    """Parser of a comma-separated list; empty items vanish."""
    return tuple(item for part in text.split(",") if (item := part.strip()))
