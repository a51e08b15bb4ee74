import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.shared_runs import CallerLeft, SharedRuns


class Work:
    """Counts its runs; ends when told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> str:
        self.runs += 1
        self.started.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return f"run {self.runs}"


class Caller:
    """Asks in a task of its own and leaves when told to."""

    def __init__(self, task: asyncio.Task[str], gone: asyncio.Event) -> None:
        self.task = task
        self._gone = gone

    def leave(self) -> None:
        self._gone.set()


Ask = Callable[[str, Callable[[], Awaitable[str]]], Awaitable[Caller]]


@asynccontextmanager
async def callers(runs: SharedRuns[str, str]) -> AsyncIterator[Ask]:
    tasks: list[asyncio.Task[str]] = []

    async def ask(key: str, work: Callable[[], Awaitable[str]]) -> Caller:
        gone, asked = asyncio.Event(), asyncio.Event()

        async def leave() -> None:
            asked.set()
            await gone.wait()

        task = asyncio.create_task(runs.result(key, work, leave))
        tasks.append(task)
        await asked.wait()
        return Caller(task, gone)

    async with asyncio.timeout(10):
        try:
            yield ask
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_same_asked_for_twice_at_once_is_done_once() -> None:
    runs, work = SharedRuns[str, str](), Work()

    async with callers(runs) as ask:
        assert not runs.is_under_way("a")
        first, second = await ask("a", work), await ask("a", work)
        assert runs.is_under_way("a")
        work.may_end.set()

        assert await first.task == await second.task == "run 1"
    assert work.runs == 1
    assert not runs.is_under_way("a")


async def test_other_things_are_done_apart_and_finished_ones_anew() -> None:
    runs, work = SharedRuns[str, str](), Work()

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("b", work)
        work.may_end.set()
        await asyncio.gather(first.task, second.task)
        third = await ask("a", work)
        await third.task

    assert work.runs == 3


async def test_the_first_one_may_leave_while_another_waits() -> None:
    runs, work = SharedRuns[str, str](), Work()

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("a", work)
        first.leave()
        third = await ask("a", work)
        assert not first.task.done()
        work.may_end.set()

        assert await second.task == await third.task == "run 1"
        with pytest.raises(CallerLeft):
            await first.task


async def test_one_that_only_waits_may_leave() -> None:
    runs, work = SharedRuns[str, str](), Work()

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("a", work)
        second.leave()
        with pytest.raises(CallerLeft):
            await second.task
        work.may_end.set()

        assert await first.task == "run 1"


async def test_work_ends_when_the_last_one_leaves_and_the_next_begins_anew() -> None:
    runs, work, again = SharedRuns[str, str](), Work(), Work()

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("a", work)
        await work.started.wait()
        first.leave()
        second.leave()
        await work.was_cancelled.wait()
        for caller in (first, second):
            with pytest.raises(CallerLeft):
                await caller.task
        assert not runs.is_under_way("a")
        third = await ask("a", again)
        again.may_end.set()

        assert await third.task == "run 1"


async def test_everybody_is_told_of_a_failure() -> None:
    runs, work = SharedRuns[str, str](), Work()
    work.error = ValueError("broken")

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("a", work)
        work.may_end.set()
        for caller in (first, second):
            with pytest.raises(ValueError, match="broken"):
                await caller.task

    assert not runs.is_under_way("a")


async def test_the_end_of_the_first_request_ends_those_that_wait_for_it() -> None:
    runs, work = SharedRuns[str, str](), Work()

    async with callers(runs) as ask:
        first, second = await ask("a", work), await ask("a", work)
        first.task.cancel()
        for caller in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await caller.task

    assert not runs.is_under_way("a")
