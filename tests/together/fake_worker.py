"""A real supervisor that starts fake engines: `python -m tests.together.fake_worker`."""

import os
import sys

from protocol.sockets import link_addresses
from worker.launch import engine_environment
from worker.parent_death import adopt_orphans
from worker.settings import read_worker_settings
from worker.start import link_keys
from worker.supervision import Timing
from worker.supervisor import Conduct, Post, Supervisor

COMMAND = (sys.executable, "-m", "tests.together.fake_engine")


def main() -> int:
    """Runs until told to end."""
    settings = read_worker_settings(os.environ)
    adopt_orphans()
    address = link_addresses(settings.worker_link, settings.data_dir).control
    supervisor = Supervisor(
        Post(settings.worker_id, settings.model_id, address, link_keys(settings)),
        engine_environment(settings, os.environ),
        with_parent=True,
        conduct=Conduct(command=COMMAND, timing=Timing(step=600.0)),
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
