import asyncio
import ctypes
from pathlib import Path

import pytest

from gateway import memory
from gateway.memory import MemoryTrimmer, trim_memory


async def test_uploads_that_end_together_cause_one_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[None] = []
    done = asyncio.Event()

    def trim() -> None:
        trims.append(None)
        done.set()

    monkeypatch.setattr(memory, "TRIM_INTERVAL", 0.01)
    monkeypatch.setattr(memory, "trim_memory", trim)
    trimmer = MemoryTrimmer()

    for _ in range(3):
        with trimmer.upload():
            pass
    await done.wait()
    assert len(trims) == 1

    done.clear()
    with pytest.raises(ValueError, match="broken"), trimmer.upload():
        raise ValueError("broken")
    await done.wait()
    assert len(trims) == 2


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library keeps no free heap"
)
def test_trimming_gives_free_heap_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(16_000) for _ in range(4000)]
    for block in blocks:
        ctypes.memset(block, 1, 16_000)
    keeper = libc.malloc(16_000)  # the heap's top stays in use, so free() cannot shrink it
    for block in blocks:
        libc.free(block)
    before = _resident()

    trim_memory()

    assert before - _resident() > 32_000_000
    libc.free(keeper)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
