"""`python -m worker`: the supervisor of this machine's engine process."""

import os
import sys

USAGE = """\
usage: python -m worker [--with-parent]

Runs the supervisor: it connects to the gateway, and starts and ends the engine process as the
gateway asks. Settings are environment variables, listed in docs/configuration.md.

  --with-parent   end, engine included, as soon as standard input does
  --help          print this

Exit status: 0 asked to end, 2 bad usage, 3 another worker has this WORKER_ID, 4 the gateway speaks
another version of the protocol, 78 bad settings.
"""
PARENT_OPTION = "--with-parent"


def main(arguments: list[str]) -> int:
    """Returns only where there is nothing to supervise."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(USAGE)
        return 0
    if any(argument != PARENT_OPTION for argument in arguments):
        sys.stderr.write(USAGE)
        return 2

    from protocol.environment import BadSettings
    from protocol.sockets import LinkError
    from worker.launch import engine_environment
    from worker.settings import read_worker_settings
    from worker.start import become_supervisor, orders_of

    try:
        settings = read_worker_settings(os.environ)
        orders = orders_of(settings, with_parent=PARENT_OPTION in arguments)
    except (BadSettings, LinkError) as error:
        sys.stderr.write(f"The worker cannot start:\n{error}\n")
        return os.EX_CONFIG
    _open_standard_descriptors()
    become_supervisor(orders, engine_environment(settings, os.environ))


def _open_standard_descriptors() -> None:
    """Whoever started us may have closed some, and the next pipe must not land on one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
