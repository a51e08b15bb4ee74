"""A scripted engine process: what a supervisor sees of a real one, without a model.

The script is the environment variable FAKE_ENGINE, words separated by spaces: `wait` for ever
while loading; `ready`; `beat` for ever; `busy` for ever without a step; `fail` with a message;
`crash`; `exit`; `child` that ignores SIGTERM; `deaf` to SIGTERM; `print`; `garbage` on the status
pipe. With FAKE_ENGINE_ONCE naming a file, the script is used by the first process only, and later
ones are ready and beat.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from worker.engine_status import StatusWriter, SupervisorGone
from worker.launch import parse_launch
from worker.parent_death import die_with_parent

BEAT_INTERVAL = 0.05
HEALTHY = "ready beat"


def main() -> None:
    launch = parse_launch(sys.argv[1:])
    die_with_parent(launch.supervisor_pid)
    status = StatusWriter(launch.status_descriptor)
    status.loading("imports")
    for word in _script().split():
        _obey(word, status, launch.status_descriptor)


def _script() -> str:
    script = os.environ.get("FAKE_ENGINE", HEALTHY)
    once = os.environ.get("FAKE_ENGINE_ONCE")
    if once is None:
        return script
    try:
        Path(once).touch(exist_ok=False)
    except FileExistsError:
        return HEALTHY
    return script


def _obey(word: str, status: StatusWriter, descriptor: int) -> None:
    match word:
        case "wait":
            while True:
                signal.pause()
        case "ready":
            status.ready()
        case "beat":
            _beat(status, busy=False)
        case "busy":
            _beat(status, busy=True)
        case "fail":
            status.failed("the model folder is empty")
            sys.exit(5)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            sys.exit(7)
        case "child":
            _leave_child()
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "print":
            sys.stderr.write("a line of the engine\n")
        case "garbage":
            os.write(descriptor, b"\xc1")
        case _:
            raise ValueError(word)


def _beat(status: StatusWriter, *, busy: bool) -> None:
    """Also ends when nobody listens, as the real one does."""
    try:
        while True:
            status.beat(0, busy)
            signal.sigtimedwait([signal.SIGUSR1], BEAT_INTERVAL)
    except SupervisorGone:
        sys.exit(0)


def _leave_child() -> None:
    """A child in our process group, deaf to SIGTERM, as a decoder in the middle of a file is."""
    command = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", command])
    sys.stderr.write(f"child {child.pid}\n")
    sys.stderr.flush()
    child.returncode = 0  # nobody here will wait for it: that is the point


if __name__ == "__main__":
    main()
