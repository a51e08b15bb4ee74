"""What is kept of utterances, commits and channels while turns are under way. Pure."""

from collections import deque
from dataclasses import dataclass, field

from gateway.live.items import Item


@dataclass(eq=False)
class Utterance:
    """What this attempt's engine calls by one number."""

    channel: int
    start: int
    is_spoken: bool
    """Whether somebody was heard to begin."""
    item: Item | None = None
    is_dropped: bool = False
    is_ended: bool = False
    is_held: bool = False
    """It may be one that was answered already: its end will tell."""
    commit: int | None = None
    """Serial of the commit that ended it."""

    @property
    def is_nobodys(self) -> bool:
        """Whether it still has to be told of, as an item of its own or another's part."""
        return self.item is None and not self.is_dropped


@dataclass(eq=False)
class Channel:
    """What is open in one channel."""

    items: list[Item] = field(default_factory=list)
    """Not answered, apart from turns that the client commits, in order."""
    manual: Item | None = None
    """The turn that the client will commit next."""
    commits: deque[int] = field(default_factory=deque)
    """Serials that this attempt's engine has still to answer with an end."""
    answered_until: int = 0
    """Frame where the last answered utterance ends."""
    settled: int = 0
    """Frame up to which everything was answered when this attempt began."""
    position: int = 0
    """Frame behind the last utterance that ended in this attempt."""
    cleared: tuple[int, int] = (0, 0)
    """Frame of the last clear, and how many commits there were before it."""


@dataclass(eq=False)
class ClientCommit:
    """A commit of the client."""

    is_manual: bool
    items: dict[int, Item] = field(default_factory=dict)
    """By channel."""
    quiet: dict[int, Utterance] = field(default_factory=dict)
    """Ended by it, without anybody having begun to speak."""
    ended: set[int] = field(default_factory=set)
    """Channels."""
    answered: set[int] = field(default_factory=set)
