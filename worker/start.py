"""Makes a supervisor from settings: where its gateway is, which keys it has, how it is timed."""

from collections.abc import Mapping

from protocol.keys import load_worker_keys
from protocol.sockets import CurveKeys, LinkError, link_addresses
from worker.launch import engine_environment
from worker.settings import WorkerSettings
from worker.supervision import Timing
from worker.supervisor import Conduct, Post, Supervisor


def supervisor_of(
    settings: WorkerSettings, environment: Mapping[str, str], *, with_parent: bool
) -> Supervisor:
    """Raises LinkError where the link or its keys cannot be used."""
    address = link_addresses(settings.worker_link, settings.data_dir).control
    post = Post(settings.worker_id, settings.model_id, address, link_keys(settings))
    timing = Timing(
        load_stall=settings.engine_load_stall_timeout, step=settings.engine_step_timeout
    )
    return Supervisor(
        post,
        engine_environment(settings, environment),
        with_parent=with_parent,
        conduct=Conduct(timing=timing),
    )


def link_keys(settings: WorkerSettings) -> CurveKeys | None:
    """This worker's keys for a tcp link; None for ipc. Raises LinkError."""
    if settings.worker_link == "ipc":
        return None
    if settings.worker_link_keys is None:
        raise LinkError("WORKER_LINK_KEYS must name the folder with this worker's keys")
    return load_worker_keys(settings.worker_link_keys)
