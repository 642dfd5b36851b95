"""Sets what the kernel lets this process gain and call, and others see of it (prctl(2))."""

import ctypes
import os
import resource
from typing import Final

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
#: _LINUX_CAPABILITY_VERSION_3 (linux/capability.h).
_CAPABILITY_VERSION_3: Final = 0x20080522
#: Bytes of a struct sock_filter (linux/filter.h).
_INSTRUCTION: Final = 8
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def set_dumpable(*, dumpable: bool) -> None:
    """Whether it may dump core, be traced, and have its /proc/self belong to its own uid (PR_SET_DUMPABLE).

    A change of uid takes that back. Raises OSError.
    """
    _set(_PR_SET_DUMPABLE, int(dumpable))


def is_dumpable() -> bool:
    """Return whether others of this process's user may look into it (PR_GET_DUMPABLE)."""
    return bool(_libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 1)


def disable_core_dumps_and_tracing() -> None:
    """From here on this process writes no core file, and only root may trace it or read its memory. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_dumpable(dumpable=False)


def drop_capabilities() -> None:
    """Give up all capabilities that this thread has or could hand on: capset(2), capabilities(7). Raises OSError."""
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capset")


def forbid_new_privileges() -> None:
    """No program that it executes gains rights by that, for good (PR_SET_NO_NEW_PRIVS). Raises OSError."""
    _set(_PR_SET_NO_NEW_PRIVS, 1)


def filter_system_calls(file: int) -> None:
    """Stack a filter of system calls (sandbox/seccomp.py) on those that the calling thread has, for good.

    Its program is read from a descriptor, which is closed then. Threads that are started later have it too. It takes
    PR_SET_NO_NEW_PRIVS, or root's rights. Raises OSError.
    """
    with os.fdopen(file, "rb") as opened:
        program = opened.read()
    asked = _Program(len(program) // _INSTRUCTION, program)
    _set(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(asked))


def _set(option: int, value: int, argument: object = 0) -> None:
    if _libc.prctl(option, value, argument, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl")
