import os
import signal
import subprocess
import sys

from tests.worker.gateway_end import await_gone

PROGRAM = """
import os, signal, subprocess, sys
from worker.parent_death import adopt_orphans, die_with_parent

match sys.argv[1]:
    case "child":
        die_with_parent(int(sys.argv[2]))
        print(os.getpid(), flush=True)
        signal.pause()
    case "parent":
        child = subprocess.Popen([sys.executable, "-c", sys.argv[2], "child", str(os.getpid())])
        child.wait()
    case "adopter":
        adopt_orphans()
        orphan = "import os; os.fork() or os._exit(7)"
        subprocess.run([sys.executable, "-c", orphan], check=True)
        pid, status = os.waitpid(-1, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
"""


def run(role: str, argument: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PROGRAM, role, argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_a_child_dies_with_its_killed_parent() -> None:
    with run("parent", PROGRAM) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        parent.kill()

        await_gone(child)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    with run("child", "1") as child:  # a parent that this one does not have
        assert child.wait(20) == -signal.SIGKILL


def test_a_child_of_the_expected_parent_lives() -> None:
    with run("child", str(os.getpid())) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) == child.pid
        child.kill()


def test_an_adopter_reaps_the_orphans_of_its_children() -> None:
    with run("adopter", "") as adopter:
        assert adopter.stdout is not None
        assert adopter.stdout.read() == b"7\n"
