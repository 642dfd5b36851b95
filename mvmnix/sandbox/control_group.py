"""Removes a control group by its path, v1 or v2, and kills what is still in it; makes none (launch/jail/cgroups.py)."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

#: The file of a group that lists its processes (kernel: Documentation/admin-guide/cgroup-v2.rst).
MEMBERS: Final = "cgroup.procs"
#: Seconds that a group may stay busy after its last process ended, and between two attempts.
_TIMEOUT: Final = 10.0
_INTERVAL: Final = 0.002


def remove(path: str) -> bool:
    """Remove a group, killing what is still in it; whether it is gone. One that isn't there is."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            os.rmdir(path)  # noqa: PTH106 - a kernel interface, by its path
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
        else:
            return True
        for word in _members(path):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(word), signal.SIGKILL)
        time.sleep(_INTERVAL)


def _members(path: str) -> tuple[str, ...]:
    """Its processes; none where it can't be read any more."""
    try:
        return tuple(Path(path, MEMBERS).read_text(encoding="ascii").split())
    except OSError:
        return ()
