"""What the routes of one gateway share."""

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from gateway.outbound.client import Outbound
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.worker_client.interface import WorkerClient

if TYPE_CHECKING:
    from gateway.live.call_events import Calls
    from gateway.live.client_secrets import ClientSecrets
    from gateway.live.sessions import LiveSessions

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

    @cached_property
    def live(self) -> "LiveSessions":
        """What live sessions share; loaded with the first."""
        from gateway.live.sessions import LiveSessions

        return LiveSessions(self.settings)

    @cached_property
    def call_events(self) -> "Calls":
        """Who is told what live sessions hear; loaded with the first."""
        from gateway.live.call_events import Calls

        loop = asyncio.get_running_loop()
        return Calls(
            keep_seconds=self.settings.live_history_seconds,
            clock=loop.time,
            call_at=loop.call_at,
            is_draining=lambda: self.is_draining,
        )

    @cached_property
    def client_secrets(self) -> "ClientSecrets":
        """Keys for live sessions alone; loaded with the first of them, or the first session."""
        from gateway.live.client_secrets import ClientSecrets

        return ClientSecrets(asyncio.get_running_loop().time)

    def owner_of_secret(self, presented: str) -> str | None:
        """Id of the API key that a valid client secret was made with."""
        secret = self.client_secrets.find(presented)
        return None if secret is None else secret.owner

    @property
    def model_note(self) -> str | None:
        """What callers must know about the served model, where there is something."""
        if self.settings.model_id != EMBEDDED_MODEL:
            return None
        return (
            "The small embedded model, for trying the server out: it hears spoken English digits "
            "in any speech, and nothing else."
        )
