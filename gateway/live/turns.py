"""Turns an engine's utterances into the items a client knows. Pure: frames in, events out.

Utterances are counted anew by every engine, items are not: what a new engine hears again is found
by its order in its channel, and what was answered already is dropped. A commit is answered by each
channel, in order, so its place among the commits says what an utterance belongs to.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterable

from gateway.live.bookkeeping import Channel, ClientCommit, Utterance
from gateway.live.events import (
    LEAST_COMMIT_MS,
    AudioCleared,
    CommitRefused,
    SessionEvent,
)
from gateway.live.items import Item, milliseconds
from gateway.live.telling import Telling
from protocol.failures import FailureCode
from protocol.live import (
    EndReason,
    Hypothesis,
    LiveEvent,
    SpeechStarted,
    StreamFormat,
    UtteranceDone,
    UtteranceEnded,
    UtteranceFailed,
)


def new_item_id() -> str:
    """Unique, in OpenAI's form."""
    return f"item_{secrets.token_hex(12)}"


class Turns:
    """The items of one session."""

    def __init__(
        self, format: StreamFormat, *, is_manual: bool, new_id: Callable[[], str] = new_item_id
    ) -> None:
        self.format = format
        self.is_manual = is_manual
        """Whether the client alone ends turns, from the next one on."""
        self.answered_commits = 0
        """All of a lower serial are answered in every channel."""
        self.utterances = 0
        """Answered."""
        self._new_id = new_id
        self._channels = [Channel() for _ in range(format.channels)]
        self._utterances: dict[int, Utterance] = {}
        self._commits: dict[int, ClientCommit] = {}
        self._issued = 0
        self._buffered_from = 0
        """Frame behind the last turn that ended, by whomever."""
        self._telling = Telling(format)
        self._slack = format.sample_rate // 10
        """Frames by which two engines may hear the same edge of speech differently."""
        self._done_manual: set[int] = set()
        """Serials of answered commits that ended turns of the client's own."""

    def __repr__(self) -> str:
        return f"<Turns {len(list(self._open_items()))} open, {self._issued} commits>"

    @property
    def contradictions(self) -> int:
        """Items of which something was told that turned out wrong."""
        return self._telling.contradictions

    # --- the client -------------------------------------------------------------------------

    def commit(self, end: int, *, even_if_empty: bool) -> tuple[int | None, list[SessionEvent]]:
        """The client ends a turn behind frame `end`. The serial of a commit that the engine must be
        told of, None where it need not, and what the client learns at once."""
        buffered = end - self._buffered_from
        is_speaking = any(
            item.is_started and not (item.is_committed or item.has_commit_behind)
            for item in self._open_items()
        )
        buffered_ms = milliseconds(max(buffered, 0), self.format)
        if buffered_ms < LEAST_COMMIT_MS and not is_speaking and not even_if_empty:
            return None, [CommitRefused(buffered_ms)]
        if buffered <= 0 and not self._commits and not any(self._open_items()):
            return None, self._commit_nothing(end)
        serial, self._issued = self._issued, self._issued + 1
        commit = self._commits[serial] = ClientCommit(self.is_manual)
        self._buffered_from = end
        events: list[SessionEvent] = []
        for number, channel in enumerate(self._channels):
            channel.commits.append(serial)
            if self.is_manual:
                item, channel.manual = channel.manual, None
                commit.items[number] = item or self._new_item(number, is_manual=True)
                events += self._telling.committed(commit.items[number], by_client=True)
            else:  # which turn it ends only the engine knows: there may be others before it
                for item in channel.items:
                    item.has_commit_behind = True
        return serial, events

    def clear(self, end: int) -> list[SessionEvent]:
        """The client takes back what is not committed; its items are never spoken of again."""
        for channel in self._channels:
            channel.cleared = (end, self._issued)
            channel.manual = None
            for item in list(channel.items):
                if not (item.is_committed or item.has_commit_behind):
                    channel.items.remove(item)
                    item.is_done = True
        self._buffered_from = end
        return [AudioCleared()]

    # --- the engine -------------------------------------------------------------------------

    def begin_attempt(self, start: int, commits: Iterable[int]) -> None:
        """Another engine hears everything from frame `start` on, and gets these commits."""
        kept = list(commits)
        self._done_manual.intersection_update(kept)
        self._utterances.clear()
        for item in self._open_items():
            item.begin_attempt()
        for commit in self._commits.values():
            commit.quiet.clear()
            commit.ended.clear()
        for number, channel in enumerate(self._channels):
            channel.commits = deque(kept)
            channel.settled, channel.position = self._settled(number), start

    def heard(self, event: LiveEvent) -> list[SessionEvent]:
        """What the client learns from what this attempt's engine says."""
        told: list[SessionEvent] = []
        if isinstance(event, SpeechStarted):
            told = self._begin(event.utterance, event.channel, event.start, is_spoken=True)
        elif isinstance(event, UtteranceEnded):
            told = self._end(event)
        elif isinstance(event, Hypothesis):
            told = self._grow(event)
        elif isinstance(event, UtteranceDone | UtteranceFailed):
            told = self._answer(event)
        return told

    def acknowledged(self, frame: int) -> list[SessionEvent]:
        """The engine needs nothing before this frame: what it did not hear again of turns before
        it, it will not."""
        lost = [
            item
            for channel in self._channels
            for item in channel.items
            if not item.is_known and self._latest_end(item) < frame
        ]
        return [event for item in lost for event in self._give_up(item)]

    def close(self) -> list[SessionEvent]:
        """The engine has answered everything."""
        return [event for item in list(self._open_items()) for event in self._give_up(item)]

    def fail(self, code: FailureCode, message: str) -> list[SessionEvent]:
        """No engine will answer any more: items that were committed fail."""
        failed: list[SessionEvent] = [
            item.failed(code, message) for item in self._open_items() if item.is_committed
        ]
        self._forget_everything()
        return failed

    @property
    def settled(self) -> tuple[int, ...]:
        """For each channel, the frame up to which everything was answered when this attempt began:
        of what lies before, its engine need not speak again."""
        return tuple(channel.settled for channel in self._channels)

    # --- utterances -------------------------------------------------------------------------

    def _begin(
        self, number: int, channel_number: int, start: int, *, is_spoken: bool
    ) -> list[SessionEvent]:
        if number in self._utterances or channel_number >= len(self._channels):
            return []
        channel = self._channels[channel_number]
        self._forget_open(channel_number)
        utterance = Utterance(channel_number, start, is_spoken)
        self._utterances[number] = utterance
        cleared, commits_before = channel.cleared
        serial = channel.commits[0] if channel.commits else self._issued
        is_cleared = start < cleared - self._slack and serial >= commits_before
        if is_cleared or serial in self._done_manual:
            utterance.is_dropped = True
        elif start < channel.settled - self._slack:
            utterance.is_held = True
        elif is_spoken or self._is_manual(channel):
            return self._attach(utterance)
        return []

    def _settled(self, number: int) -> int:
        """An earlier utterance may be answered after a later one."""
        unanswered = [
            item.parts[-1].end if item.parts else item.start
            for item in self._open_items()
            if item.channel == number and item.start is not None
        ]
        return min([self._channels[number].answered_until, *unanswered])

    def _forget_open(self, channel: int) -> None:
        """One that is open when the next of its channel begins was cleared in the engine."""
        for number, utterance in tuple(self._utterances.items()):
            if utterance.channel == channel and not utterance.is_ended:
                del self._utterances[number]
                if utterance.item is not None:
                    utterance.item.open_utterances -= 1

    def _is_manual(self, channel: Channel) -> bool:
        """Whether the client ends what the engine speaks of now."""
        if channel.commits and (commit := self._commits.get(channel.commits[0])) is not None:
            return commit.is_manual
        return self.is_manual

    def _attach(self, utterance: Utterance) -> list[SessionEvent]:
        channel = self._channels[utterance.channel]
        if self._is_manual(channel):
            self._join(utterance, self._manual_item(utterance.channel))
            return []
        told: list[SessionEvent] = []
        if channel.manual is not None:  # the client has left turns to us meanwhile
            told += self._finish_manual(channel)
        for item in list(channel.items):
            if item.is_known:
                continue
            if item.end is None or utterance.start < item.end:
                self._join(utterance, item)
                return told
            told += self._give_up(item)
        item = self._new_item(utterance.channel, is_manual=False)
        channel.items.append(item)
        self._join(utterance, item)
        return told + self._telling.started(item)

    def _join(self, utterance: Utterance, item: Item) -> None:
        utterance.is_dropped = item.is_done
        if item.is_done:
            return
        utterance.item, utterance.is_held = item, False
        item.is_known = True
        item.open_utterances += 1
        if item.start is None:
            item.start = utterance.start

    def _manual_item(self, number: int) -> Item:
        channel = self._channels[number]
        if channel.commits and (commit := self._commits.get(channel.commits[0])) is not None:
            return commit.items[number]
        channel.manual = channel.manual or self._new_item(number, is_manual=True)
        return channel.manual

    def _grow(self, event: Hypothesis) -> list[SessionEvent]:
        if event.utterance not in self._utterances and event.channel < len(self._channels):
            channel = self._channels[event.channel]
            if not self._is_manual(channel) or event.covers <= channel.cleared[0]:
                return []
            start = max(channel.position, channel.cleared[0])
            self._begin(event.utterance, event.channel, start, is_spoken=False)
        utterance = self._utterances.get(event.utterance)
        if utterance is None or utterance.item is None or utterance.is_dropped:
            return []
        if any(
            other.item is utterance.item and number < event.utterance
            for number, other in self._utterances.items()
        ):
            return []  # until the part before it is answered
        return [*self._telling.grown(utterance.item, event)]

    def _end(self, event: UtteranceEnded) -> list[SessionEvent]:
        told: list[SessionEvent] = []
        if event.utterance not in self._utterances:
            told += self._begin(event.utterance, event.channel, event.start, is_spoken=False)
        utterance = self._utterances.get(event.utterance)
        if utterance is None:
            return told
        utterance.is_ended = True
        if utterance.item is not None and utterance.item.is_done:
            utterance.item, utterance.is_dropped = None, True  # cleared meanwhile
        channel = self._channels[utterance.channel]
        is_commit = event.reason is EndReason.COMMIT and bool(channel.commits)
        if utterance.is_held:
            told += self._decide_held(utterance, event, is_commit=is_commit)
        if is_commit:
            utterance.commit = channel.commits.popleft()
            told += self._end_by_commit(utterance)
        elif event.reason is not EndReason.CLOSE and utterance.is_nobodys:
            told += self._attach(utterance)
        if (item := utterance.item) is not None:
            item.end = max(event.end, item.end or 0)
            told += self._told_ended(channel, item, event.reason)
        channel.position = max(channel.position, event.end)
        self._buffered_from = max(self._buffered_from, event.end)
        return told

    def _decide_held(
        self, utterance: Utterance, event: UtteranceEnded, *, is_commit: bool
    ) -> list[SessionEvent]:
        """Most of it answered already: then it is dropped, else it is told like any other."""
        utterance.is_held = False
        answered = min(event.end, self._channels[utterance.channel].settled) - event.start
        if 2 * answered >= event.end - event.start and not is_commit:
            utterance.is_dropped = True
        elif utterance.is_spoken and not utterance.is_dropped:
            return self._attach(utterance)
        return []

    def _end_by_commit(self, utterance: Utterance) -> list[SessionEvent]:
        """The engine has come to a commit: its item is this utterance's."""
        assert utterance.commit is not None
        commit, number = self._commits.get(utterance.commit), utterance.channel
        if commit is None:
            utterance.is_dropped = utterance.item is None
            return self._commit_item(utterance.item)
        commit.ended.add(number)
        known = commit.items.get(number)
        if utterance.item is not None:
            commit.items.setdefault(number, utterance.item)
        elif known is not None:
            self._join(utterance, known)
        else:
            commit.quiet[number] = utterance
        if known is not None:
            known.is_ended = True
        told = self._commit_item(utterance.item)
        if len(commit.ended) == len(self._channels) and not commit.items and commit.quiet:
            told += self._commit_quiet(commit, number)  # the others may be answered already
        return told

    def _commit_quiet(self, commit: ClientCommit, number: int) -> list[SessionEvent]:
        """Nobody spoke where the client commits: one channel has an item all the same."""
        utterance = commit.quiet.pop(number)
        item = self._new_item(number, is_manual=False)
        commit.items[number] = item
        self._channels[number].items.append(item)
        self._join(utterance, item)
        item.is_ended = True
        return self._commit_item(item)

    def _commit_item(self, item: Item | None) -> list[SessionEvent]:
        return [] if item is None else self._telling.committed(item, by_client=True)

    def _told_ended(self, channel: Channel, item: Item, reason: EndReason) -> list[SessionEvent]:
        if item.is_manual:
            item.is_ended = item.is_ended or reason in (EndReason.SILENCE, EndReason.CLOSE)
            if item.is_ended and channel.manual is item:
                channel.manual = None
                channel.items.append(item)
            return []
        item.is_ended = True
        if item.is_committed or item.is_stopped:
            return []
        return [*self._telling.stopped(item), *self._telling.committed(item, by_client=False)]

    def _answer(self, event: UtteranceDone | UtteranceFailed) -> list[SessionEvent]:
        utterance = self._utterances.pop(event.utterance, None)
        if utterance is None:
            return []
        channel = self._channels[utterance.channel]
        self.utterances += not utterance.is_dropped
        if isinstance(event, UtteranceDone):
            channel.answered_until = max(channel.answered_until, event.end)
        told = self._answer_item(utterance, event)
        if utterance.commit is not None and utterance.commit in self._commits:
            self._note_answered(utterance.commit, utterance.channel)
        return told

    def _answer_item(
        self, utterance: Utterance, event: UtteranceDone | UtteranceFailed
    ) -> list[SessionEvent]:
        item = utterance.item
        if utterance.is_dropped or (item is not None and item.is_done):
            return []
        if item is None:
            if isinstance(event, UtteranceFailed) or not event.text.strip():
                return []
            item = self._new_item(utterance.channel, is_manual=False)
            self._join(utterance, item)
            item.is_ended = True
        item.open_utterances -= 1
        if isinstance(event, UtteranceFailed):
            item.failure = event
        else:
            item.parts.append(event)
            item.parts.sort(key=lambda part: part.start)
        return self._told_outcome(item) if item.is_complete else []

    def _note_answered(self, serial: int, channel: int) -> None:
        self._commits[serial].answered.add(channel)
        while (commit := self._commits.get(self.answered_commits)) is not None:
            if len(commit.answered) < len(self._channels):
                return
            if commit.is_manual:
                self._done_manual.add(self.answered_commits)
            del self._commits[self.answered_commits]
            self.answered_commits += 1

    # --- what is told -----------------------------------------------------------------------

    def _told_outcome(self, item: Item) -> list[SessionEvent]:
        channel = self._channels[item.channel]
        if item in channel.items:
            channel.items.remove(item)
        return self._telling.outcome(item)

    def _give_up(self, item: Item) -> list[SessionEvent]:
        """Nothing more will be heard of it: what was told of it is its text."""
        told: list[SessionEvent] = []
        if item.is_started and not (item.is_stopped or item.is_committed):
            told += self._telling.stopped(item)
        return told + self._told_outcome(item)

    def _finish_manual(self, channel: Channel) -> list[SessionEvent]:
        item, channel.manual = channel.manual, None
        assert item is not None
        item.is_ended = True
        if item.is_complete:
            return self._told_outcome(item)
        channel.items.append(item)
        return []

    def _commit_nothing(self, end: int) -> list[SessionEvent]:
        """Not a frame came since the last turn, and nothing is open: no engine is asked."""
        item = self._new_item(0, is_manual=True)
        item.start = item.end = end
        return [*self._telling.committed(item, by_client=True), *self._telling.outcome(item)]

    # --- helpers ----------------------------------------------------------------------------

    def _new_item(self, channel: int, *, is_manual: bool) -> Item:
        return Item(self._new_id(), channel, is_manual)

    def _open_items(self) -> Iterable[Item]:
        seen: set[int] = set()
        committed = [item for commit in self._commits.values() for item in commit.items.values()]
        waiting = [item for channel in self._channels for item in channel.items]
        manual = [channel.manual for channel in self._channels if channel.manual is not None]
        for item in (*committed, *waiting, *manual):
            if not item.is_done and id(item) not in seen:
                seen.add(id(item))
                yield item

    def _latest_end(self, item: Item) -> int:
        return item.end or (item.start or 0) + self.format.sample_rate

    def _forget_everything(self) -> None:
        self._commits.clear()
        self._utterances.clear()
        for channel in self._channels:
            channel.items.clear()
            channel.manual = None
