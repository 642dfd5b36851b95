"""Disables core dumps and ptrace for this process (prctl(2), PR_SET_DUMPABLE)."""

import resource

from mvmnix import prctl


def seal_off() -> None:
    """From here on this process writes no core file, and only root may trace it or read its memory (prctl(2)).

    Raises OSError where that can't be had.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl.set_dumpable(dumpable=False)
