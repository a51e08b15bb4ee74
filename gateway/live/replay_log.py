"""What a session received and no engine has acknowledged: audio, and the commands in between.

A cursor walks over it towards the engine that holds the session, and goes back to the beginning for
the next one. Positions are frames from the session's first byte.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.live.held_audio import HeldAudio
from protocol.limits import LIVE_PACKET_BYTES
from protocol.live import LiveOptions, StreamFormat


@dataclass(frozen=True, slots=True)
class CommitHere:
    """The client ended a turn."""

    serial: int
    """Counted from 0."""


@dataclass(frozen=True, slots=True)
class ClearHere:
    """The client took back what was not committed."""


@dataclass(frozen=True, slots=True)
class ConfigureHere:
    """The client changed the options."""

    options: LiveOptions


Command = CommitHere | ClearHere | ConfigureHere


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio that comes next: whole frames."""

    start: int
    content: bytes


class ReplayLog:
    """One session's. The format may change until the first audio; close it in the end."""

    def __init__(
        self, format: StreamFormat, options: LiveOptions, new_path: Callable[[], Path]
    ) -> None:
        self.format = format
        self.options = options
        """Those that hold at `start`."""
        self._audio = HeldAudio(new_path)
        self._commands: deque[tuple[int, Command]] = deque()
        """With the frame before which they came."""
        self._position = 0
        """Of the cursor, in frames."""
        self._passed = 0
        """Commands of _commands that the cursor is behind."""
        self._answered = 0
        """Commits below this serial are answered."""

    def __repr__(self) -> str:
        return f"<ReplayLog {self.start}-{self.end}, {len(self._commands)} commands>"

    @property
    def start(self) -> int:
        """First frame that is kept."""
        return self._audio.start // self.format.frame_bytes

    @property
    def end(self) -> int:
        """Frames received, of whole ones."""
        return self._audio.end // self.format.frame_bytes

    @property
    def position(self) -> int:
        """First frame the cursor has not passed."""
        return self._position

    @property
    def is_passed(self) -> bool:
        """Whether the cursor is behind everything."""
        return self._position == self.end and self._passed == len(self._commands)

    @property
    def has_commands_ahead(self) -> bool:
        """Whether one stands before the cursor."""
        return self._passed < len(self._commands)

    @property
    def kept_bytes(self) -> int:
        """Of audio."""
        return self._audio.end - self._audio.start

    @property
    def has_audio(self) -> bool:
        """Whether any byte was ever received: the format stands from then on."""
        return self._audio.end > 0

    @property
    def kept_commits(self) -> list[int]:
        """Serials of the commits that the next engine will get."""
        return [command.serial for _, command in self._commands if isinstance(command, CommitHere)]

    def add_audio(self, content: bytes) -> None:
        """Keep what was received, in whatever pieces. Raises OSError where the disk is full."""
        self._audio.append(content)

    def add(self, command: Command) -> None:
        """Keep a command that came behind all audio so far."""
        self._commands.append((self.end, command))

    def next(self, until: int) -> Stretch | Command | None:
        """What comes next behind the cursor, with audio before the frame `until` only; None where
        there is nothing. At most LIVE_PACKET_BYTES, and never over a command."""
        stop = min(until, self.end)
        if self.has_commands_ahead:
            frame, command = self._commands[self._passed]
            if frame <= self._position:
                return command
            stop = min(stop, frame)
        size = self.format.frame_bytes
        frames = min(stop - self._position, LIVE_PACKET_BYTES // size)
        if frames <= 0:
            return None
        return Stretch(self._position, self._audio.read(self._position * size, frames * size))

    def advance(self, passed: Stretch | Command) -> None:
        """The engine got what `next` gave."""
        if isinstance(passed, Stretch):
            self._position += len(passed.content) // self.format.frame_bytes
        else:
            self._passed += 1

    def rewind(self) -> None:
        """From the beginning again, for another engine."""
        self._position, self._passed = self.start, 0

    def acknowledge(self, frame: int) -> None:
        """Nothing before this frame will be needed again; what was not sent yet is kept."""
        frame = min(frame, self._position)
        if frame > self.start:
            self._audio.drop_before(frame * self.format.frame_bytes)
            self._forget_commands()

    def commits_answered(self, serial: int) -> None:
        """All commits below this serial are answered."""
        self._answered = max(self._answered, serial)
        self._forget_commands()

    def close(self) -> None:
        """Free memory and disk."""
        self._audio.close()
        self._commands.clear()
        self._passed = 0

    def _forget_commands(self) -> None:
        """Those before `start` from the front, up to a commit that nobody has answered. What stands
        at `start` itself may not have been seen by the engine that acknowledged it."""
        while self._commands and self._passed:
            frame, command = self._commands[0]
            is_open = isinstance(command, CommitHere) and command.serial >= self._answered
            if frame >= self.start or is_open:
                return
            if isinstance(command, ConfigureHere):
                self.options = command.options
            self._commands.popleft()
            self._passed -= 1
