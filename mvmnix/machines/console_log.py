"""The only writer of a guest's console to a file of the host: bytes as they come, up to a bound, then one marker."""

import os
from typing import Final

from mvmnix.formats.escaping import escape_bytes

#: Bytes of a console that are kept: a kernel's boot has some 30,000, a guest that floods its console gets no more.
CONSOLE_LIMIT: Final = 4 * 1024 * 1024
_TAIL = 4096


class BoundedLog:
    """Takes over a file descriptor opened for writing; `limit` in bytes, the marker not counted.

    What doesn't fit is counted and dropped, never an error: a full disk must not end a guest, nor a guest fill a disk.
    """

    def __init__(self, fd: int, *, limit: int) -> None:
        self._fd = fd
        self._room = limit
        self._limit = limit
        self._tail = b""
        self.seen = 0

    def write(self, data: bytes) -> None:
        """Keep as much of `data` as there is room for."""
        self.seen += len(data)
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        if self._room <= 0:
            return
        kept = data[: self._room]
        self._room -= len(kept)
        self._put(kept)
        if self._room == 0:
            self._put(f"\n[mvm: only the first {self._limit} bytes are kept]\n".encode())

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._room = 0

    def last_lines(self, count: int = 10) -> tuple[str, ...]:
        """The last lines, escaped for a terminal or an error message."""
        lines = [line.strip() for line in self._tail.split(b"\n")]
        return tuple(escape_bytes(line) for line in lines if line)[-count:]

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._room = 0
