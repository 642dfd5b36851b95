"""Sets what the kernel lets this process gain, and others see of it (prctl(2))."""

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_libc: Final = ctypes.CDLL(None, use_errno=True)


def set_dumpable(*, dumpable: bool) -> None:
    """Whether it may dump core, be traced, and have its /proc/self belong to its own uid (PR_SET_DUMPABLE).

    A change of uid takes that back. Raises OSError.
    """
    _set(_PR_SET_DUMPABLE, int(dumpable))


def disable_core_dumps_and_tracing() -> None:
    """From here on this process writes no core file, and only root may trace it or read its memory. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_dumpable(dumpable=False)


def forbid_new_privileges() -> None:
    """No program that it executes gains rights by that, for good (PR_SET_NO_NEW_PRIVS). Raises OSError."""
    _set(_PR_SET_NO_NEW_PRIVS, 1)


def _set(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl")
