"""What a confined process can still do, tried out in one."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from worker.audio import sandbox

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in sandbox._MACHINES,
    reason="no system-call filter for this machine",
)

_ATTEMPTS = """
import ctypes, json, os, resource, signal, socket, sys, threading
from worker.audio import sandbox

libc = ctypes.CDLL(None, use_errno=True)
descriptor = os.open("/proc/self/status", os.O_RDONLY)
connected, _ = socket.socketpair()
parent = os.getppid()
sandbox.limit_resources(2 << 30, 60)
is_filtered = sandbox.filter_system_calls()

def call_ptrace():
    if libc.ptrace(0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")

attempts = {
    "read an open file": lambda: os.read(descriptor, 10),
    "seek in an open file": lambda: os.lseek(descriptor, 0, os.SEEK_SET),
    "send on an open socket": lambda: connected.send(b"x"),
    "take memory": lambda: bytearray(64 << 20),
    "move the own CPU limit": lambda: sandbox.allow_cpu_seconds(30),
    "make a socket": lambda: socket.socket(),
    "connect": lambda: connected.connect("/tmp/nothing"),
    "bind": lambda: connected.bind("/tmp/nothing"),
    "listen": lambda: connected.listen(),
    "open a file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "create a file": lambda: os.open("/tmp/qwen-sandbox-test", os.O_CREAT | os.O_WRONLY),
    "list a folder": lambda: os.listdir("/"),
    "remove a file": lambda: os.unlink("/tmp/nothing"),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "signal the parent": lambda: os.kill(parent, 0),
    "trace": call_ptrace,
    "limit another process": lambda: resource.prlimit(parent, resource.RLIMIT_CPU),
}
outcomes = {}
for name, attempt in attempts.items():
    try:
        attempt()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = error.errno
try:
    threading.Thread(target=int).start()
    outcomes["start a thread"] = "done"
except RuntimeError:
    outcomes["start a thread"] = 1
outcomes["is_filtered"] = is_filtered
print(json.dumps(outcomes), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-c", _ATTEMPTS], stdout=subprocess.PIPE, check=True, timeout=60
    )
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.parametrize(
    "attempt",
    [
        "read an open file",
        "seek in an open file",
        "send on an open socket",
        "take memory",
        "move the own CPU limit",
    ],
)
def test_what_a_decoder_needs_is_allowed(outcomes: dict[str, Any], attempt: str) -> None:
    assert outcomes[attempt] == "done"


@pytest.mark.parametrize(
    "attempt",
    [
        "make a socket",
        "connect",
        "bind",
        "listen",
        "open a file",
        "create a file",
        "list a folder",
        "remove a file",
        "run a program",
        "fork",
        "start a thread",
        "signal the parent",
        "trace",
        "limit another process",
    ],
)
def test_what_an_intruder_would_try_is_refused(outcomes: dict[str, Any], attempt: str) -> None:
    assert outcomes[attempt] == 1  # EPERM


def test_the_filter_reports_that_it_is_in_force(outcomes: dict[str, Any]) -> None:
    assert outcomes["is_filtered"] is True


def test_the_filter_says_no_to_a_foreign_architecture_first() -> None:
    for machine in sandbox._MACHINES.values():
        program = sandbox._filter_program(*machine)
        assert program[1][3] == machine[0]
        assert program[2] == program[-2]


def test_the_two_machines_allow_the_same_calls_but_for_one_name() -> None:
    x86_64, aarch64 = (sandbox._MACHINES[name][1] for name in ("x86_64", "aarch64"))

    assert set(x86_64) ^ set(aarch64) == {"poll", "ppoll"}
    assert len(set(aarch64.values())) == len(aarch64)
