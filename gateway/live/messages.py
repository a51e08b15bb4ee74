"""Text frames to and from clients: JSON that is safe to read, to keep and to repeat. Pure."""

import json
from collections.abc import Mapping
from typing import Any


def read_object(text: str) -> dict[str, Any] | None:
    """A client's message; None where it is no JSON object."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: nested without end
        return None
    return message if isinstance(message, dict) else None


def text_of(message: Mapping[str, object]) -> str:
    """A message to a client."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def clean(text: str) -> str:
    """Text of a client that can be sent on: JSON can spell halves of characters, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
