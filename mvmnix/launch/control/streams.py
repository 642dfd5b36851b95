"""Descriptors that a caller handed over, as ends of a command's streams: none of them can make the supervisor wait.

A supervisor watches a guest, so what a caller hands it must not block it. A pipe is opened once more for reading or
writing without waiting, which leaves the caller's own mode as it is; a terminal, where a stopped one would block, is
not taken: the caller's process stands between.
"""

import os
import stat
from typing import Final, override

from mvmnix.launch.agent import FdSink
from mvmnix.launch.control.messages import Stream

_NULL: Final = os.makedev(1, 3)


class CallerSink(FdSink):
    """Output to a descriptor of a caller; one that can't be written is like a reader that left."""

    @override
    def _failed(self, error: OSError) -> None:
        self._give_up()


def take(fd: int, stream: Stream) -> int:
    """A descriptor that doesn't block, in place of this one, which is closed. Raises ValueError for what can't be."""
    mode = os.O_RDONLY if stream is Stream.STDIN else os.O_WRONLY
    try:
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode):
            return os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_CLOEXEC)
        is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode) or is_null):
            raise ValueError(f"{stream} is neither a pipe, a file nor a socket")
        return os.dup(fd)
    finally:
        os.close(fd)
