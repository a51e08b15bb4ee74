"""Runs a Supervisor on a scripted engine with the timings a test chose: JSON in argv[1]."""

import json
import os
import sys

from protocol.sockets import link_addresses
from worker.control_session import SessionTiming
from worker.logs import configure_logging
from worker.parent_death import adopt_orphans
from worker.settings import read_worker_settings
from worker.supervision import Timing
from worker.supervisor import Conduct, Post, Supervisor


def main() -> int:
    chosen = json.loads(sys.argv[1])
    settings = read_worker_settings(os.environ)
    configure_logging("debug")
    adopt_orphans()
    post = Post(
        settings.worker_id,
        settings.model_id,
        link_addresses(settings.worker_link, settings.data_dir).control,
    )
    conduct = Conduct(
        command=chosen.get("command", [sys.executable, "-m", "tests.fake_engine_process"]),
        timing=Timing(**chosen.get("timing", {})),
        session_timing=SessionTiming(**chosen.get("session", {})),
    )
    with_parent = chosen.get("with_parent", False)
    return Supervisor(post, os.environ, with_parent=with_parent, conduct=conduct).run()


if __name__ == "__main__":
    sys.exit(main())
