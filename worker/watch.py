"""The supervisor as a program of its own, started by `python -m worker`; see worker/start.py."""

import os
import sys

from worker.light_imports import import_lightly


def main() -> int:
    """Exit status as worker.__main__ says."""
    import_lightly()
    from setproctitle import setproctitle

    from worker.logs import configure_logging
    from worker.start import parse_orders
    from worker.supervision import Timing
    from worker.supervisor import Conduct, Post, Supervisor

    orders = parse_orders(sys.argv[1:])
    setproctitle("qwen3-asr: supervisor")
    configure_logging(orders.log_level)
    keys = None
    if orders.keys_folder:
        from pathlib import Path

        from protocol.keys import load_worker_keys

        keys = load_worker_keys(Path(orders.keys_folder))
    post = Post(orders.worker_id, orders.model_id, orders.control_address, keys)
    timing = Timing(load_stall=orders.load_stall, step=orders.step)
    supervisor = Supervisor(
        post, os.environ, with_parent=orders.with_parent, conduct=Conduct(timing=timing)
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
