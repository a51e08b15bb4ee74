import json
from typing import Any

import pytest

from protocol import codec
from tests.protocol.examples import EXAMPLES
from tests.protocol.golden_files import GOLDEN, plain


def read(name: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return golden


def test_every_message_type_has_a_golden_file_and_there_is_no_other() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(codec.MESSAGE_TYPES)
    assert set(EXAMPLES) == set(codec.MESSAGE_TYPES)


@pytest.mark.parametrize("name", sorted(codec.MESSAGE_TYPES))
def test_a_message_is_these_bytes(name: str) -> None:
    golden = read(name)

    assert plain(EXAMPLES[name]) == golden["message"]
    assert codec.encode(EXAMPLES[name]).hex() == golden["wire"]


@pytest.mark.parametrize("name", sorted(codec.MESSAGE_TYPES))
def test_these_bytes_are_the_message(name: str) -> None:
    assert codec.decode(bytes.fromhex(read(name)["wire"])) == EXAMPLES[name]
