import os
import stat
from pathlib import Path

import pytest
import zmq.utils.z85
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.keys import (
    generate_keys,
    load_allowed_workers,
    load_gateway_keys,
    load_worker_keys,
    write_keys,
)
from protocol.sockets import CurveKeys, LinkError


def test_a_gateway_finds_the_keys_written_for_it(tmp_path: Path) -> None:
    keys = generate_keys()
    write_keys(tmp_path / "gateway.key", keys)

    assert load_gateway_keys(tmp_path) == keys


def test_a_worker_finds_its_keys_and_the_gateways_public_one(tmp_path: Path) -> None:
    keys, gateway = generate_keys(), generate_keys()
    write_keys(tmp_path / "worker.key", keys)
    (tmp_path / "gateway.pub").write_bytes(gateway.public + b"\n")

    loaded = load_worker_keys(tmp_path)

    assert loaded == CurveKeys(keys.public, keys.secret, gateway_public=gateway.public)


def test_two_generated_pairs_differ() -> None:
    assert generate_keys() != generate_keys()


def test_written_secrets_belong_to_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_keys(tmp_path / "worker.key", generate_keys())
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "worker.key").stat().st_mode) == 0o600


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    keys = generate_keys()
    write_keys(tmp_path / "gateway.key", keys)

    with pytest.raises(FileExistsError):
        write_keys(tmp_path / "gateway.key", generate_keys())

    assert load_gateway_keys(tmp_path) == keys


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "gateway.key"
    write_keys(path, generate_keys())
    path.chmod(mode)

    with pytest.raises(LinkError, match=f"chmod 600 {path}"):
        load_gateway_keys(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"gateway\.key cannot be read: No such file"):
        load_gateway_keys(tmp_path)


def test_a_public_key_that_is_not_of_the_secret_one_is_refused(tmp_path: Path) -> None:
    write_keys(tmp_path / "gateway.key", CurveKeys(generate_keys().public, generate_keys().secret))

    with pytest.raises(LinkError, match="must hold two lines"):
        load_gateway_keys(tmp_path)


@pytest.mark.parametrize("line", [b"short", b"x" * 41, b"\xff" * 40, b"~" * 40])
def test_a_line_that_is_no_key_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "allowed_workers").write_bytes(generate_keys().public + b"\n" + line + b"\n")

    with pytest.raises(LinkError, match="has a line that is no key"):
        load_allowed_workers(tmp_path)


def test_the_allow_list_may_have_comments_and_empty_lines(tmp_path: Path) -> None:
    first, second = generate_keys().public, generate_keys().public
    lines = [b"# the GPU in the cellar", first, b"", b"#", second + b"  "]
    (tmp_path / "allowed_workers").write_bytes(b"\n".join(lines))

    assert load_allowed_workers(tmp_path) == {first, second}


@given(st.binary(min_size=32, max_size=32))
@example(b"\xff" * 32)
def test_no_key_looks_like_a_comment(key: bytes) -> None:
    assert not zmq.utils.z85.encode(key).startswith(b"#")


def test_only_one_gateway_key_can_be_meant(tmp_path: Path) -> None:
    write_keys(tmp_path / "worker.key", generate_keys())
    for content in (b"", generate_keys().public + b"\n" + generate_keys().public):
        (tmp_path / "gateway.pub").write_bytes(content)
        with pytest.raises(LinkError, match="must hold one key"):
            load_worker_keys(tmp_path)
