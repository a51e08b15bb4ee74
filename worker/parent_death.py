"""Ties the life of a child process to its parent's, by the Linux kernel. Torch-free."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(expected_parent_pid: int) -> None:
    """From now on the kernel kills this process when its parent dies; call it first thing.

    The signal follows the thread that spawned this process, so only a thread as long-lived as
    the parent may spawn. Ends this process at once where the parent is dead already: then
    somebody else (a subreaper, PID 1) is the parent, so the pid is compared, never with 1.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected_parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies, as PID 1 is."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
