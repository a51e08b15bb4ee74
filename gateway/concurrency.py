"""The one pattern of structured concurrency that the standard library has no word for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_finished(*contestants: Coroutine[Any, Any, object]) -> None:
    """Return when the first has finished; the others are cancelled and gone by then.

    Exceptions of any of them are raised as an ExceptionGroup.
    """
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(contestant) for contestant in contestants]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
