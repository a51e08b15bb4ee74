"""One run of work for all callers that ask for the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class CallerLeft(Exception):
    """This caller left before there was a result."""


class _Run(Generic[Result]):
    def __init__(self) -> None:
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.waiting = 0
        self.abandoned = asyncio.Event()


class SharedRuns(Generic[Key, Result]):
    """Runs under way by key; a finished one is forgotten. Holds as many as there are callers.

    A run lives in the request of the caller that began it, which stays until the run has ended or
    nobody waits any more, even where its own caller has left.
    """

    def __init__(self) -> None:
        self._runs: dict[Key, _Run[Result]] = {}

    def __repr__(self) -> str:
        return f"<SharedRuns {len(self._runs)} under way>"

    def is_under_way(self, key: Key) -> bool:
        """Whether `result`, called now, would wait for a run that another caller has begun."""
        return key in self._runs

    async def result(
        self,
        key: Key,
        work: Callable[[], Awaitable[Result]],
        leave: Callable[[], Awaitable[None]],
    ) -> Result:
        """The result of `work`, or what it raised; of another caller's where that is under way.

        `leave` returns when this caller leaves: then CallerLeft is raised, in whose request the
        work lives only after the others have their result. The work is cancelled when all left.
        """
        run = self._runs.get(key)
        if run is not None:
            return await self._wait(key, run, leave)
        run = self._runs[key] = _Run()
        try:
            return await self._lead(key, run, work, leave)
        finally:
            self._forget(key, run)
            run.result.cancel()  # without effect on one that is there

    async def _lead(
        self,
        key: Key,
        run: _Run[Result],
        work: Callable[[], Awaitable[Result]],
        leave: Callable[[], Awaitable[None]],
    ) -> Result:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(_settle(run, work))
            waiting = tasks.create_task(self._wait_in_group(key, run, leave))
            abandoned = tasks.create_task(run.abandoned.wait())
            await asyncio.wait((working, abandoned), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, abandoned):
                task.cancel()
        if waiting.result():
            raise CallerLeft
        return run.result.result()

    async def _wait_in_group(
        self, key: Key, run: _Run[Result], leave: Callable[[], Awaitable[None]]
    ) -> bool:
        """Whether the caller left: not raised, since a task group would wrap it."""
        return not await self._has_stayed(key, run, leave)

    async def _wait(
        self, key: Key, run: _Run[Result], leave: Callable[[], Awaitable[None]]
    ) -> Result:
        if not await self._has_stayed(key, run, leave):
            raise CallerLeft
        return run.result.result()

    async def _has_stayed(
        self, key: Key, run: _Run[Result], leave: Callable[[], Awaitable[None]]
    ) -> bool:
        """Wait until there is a result (True), or this caller leaves (False)."""
        run.waiting += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(_returned(leave))
                await asyncio.wait((leaving, run.result), return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
        finally:
            run.waiting -= 1
            if not run.waiting:
                self._forget(key, run)  # the next one to ask begins anew
                run.abandoned.set()
        return run.result.done()

    def _forget(self, key: Key, run: _Run[Result]) -> None:
        if self._runs.get(key) is run:
            del self._runs[key]


async def _returned(leave: Callable[[], Awaitable[None]]) -> None:
    await leave()


async def _settle(run: _Run[Result], work: Callable[[], Awaitable[Result]]) -> None:
    try:
        run.result.set_result(await work())
    except Exception as error:  # every caller is told, in its own request
        run.result.set_exception(error)
