"""The golden files: what each example message is on the wire.

`python -m tests.protocol.golden_files` writes those that are missing. It never replaces one: who
changes a message deletes its file by hand, and raises PROTOCOL_VERSION.
"""

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from protocol import codec
from tests.protocol.examples import EXAMPLES

GOLDEN = Path(__file__).parent / "golden"


def plain(value: Any) -> Any:
    """A message as JSON has it; bytes as hexadecimal digits."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, StrEnum) else value


def write_missing() -> None:
    for name, message in EXAMPLES.items():
        golden = {"message": plain(message), "wire": codec.encode(message).hex()}
        path = GOLDEN / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write_missing()
