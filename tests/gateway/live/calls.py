"""Calls that tests tell of by hand, with a clock that stands until it is moved."""

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.live.call_events import Calls
from gateway.live.events import (
    Opening,
    SessionEnded,
    TextChanged,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
    Usage,
)
from gateway.live.publishing import Leg
from protocol.failures import FailureCode
from protocol.live import Encoding, LiveOptions, StreamFormat

LEG = Leg("call-1", "sess_1", None)
OPTIONS = LiveOptions(
    language=None,
    languages=(),
    prompt="",
    keywords=(),
    turn_detection=None,
    wants_partials=True,
    wants_logprobs=False,
)


def opening(call_id: str = "call-1", *, channels: int = 1) -> Opening:
    return Opening(StreamFormat(Encoding.MULAW, 8000, channels), OPTIONS, call_id)


def started(item_id: str, start_ms: int = 0, channel: int = 0) -> TurnStarted:
    return TurnStarted(item_id, channel, start_ms)


def stopped(item_id: str, end_ms: int = 1000, channel: int = 0) -> TurnStopped:
    return TurnStopped(item_id, channel, end_ms)


def partial(item_id: str, stable: str, tail: str = "", channel: int = 0) -> TextChanged:
    return TextChanged(item_id, channel, "English", stable, stable, tail, 120)


def final(
    item_id: str, text: str, start_ms: int = 0, end_ms: int = 1000, channel: int = 0
) -> TurnCompleted:
    return TurnCompleted(
        item_id=item_id,
        channel=channel,
        transcript=text,
        delta=text,
        language="English",
        start_ms=start_ms,
        end_ms=end_ms,
        segments=(),
        tokens=(),
        usage=Usage(1, 2, 3, end_ms - start_ms),
        lag_ms=250,
    )


def failed(item_id: str, channel: int = 0) -> TurnFailed:
    return TurnFailed(item_id, channel, str(FailureCode.TIMED_OUT), "Try again.")


ENDED = SessionEnded(None, "")


class ManualTimer:
    """What an event loop's call_at gives."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualLoop:
    """A clock, and the timers that wait for it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[ManualTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timer = ManualTimer(due, callback)
        self.timers.append(timer)
        return cast("asyncio.TimerHandle", timer)

    def move_on(self, seconds: float) -> None:
        """Let time pass, and timers with it."""
        until = self.now + seconds
        while due := [timer for timer in self._planned if timer.due <= until]:
            timer = min(due, key=lambda each: each.due)
            self.now, callback, timer.callback = max(self.now, timer.due), timer.callback, None
            assert callback is not None
            callback()
        self.now = until

    @property
    def _planned(self) -> list[ManualTimer]:
        self.timers = [timer for timer in self.timers if timer.callback is not None]
        return self.timers

    @property
    def planned(self) -> int:
        """Timers that still wait."""
        return len(self._planned)


def calls_of(
    loop: ManualLoop,
    *,
    keep_seconds: float = 600.0,
    is_draining: Callable[[], bool] = lambda: False,
    history_bytes: int = 1024 * 1024,
    ended_bytes: int = 1024 * 1024,
) -> Calls:
    return Calls(
        keep_seconds=keep_seconds,
        clock=loop.time,
        call_at=loop.call_at,
        is_draining=is_draining,
        history_bytes=history_bytes,
        ended_bytes=ended_bytes,
    )
