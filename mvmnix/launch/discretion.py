"""Disables core dumps and ptrace for this process (prctl(2), PR_SET_DUMPABLE)."""

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def seal_off() -> None:
    """From here on this process writes no core file, and nobody but root may trace it or read its memory (prctl(2)).

    Raises OSError where that can't be had.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "this process's memory")
