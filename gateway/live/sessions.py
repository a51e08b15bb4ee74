"""What all live sessions of one gateway share: room for audio."""

from gateway.live.room import Rooms
from gateway.settings import Settings


class LiveSessions:
    """Made with the first live session."""

    def __init__(self, settings: Settings) -> None:
        self.rooms = Rooms(
            each=settings.live_buffer_bytes,
            together=settings.live_buffers_bytes,
            most_sessions=settings.max_live_sessions,
        )
