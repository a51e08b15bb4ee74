"""Key files of a tcp link, in the folder WORKER_LINK_KEYS names. Keys are Z85 text, one a line.

Gateway: `gateway.key` (public, then secret) and `allowed_workers` (public keys). A line that
begins with #, which no key does, is a comment.
Worker: `worker.key` (public, then secret) and `gateway.pub` (the gateway's public key).
Files with a secret belong to their owner alone (mode 0600).
"""

import os
import stat
import struct
from pathlib import Path

import zmq
import zmq.utils.z85

from protocol.sockets import CurveKeys, LinkError

GATEWAY_KEY = "gateway.key"
GATEWAY_PUBLIC = "gateway.pub"
WORKER_KEY = "worker.key"
ALLOWED_WORKERS = "allowed_workers"
MAX_FILE_BYTES = 1024 * 1024


def generate_keys() -> CurveKeys:
    """A new pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public=public, secret=secret)


def write_keys(path: Path, keys: CurveKeys) -> None:
    """Write a pair where only its owner can read it; raises FileExistsError, never overwrites."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(keys.public + b"\n" + keys.secret + b"\n")


def write_key_folders(folder: Path) -> None:
    """Make `folder`/gateway and `folder`/worker with all that one gateway and one worker need.

    Raises LinkError, also where one of them exists already: keys are never overwritten.
    """
    gateway, worker = generate_keys(), generate_keys()
    try:
        for side in ("gateway", "worker"):
            (folder / side).mkdir(mode=0o700, parents=True)
        write_keys(folder / "gateway" / GATEWAY_KEY, gateway)
        write_keys(folder / "worker" / WORKER_KEY, worker)
        (folder / "gateway" / ALLOWED_WORKERS).write_bytes(worker.public + b"\n")
        (folder / "worker" / GATEWAY_PUBLIC).write_bytes(gateway.public + b"\n")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise LinkError(f"keys cannot be written to {error.filename}: {reason}") from error


def load_gateway_keys(folder: Path) -> CurveKeys:
    """The gateway's pair; raises LinkError."""
    return _load_pair(folder / GATEWAY_KEY)


def load_allowed_workers(folder: Path) -> frozenset[bytes]:
    """Public keys of the workers that may connect; raises LinkError."""
    return frozenset(_load_lines(folder / ALLOWED_WORKERS))


def load_worker_keys(folder: Path) -> CurveKeys:
    """A worker's pair and the gateway's public key; raises LinkError."""
    pair = _load_pair(folder / WORKER_KEY)
    gateway = _load_lines(folder / GATEWAY_PUBLIC)
    if len(gateway) != 1:
        raise LinkError(f"{folder / GATEWAY_PUBLIC} must hold one key: the gateway's public one")
    return CurveKeys(pair.public, pair.secret, gateway_public=gateway[0])


def _load_pair(path: Path) -> CurveKeys:
    lines = _load_lines(path, is_secret=True)
    if len(lines) != 2 or zmq.curve_public(lines[1]) != lines[0]:
        raise LinkError(f"{path} must hold two lines: a public key and the secret key it is of")
    return CurveKeys(public=lines[0], secret=lines[1])


def _load_lines(path: Path, *, is_secret: bool = False) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise LinkError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    if is_secret and mode & 0o077:
        raise LinkError(f"{path} holds a secret but others may read it: chmod 600 {path}")
    lines = [line.strip() for line in content.splitlines()]
    keys = [line for line in lines if line and not line.startswith(b"#")]
    for key in keys:
        if not _is_key(key):
            raise LinkError(f"{path} has a line that is no key: keys are 40 characters of Z85")
    return keys


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == 40 and len(zmq.utils.z85.decode(text)) == 32
    except (ValueError, KeyError, struct.error):
        return False
