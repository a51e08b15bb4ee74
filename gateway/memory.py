"""Gives memory back to the system after uploads.

What a burst of uploads leaves behind is not live objects but free heap that glibc keeps; trimming
brought 200 uploads of 25 MB from 90 MB back to 38 MB (docs/benchmarks.md).
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_INTERVAL = 2.0
"""Seconds from the end of an upload to the trim it causes; later ends share that one. A trim takes
some milliseconds, so it may happen under load as well."""


class MemoryTrimmer:
    """Trims once for all uploads that end within one interval."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Holds while one upload is received and worked on."""
        try:
            yield
        finally:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(TRIM_INTERVAL, self._trim)

    def _trim(self) -> None:
        self._timer = None
        trim_memory()


def trim_memory() -> None:
    """Collect garbage and return free heap to the system, where the C library can."""
    gc.collect()
    import ctypes  # 0.4 MB that a server without uploads need not carry

    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
    if malloc_trim is not None:
        malloc_trim(0)
