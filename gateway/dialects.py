"""Which path speaks which dialect; its module is imported with its first client.

Each has `open_dialect(handshake: Handshake) -> Dialect`, which raises ApiError where it refuses
(gateway/live/handshake.py, gateway/live/events.py).
"""

from collections.abc import Mapping

DIALECTS: Mapping[str, str] = {
    "/v1/realtime": "gateway.live.realtime",
    "/realtime": "gateway.live.realtime",
    "/ws/transcribe": "gateway.live.predecessor",
}
"""Module by path."""
SECRET_PATHS = ("/v1/realtime", "/realtime")
"""Those that client secrets open."""
