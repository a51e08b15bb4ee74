"""From settings to a running supervisor, in two programs that share one process.

`python -m worker` reads and checks settings, then becomes `python -m worker.watch` by exec: what
settings, paths and the adoption of orphans took of memory is gone with the first program.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from worker.value import Value

if TYPE_CHECKING:
    from protocol.sockets import CurveKeys
    from worker.settings import WorkerSettings


class Orders(Value):
    """What the second program is told on its command line; its environment is the engine's."""

    worker_id: str
    model_id: str
    control_address: str
    keys_folder: str
    """Empty for an ipc link."""
    log_level: str
    load_stall: float
    step: float
    with_parent: bool

    def arguments(self) -> list[str]:
        """For parse_orders."""
        return [
            self.worker_id,
            self.model_id,
            self.control_address,
            self.keys_folder,
            self.log_level,
            str(self.load_stall),
            str(self.step),
            "1" if self.with_parent else "",
        ]


def parse_orders(arguments: Sequence[str]) -> Orders:
    """The orders behind sys.argv[1:]; raises ValueError where a person typed something else."""
    if len(arguments) != len(Orders.__match_args__):
        raise ValueError("this program is started by another: run qwen3-asr worker")
    worker_id, model_id, address, keys_folder, log_level, load_stall, step, parent = arguments
    return Orders(
        worker_id,
        model_id,
        address,
        keys_folder,
        log_level,
        float(load_stall),
        float(step),
        bool(parent),
    )


def orders_of(settings: "WorkerSettings", *, with_parent: bool) -> Orders:
    """Raises LinkError where the link or its keys cannot be used."""
    from protocol.sockets import link_addresses

    has_keys = link_keys(settings) is not None
    return Orders(
        worker_id=settings.worker_id,
        model_id=settings.model_id,
        control_address=link_addresses(settings.worker_link, settings.data_dir).control,
        keys_folder=str(settings.worker_link_keys) if has_keys else "",
        log_level=settings.log_level,
        load_stall=settings.engine_load_stall_timeout,
        step=settings.engine_step_timeout,
        with_parent=with_parent,
    )


def link_keys(settings: "WorkerSettings") -> "CurveKeys | None":
    """This worker's keys for a tcp link; None for ipc. Raises LinkError."""
    from protocol.keys import load_worker_keys
    from protocol.sockets import LinkError

    if settings.worker_link == "ipc":
        return None
    if settings.worker_link_keys is None:
        raise LinkError("WORKER_LINK_KEYS must name the folder with this worker's keys")
    return load_worker_keys(settings.worker_link_keys)


def become_supervisor(orders: Orders, engine_environment: Mapping[str, str]) -> NoReturn:
    """Adopt the orphans of engines to come, which outlives exec, and start the second program."""
    from worker.parent_death import adopt_orphans

    if os.getpid() != 1:
        adopt_orphans()
    flags = sys.orig_argv[1 : -len(sys.argv) - 1] if "-m" in sys.orig_argv else []
    command = [sys.executable, *flags, "-m", "worker.watch", *orders.arguments()]
    os.execve(sys.executable, command, dict(engine_environment))
