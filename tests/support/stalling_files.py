"""Files of a FUSE file system (fuse(4)) whose server lets them be opened, and answers nothing else.

Whoever asks for such a file's size, or closes a descriptor of it, waits until the server is gone. The file system is
mounted at no place (fsmount(2)), which takes root and /dev/fuse. Structures: include/uapi/linux/fuse.h.
"""

import ctypes
import os
import signal
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.patience import EVENT_PATIENCE

#: fsopen(2), fsconfig(2), fsmount(2), and commands of fsconfig's.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_STRING, _CREATE = 1, 6
#: Length, operation, number, node; and of an answer: length, error, number.
_REQUEST, _ANSWER = struct.Struct("=IIQQ"), struct.Struct("=IiQ")
#: Bytes of the longest request (FUSE_MIN_READ_BUFFER), and seconds that a name stands for a file.
_LONGEST, _LONG = 8192, 3600
_FILE: Final = 2

_libc: Final = ctypes.CDLL(None, use_errno=True)


class StallingFiles:
    """The file system, by its mount's descriptor."""

    def __init__(self, mount: int, server: int) -> None:
        self._mount = mount
        self._server = server
        self._opened: list[int] = []

    def open(self, flags: int = os.O_RDWR) -> int:
        """Open the file; it is closed at the end. A process that was forked meanwhile waits where it closes it."""
        self._opened.append(os.open("file", flags | os.O_CLOEXEC, dir_fd=self._mount))
        return self._opened[-1]

    def end(self) -> None:
        """Kill the server: whoever waits is told of an error. A second call does nothing."""
        if self._server:
            os.kill(self._server, signal.SIGKILL)
            os.waitpid(self._server, 0)
            self._server = 0

    def close(self) -> None:
        """Kill the server, and close what was opened."""
        self.end()
        for fd in (*self._opened, self._mount):
            with suppress(OSError):  # the server's
                os.close(fd)


@contextmanager
def stalling_files() -> Iterator[StallingFiles]:
    """Yield the file system, which ends afterwards."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount = _mount(device)
    server = os.fork()
    if server == 0:
        try:
            os.close(mount)
            signal.alarm(EVENT_PATIENCE)  # a test that stalls is to fail
            _serve(device)
        finally:
            os._exit(0)
    os.close(device)
    files = StallingFiles(mount, server)
    try:
        yield files
    finally:
        files.close()


def _mount(device: int) -> int:
    """Return the descriptor of a mount of the file system that `device` serves. Raises OSError."""
    context = _call(_FSOPEN, b"fuse", 1)
    options = {b"fd": device, b"rootmode": f"{stat.S_IFDIR:o}", b"user_id": os.getuid(), b"group_id": os.getgid()}
    for name, value in options.items():
        _call(_FSCONFIG, context, _SET_STRING, name, str(value).encode(), 0)
    _call(_FSCONFIG, context, _CREATE, None, None, 0)
    mount = _call(_FSMOUNT, context, 1, 0)
    os.close(context)
    return mount


def _call(number: int, *arguments: bytes | int | None) -> int:
    done = int(_libc.syscall(number, *arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def _serve(device: int) -> None:
    while True:
        with suppress(FileNotFoundError):  # who asked was interrupted
            request = os.read(device, _LONGEST)
            _, operation, number, _ = _REQUEST.unpack_from(request)
            if (answer := _answer(operation)) is not None:
                os.write(device, _ANSWER.pack(_ANSWER.size + len(answer), 0, number) + answer)


def _answer(operation: int) -> bytes | None:
    match operation:
        case 26:  # INIT: version, and nothing that is optional
            return struct.pack("=IIIIHHI32x", 7, 31, 0, 0, 16, 12, 4096)
        case 1:  # LOOKUP: a node that is known for long, of attributes that have to be asked for each time
            attributes = struct.pack("=QQQQQQIIIIIIIIII", _FILE, *[0] * 8, stat.S_IFREG | 0o600, 1, *[0] * 5)
            return struct.pack("=QQQQII", _FILE, 0, _LONG, 0, 0, 0) + attributes
        case 14 | 27:  # OPEN, OPENDIR
            return struct.pack("=QII", 0, 0, 0)
        case _:
            return None
