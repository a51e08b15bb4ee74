"""What a dialect reads its session from: one WebSocket handshake."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, QueryParams

from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.live.realtime_session import SessionConfig


@dataclass(frozen=True, slots=True)
class Handshake:
    """A client that asks for a session, before anything is answered."""

    session_id: str
    """The session's, in OpenAI's form."""
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
    client_session: "SessionConfig | None" = None
    """What the client secret says that was presented as a key."""
