"""Irrevocable limits a process puts on itself before it reads a stranger's bytes.

Linux on x86-64 and aarch64 gets everything; other Linux machines go without the system-call
filter, other systems keep only the resource limits they know.
"""

import ctypes
import errno
import math
import os
import resource
import signal
import sys
from typing import Final

# <linux/prctl.h>, <linux/seccomp.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_SECCOMP_ALLOW: Final = 0x7FFF0000
_SECCOMP_ERRNO: Final = 0x00050000

# <linux/bpf_common.h>; offsets into struct seccomp_data, little-endian
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_OFFSET_NUMBER: Final = 0
_OFFSET_ARCH: Final = 4
_OFFSET_FIRST_ARGUMENT: Final = 16

# Memory, files that are open already, time and the own end: all a decoder needs once it has its
# file. No name leads to a file, a socket, a process or a thread from here.
_CALLS_X86_64: Final = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "dup": 32, "getpid": 39, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "exit": 60, "fcntl": 72, "gettimeofday": 96, "getrusage": 98,
    "sysinfo": 99, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "clock_gettime": 228, "exit_group": 231, "newfstatat": 262, "getrandom": 318,
}  # fmt: skip
_CALLS_AARCH64: Final = {
    "read": 63, "write": 64, "close": 57, "fstat": 80, "ppoll": 73, "lseek": 62, "mmap": 222,
    "mprotect": 226, "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135,
    "rt_sigreturn": 139, "pread64": 67, "readv": 65, "writev": 66, "sched_yield": 124,
    "mremap": 216, "madvise": 233, "dup": 23, "getpid": 172, "sendto": 206, "recvfrom": 207,
    "sendmsg": 211, "recvmsg": 212, "exit": 93, "fcntl": 25, "gettimeofday": 169,
    "getrusage": 165, "sysinfo": 179, "sigaltstack": 132, "gettid": 178, "futex": 98,
    "sched_getaffinity": 123, "clock_gettime": 113, "exit_group": 94, "newfstatat": 79,
    "getrandom": 278,
}  # fmt: skip

# machine: (AUDIT_ARCH_*, allowed calls, prlimit64)
_MACHINES: Final = {
    "x86_64": (0xC000003E, _CALLS_X86_64, 302),
    "aarch64": (0xC00000B7, _CALLS_AARCH64, 261),
}

_Fields = tuple[int, int, int, int]


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGKILL when the *thread* that started this process ends; Linux only.

    Ends this process at once if the parent is gone already.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(1)


def limit_resources(memory_bytes: int, total_cpu_seconds: float) -> None:
    """No core file, no growing file, few descriptors, bounded memory and CPU time."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    hard = math.ceil(total_cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def allow_cpu_seconds(seconds: float) -> None:
    """Move the point where SIGXCPU ends this process; never beyond `total_cpu_seconds`."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(seconds), hard), hard))


def filter_system_calls() -> bool:
    """Refuse, with EPERM, every system call beyond memory and open files from here on.

    False where this machine or its kernel offers no such filter; the process then goes on
    without one, inside the other limits.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES:
        return False
    program = _filter_program(*_MACHINES[machine])
    try:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _install(program)
    except OSError:
        return False
    return True


def _filter_program(arch: int, allowed: dict[str, int], prlimit: int) -> list[_Fields]:
    """prlimit64 passes for the own process alone (pid 0): it moves the CPU limit."""
    refuse = (_RETURN, 0, 0, _SECCOMP_ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _SECCOMP_ALLOW)
    numbers = sorted(allowed.values())
    checks = [
        (_JUMP_IF_EQUAL, len(numbers) - position + 3, 0, number)
        for position, number in enumerate(numbers)
    ]
    return [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        (_JUMP_IF_EQUAL, 1, 0, arch),
        refuse,
        (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
        *checks,
        (_JUMP_IF_EQUAL, 0, 2, prlimit),
        (_LOAD_WORD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, 0),
        refuse,
        allow,
    ]


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jump_true", ctypes.c_ubyte),
        ("jump_false", ctypes.c_ubyte),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def _install(program: list[_Fields]) -> None:
    instructions = (_Instruction * len(program))(*(_Instruction(*fields) for fields in program))
    filter_program = _Program(len(program), instructions)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program))


def _prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, *(0 for _ in range(4 - len(arguments)))]
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in padded]
    if libc.prctl(option, *words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
