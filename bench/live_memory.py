"""Memory of gateway and engine in one long call, sent faster than it plays: bench.live --memory."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.live_server import KINDS, PACKET_SECONDS, LiveServer, Ran, live_server
from bench.live_speech import FORMATS, Talk, talk
from bench.options import Setting
from bench.report import Table

MB = 10**6
MADE_SECONDS = 600.0
"""Of speech that is made; a longer call repeats it."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes by kind of process, while a minute of the call was sent."""

    minute: int
    bytes: dict[str, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this mode."""
    parser.add_argument("--minutes", type=int, default=60, help="--memory: of the call")
    parser.add_argument("--pace", type=float, default=10.0, help="--memory: times real time")


def show(chosen: Setting, options: argparse.Namespace) -> None:
    """Measure and print."""
    with live_server(MODEL_ID=options.model_id, DEVICE=options.device) as server:
        ran = call(server, options.minutes, options.pace)
    log = ran.logs[0]
    sending = log.sent[-1] - log.sent[0]
    chosen.report.note(
        f"{options.minutes} min sent in {sending:.0f} s ({60 * options.minutes / sending:.1f} x"
        f" real time), {ran.figures().utterances} utterances, answered: {log.is_answered}"
    )
    columns = ("minute of audio", *(f"{kind} MB" for kind in KINDS))
    table = Table("resident memory in one call", columns)
    for found in resident_by_minute(ran):
        if found.minute in _shown(options.minutes):
            table.add(found.minute, *(found.bytes[kind] / MB for kind in KINDS))
    chosen.report.show(table)


def call(server: LiveServer, minutes: int, pace: float) -> Ran:
    """One call of 8 kHz mu-law, so many times faster than real time."""
    return server.run([long_talk(minutes)], pace=pace)


def long_talk(minutes: int) -> Talk:
    """The same minutes of speech over and over."""
    seconds = 60.0 * minutes
    made = talk(min(MADE_SECONDS, seconds), 1, FORMATS["mulaw"])
    times = max(1, round(seconds / made.seconds))
    return replace(
        made,
        content=made.content * times,
        text=" ".join([made.text] * times),
        loud=[second + turn * made.seconds for turn in range(times) for second in made.loud],
    )


def resident_by_minute(ran: Ran) -> list[Resident]:
    """The last look in each minute of audio."""
    sent = ran.logs[0].sent
    packets = round(60 / PACKET_SECONDS)
    ends = [
        (minute, sent[min(minute * packets, len(sent)) - 1])
        for minute in range(1, len(sent) // packets + 1)
    ]
    return [Resident(minute, _at(ran.use.resident, moment)) for minute, moment in ends]


def _at(looks: Sequence[tuple[float, dict[str, int]]], moment: float) -> dict[str, int]:
    before = [found for at, found in looks if at <= moment]
    return before[-1] if before else looks[0][1]


def _shown(minutes: int) -> set[int]:
    return {1, minutes, *range(10, minutes, 10)}
