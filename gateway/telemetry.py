"""Log lines: an event in the past tense, then its fields as name=value. Never audio, text or keys.

Values are JSON where they are not plain words, so that no caller's text can forge a line.
"""

import json
import logging
import re
from collections.abc import Mapping

PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)
LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Write our lines to standard error. Libraries are heard for errors only: uvicorn and
    python-multipart warn of every malformed request, which any stranger can send.
    """
    logging.basicConfig(level=logging.ERROR, format=LINE_FORMAT)
    for package in ("gateway", "protocol"):
        logging.getLogger(package).setLevel(level.upper())


def event(words: str, fields: Mapping[str, object]) -> str:
    """One line; fields that are None are left out."""
    shown = (f"{name}={_value(value)}" for name, value in fields.items() if value is not None)
    return " ".join((words, *shown))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)
