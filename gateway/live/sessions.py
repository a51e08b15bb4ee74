"""What all live sessions of one gateway share: room for audio, and what is counted."""

from dataclasses import dataclass

from gateway.live.room import Rooms
from gateway.live.session import LiveSession
from gateway.settings import Settings


@dataclass
class LiveCounts:
    """Of sessions that have ended, since the start."""

    sessions: int = 0
    utterances: int = 0
    contradictions: int = 0
    """Items of which something was told that turned out wrong."""
    partials_dropped: int = 0
    """Messages that clients were too slow for."""

    def session_ended(self, session: LiveSession, *, partials_dropped: int) -> None:
        """Count one."""
        self.sessions += 1
        self.utterances += session.utterances
        self.contradictions += session.contradictions
        self.partials_dropped += partials_dropped


class LiveSessions:
    """Made with the first live session."""

    def __init__(self, settings: Settings) -> None:
        self.counts = LiveCounts()
        self.rooms = Rooms(
            each=settings.live_buffer_bytes,
            together=settings.live_buffers_bytes,
            most_sessions=settings.max_live_sessions,
        )
