"""Keeps one worker supervisor running beside this gateway, for machines without containers."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from gateway.concurrency import first_finished
from gateway.telemetry import event

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "worker", "--with-parent")
CANNOT_START = (os.EX_CONFIG, 2)
"""Exit statuses for bad settings and bad usage: another try would end the same."""
HEALTHY_RUN = 60.0
"""Seconds after which an end counts as the first one."""
STOP_TIMEOUT = 15.0
"""Seconds from SIGTERM to SIGKILL; the supervisor itself gives its engine ten."""
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before the restarts after unexpected ends; the last one stays."""


class LocalSupervisor:
    """An async context manager: runs inside, is gone after it.

    The child reads our end of its standard input: when this process dies, however it dies, the
    child sees the end of input and ends as well. It has a session of its own, so that Ctrl+C
    reaches the gateway alone, which lets requests finish first.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        give_up: Callable[[], None],
        hurry: asyncio.Event,
        command: Sequence[str] = COMMAND,
        back_off: Sequence[float] = BACK_OFF,
    ) -> None:
        self._environment = dict(environment)
        self._command = tuple(command)
        self._back_off = tuple(back_off)
        self._give_up = give_up
        """Called where the supervisor cannot start, having said why on standard error."""
        self._hurry = hurry
        """Set when nobody wants to wait for an orderly end any more."""
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._keeper = self._tasks.create_task(self._keep_running(), name="local supervisor")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keeper.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def process_id(self) -> int | None:
        """The child's, while one runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def _keep_running(self) -> None:
        clock = asyncio.get_running_loop().time
        ends = 0
        while True:
            started = clock()
            status = await self._run_once()
            if clock() - started > HEALTHY_RUN:
                ends = 0
            if status in CANNOT_START:
                logger.error(event("worker supervisor cannot start", {"status": status}))
                self._give_up()
                return
            pause = self._back_off[min(ends, len(self._back_off) - 1)]
            ends += 1
            fields = {"status": status, "restart_in_seconds": pause}
            logger.error(event("worker supervisor ended unexpectedly", fields))
            await asyncio.sleep(pause)

    async def _run_once(self) -> int | None:
        """Its exit status, once it has ended; None where it could not even be started."""
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, env=self._environment, start_new_session=True
            )
        except OSError as error:
            logger.error(event("worker supervisor was not started", {"reason": error.strerror}))
            return None
        logger.info(event("worker supervisor started", {"process_id": process.pid}))
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await self._stop(process)

    async def _stop(self, process: Process) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await first_finished(process.wait(), self._hurry.wait())
        except TimeoutError:
            logger.error(event("worker supervisor did not end", {"process_id": process.pid}))
        if process.returncode is None:
            process.kill()
            await process.wait()
