"""`python -m worker`: the supervisor of this machine's engine process."""

import os
import sys
from typing import NoReturn

from worker.light_imports import import_lightly

USAGE = """\
usage: python -m worker [--with-parent]

Runs the supervisor: it connects to the gateway, and starts and ends the engine process as the
gateway asks. Settings are environment variables, listed in docs/configuration.md.

  --with-parent   end, engine included, as soon as standard input does
  --help          print this
"""
PARENT_OPTION = "--with-parent"
ADOPTED_OPTION = "--adopted"
"""Given by this program to itself: orphans are adopted already."""


def main(arguments: list[str]) -> int:
    """Exit status: 0 asked to end, 1 bad settings, 2 bad usage, 3 worker id taken, 4 the gateway
    speaks another version of the protocol."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(USAGE)
        return 0
    if any(argument not in (PARENT_OPTION, ADOPTED_OPTION) for argument in arguments):
        sys.stderr.write(USAGE)
        return 2
    if os.getpid() != 1 and ADOPTED_OPTION not in arguments:
        _adopt_and_start_again()
    import_lightly()
    return _supervise(with_parent=PARENT_OPTION in arguments)


def _adopt_and_start_again() -> NoReturn:
    """Adoption outlives exec, and ctypes, which it takes 0.4 MB of, does not."""
    from worker.parent_death import adopt_orphans

    adopt_orphans()
    os.execv(sys.executable, [*sys.orig_argv, ADOPTED_OPTION])


def _supervise(*, with_parent: bool) -> int:
    from setproctitle import setproctitle

    from protocol.environment import BadSettings
    from protocol.sockets import LinkError
    from worker.logs import configure_logging
    from worker.settings import read_worker_settings
    from worker.start import supervisor_of

    setproctitle("qwen3-asr: supervisor")
    try:
        settings = read_worker_settings(os.environ)
        configure_logging(settings.log_level)
        supervisor = supervisor_of(settings, os.environ, with_parent=with_parent)
    except (BadSettings, LinkError) as error:
        sys.stderr.write(f"The worker cannot start:\n{error}\n")
        return 1
    return supervisor.run()


def _open_standard_descriptors() -> None:
    """Whoever started us may have closed some, and the next pipe must not land on one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    _open_standard_descriptors()
    sys.exit(main(sys.argv[1:]))
