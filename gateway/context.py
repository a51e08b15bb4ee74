"""What the routes of one gateway share."""

import time
from dataclasses import dataclass, field

from gateway.outbound.client import Outbound
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.worker_client.interface import WorkerClient

EMBEDDED_MODEL = "embedded"


@dataclass
class Gateway:
    """Made once at start; only `is_draining` changes."""

    settings: Settings
    worker_client: WorkerClient
    spool: Spool
    started_at: int = field(default_factory=lambda: int(time.time()))
    """Unix time."""
    outbound: Outbound = field(default_factory=Outbound)
    """The way to other servers; whoever made the gateway closes it."""
    is_draining: bool = False
    """Set when the server is told to stop: work in flight goes on, new work is refused."""

    @property
    def model_note(self) -> str | None:
        """What callers must know about the served model, where there is something."""
        if self.settings.model_id != EMBEDDED_MODEL:
            return None
        return (
            "The small embedded model, for trying the server out: it hears spoken English digits "
            "in any speech, and nothing else."
        )
