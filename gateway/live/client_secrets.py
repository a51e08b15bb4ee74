"""Keys that open live sessions alone, for a while, with a configuration of their own.

A server mints them for a browser that must not have its API key. They are kept in memory as
digests, so they end with the process too.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gateway.auth import SECRET_PREFIX
from gateway.errors import Unavailable
from gateway.live.realtime_session import SessionConfig

MAX_SECRETS = 1000
LEAST_SECONDS, MOST_SECONDS, DEFAULT_SECONDS = 10, 7200, 600


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What one stands for."""

    owner: str | None
    """Id of the API key it was made with; None on an open server."""
    session: SessionConfig
    expires: float
    """By the clock of ClientSecrets."""


class ClientSecrets:
    """All that are valid. `clock`: seconds that only grow, such as those of the event loop."""

    def __init__(self, clock: Callable[[], float], *, most: int = MAX_SECRETS) -> None:
        self._clock = clock
        self._most = most
        self._secrets: dict[bytes, ClientSecret] = {}

    def __repr__(self) -> str:
        return f"<ClientSecrets {len(self._secrets)}/{self._most}>"

    def create(self, owner: str | None, session: SessionConfig, seconds: float) -> str:
        """A new one, valid so long and as often as it is used. Raises Unavailable where there are
        too many."""
        self._forget_expired()
        if len(self._secrets) >= self._most:
            message = f"{self._most} client secrets are valid. Try again when some have expired."
            raise Unavailable(message, code="queue_full")
        value = SECRET_PREFIX + secrets.token_urlsafe(32)
        self._secrets[_digest(value)] = ClientSecret(owner, session, self._clock() + seconds)
        return value

    def find(self, presented: str | None) -> ClientSecret | None:
        """What this one stands for; None where it is none, or not valid any more."""
        if presented is None or not presented.startswith(SECRET_PREFIX):
            return None
        # Looked up by its digest, whose timing tells nothing about the secret.
        found = self._secrets.get(_digest(presented))
        return found if found is not None and self._clock() < found.expires else None

    def _forget_expired(self) -> None:
        now = self._clock()
        self._secrets = {
            digest: secret for digest, secret in self._secrets.items() if now < secret.expires
        }


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()
