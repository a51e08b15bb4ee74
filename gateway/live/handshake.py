"""What a dialect reads its session from: one WebSocket handshake."""

from dataclasses import dataclass

from starlette.datastructures import Headers, QueryParams

from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Handshake:
    """A client that asks for a session, before anything is answered."""

    path: str
    query: QueryParams
    headers: Headers
    subprotocols: tuple[str, ...]
    """Those offered, in the client's order."""
    key: str | None
    """The API key or client secret presented, in whatever way; None where there was none."""
    owner: str | None
    """Id of the API key, on a server with keys."""
    served_model: str
    settings: Settings
