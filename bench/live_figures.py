"""From what clients noted to delays. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.live_client import Log


@dataclass(slots=True)
class Figures:
    """Of one stream or several. Delays in seconds."""

    finals: list[float] = field(default_factory=list)
    """From sending the packet in which an endpoint was decided to the text of the utterance."""
    firsts: list[float] = field(default_factory=list)
    """From sending the packet in which an utterance begins to be loud to its first text."""
    partials: int = 0
    unanswered: int = 0
    """Utterances that ended and got no text."""
    late: int = 0
    packets: int = 0
    texts: list[str] = field(default_factory=list)
    """Of each stream."""

    @property
    def utterances(self) -> int:
        return len(self.finals) + self.unanswered

    @property
    def late_share(self) -> float:
        """Packets that the client sent too late: above a few percent the client is measured."""
        return self.late / self.packets


def together(several: Iterable[Figures]) -> Figures:
    """All of them as one."""
    whole = Figures()
    for one in several:
        whole.finals += one.finals
        whole.firsts += one.firsts
        whole.partials += one.partials
        whole.unanswered += one.unanswered
        whole.late += one.late
        whole.packets += one.packets
        whole.texts += one.texts
    return whole


def figures_of(log: Log, loud: Sequence[float]) -> Figures:
    """`loud` are the seconds of the stream at which somebody can be heard, ascending."""
    found = Figures(late=log.late, packets=len(log.sent))
    decided: dict[str, float] = {}
    onsets: dict[str, float] = {}
    texts = []
    for moment, message in log.received:
        item: str = message.get("item_id", "")
        if message.get("event") == "speech_started":
            onsets[item] = _sent_at(log, _first_from(loud, message["start_ms"] / 1000))
        elif message.get("event") == "speech_stopped":
            decided[item] = _sent_before(log, message["end_ms"] / 1000)
        elif message.get("is_partial"):
            found.partials += 1
            if (onset := onsets.pop(item, None)) is not None:
                found.firsts.append(moment - onset)
        elif message.get("is_final"):
            texts.append(message["text"])
            if (end := decided.pop(item, None)) is not None:
                found.finals.append(moment - end)
    found.unanswered = len(decided)
    found.texts = [" ".join(filter(None, texts))]
    return found


def _first_from(moments: Sequence[float], start: float) -> float:
    place = bisect_left(moments, start)
    return moments[place] if place < len(moments) else start


def _sent_at(log: Log, second: float) -> float:
    """When the packet was sent that holds this second."""
    return log.sent[min(math.floor(second / log.packet_seconds + 1e-6), len(log.sent) - 1)]


def _sent_before(log: Log, second: float) -> float:
    """When the packet was sent that ends at this second or holds it."""
    return log.sent[max(0, math.ceil(second / log.packet_seconds - 1e-6) - 1)]
