"""What a gateway or a dialer that was taken over tries to take from its user and from the host.

It runs inside of their sandbox (test_taken_over.py), where no other module of the tests is. Whatever it gets it keeps.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial

#: More than what any of them may have.
_MOST = 12_000
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[object] = []


def _call(number: int, *arguments: object) -> None:
    if _libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _option(level: int, option: int, value: bytes | int = 1) -> None:
    with socket.socket(fileno=_connections()) as one:
        try:
            one.setsockopt(level, option, value)
        finally:
            one.detach()


def _connections() -> int:
    """A socket that it was given, or can make."""
    return _sockets[0].fileno()


def _in_flight() -> None:
    """Each packet takes 253 descriptors (SCM_MAX_FD) to where nobody reads."""
    fds = array.array("i", [0] * 253)
    _sockets[1].setblocking(False)
    _sockets[1].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


def _watch_copy() -> None:
    """Another number of a socket that is watched already."""
    _kept.append(os.dup(_connections()))


def _signal() -> None:
    """One more that waits (sigqueue)."""
    number = signal.SIGRTMIN + 1
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    signal.pthread_kill(threading.get_ident(), number)


def _thread() -> None:
    try:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread") from error


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


#: By name, what takes one more of something.
GRABS: dict[str, Callable[[], object]] = {
    "descriptors in flight": _in_flight,
    "a socket pair": lambda: _kept.append(socket.socketpair()),
    "an instance of epoll": lambda: _kept.append(select.epoll()),
    "a copy to watch": _watch_copy,
    "a copy by fcntl": lambda: _kept.append(fcntl.fcntl(_connections(), fcntl.F_DUPFD_CLOEXEC, 0)),
    "an event": lambda: _kept.append(os.eventfd(0)),
    "a timer": lambda: _call(283, 1, 0),  # timerfd_create
    "a POSIX timer": lambda: _call(222, 1, None, ctypes.byref(ctypes.c_int())),
    "a memory file": lambda: _kept.append(os.memfd_create("grabbed")),
    "locked memory": lambda: _call(151, 1),  # mlockall
    "a watch of files": lambda: _call(294, 0),  # inotify_init1
    "a key": lambda: _call(248, b"user", b"mvmnix", b"x", ctypes.c_size_t(1), ctypes.c_int(-4)),
    "shared memory": lambda: _call(29, 0, ctypes.c_size_t(4096), 0o600),
    "a semaphore": lambda: _call(64, 0, 1, 0o600),
    "a queue": lambda: _call(68, 0, 0o600),
    "a POSIX queue": lambda: _call(240, b"mvmnix", 0o100 | 2, 0o600, None),
    "a counter": lambda: _call(298, None, 0, -1, -1, 0),
    "a ring": lambda: _call(425, 1, None),
    "page faults": lambda: _call(323, 1),
    "a signal that waits": _signal,
    "a thread": _thread,
    "a process": _fork,
    "a program": lambda: os.execv("/usr/bin/python3", ["python3"]),
    "a turn before others": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "a processor": lambda: os.sched_setaffinity(0, {0}),
    "another limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "another name": lambda: _call(157, 59, 0, 0, 0, 0),
    "a lease": lambda: fcntl.fcntl(_connections(), fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "an owner": lambda: fcntl.fcntl(_connections(), fcntl.F_SETOWN, os.getpid()),
    "a signal of its own": lambda: fcntl.fcntl(_connections(), fcntl.F_SETSIG, 0),
    "a directory's changes": lambda: fcntl.fcntl(_connections(), fcntl.F_NOTIFY, 0),
    "a lock": lambda: fcntl.lockf(_connections(), fcntl.LOCK_SH | fcntl.LOCK_NB),
    "a lock of a whole file": lambda: fcntl.flock(_connections(), fcntl.LOCK_SH | fcntl.LOCK_NB),
    "a larger pipe": lambda: fcntl.fcntl(_connections(), fcntl.F_SETPIPE_SZ, 1 << 20),
    **{
        f"SO_{name}": partial(_option, socket.SOL_SOCKET, number, value)
        for name, number, value in (
            *(("SNDBUF", 7, 1 << 30), ("RCVBUF", 8, 1 << 30), ("SNDBUFFORCE", 32, 1 << 30)),
            *(("RCVBUFFORCE", 33, 1 << 30), ("BINDTODEVICE", 25, b"lo\0"), ("MARK", 36, 1), ("PRIORITY", 12, 1)),
            *(("REUSEADDR", 2, 1), ("REUSEPORT", 15, 1), ("ATTACH_FILTER", 26, bytes(16)), ("ATTACH_BPF", 50, 1)),
            *(("BINDTOIFINDEX", 62, 1), ("ZEROCOPY", 60, 1), ("PASSCRED", 16, 1), ("BUSY_POLL", 46, 1)),
        )
    },
    "TCP_ULP": lambda: _option(socket.IPPROTO_TCP, 31, b"tls\0"),
    "TCP_REPAIR": lambda: _option(socket.IPPROTO_TCP, 19),
    "TCP_CONGESTION": lambda: _option(socket.IPPROTO_TCP, 13, b"cubic"),
    "IP_TRANSPARENT": lambda: _option(socket.IPPROTO_IP, 19),
    "IP_OPTIONS": lambda: _option(socket.IPPROTO_IP, 4, b"\x83\x07\x04\x01\x01\x01\x01\x00"),
    "IPV6_RTHDR": lambda: _option(socket.IPPROTO_IPV6, 57, bytes(8)),
    "a pipe": lambda: _kept.append(os.pipe2(os.O_CLOEXEC)),  # last: it leaves no descriptor
}
_sockets: tuple[socket.socket, ...] = ()


def _grab_all(connections: socket.socket, unread: socket.socket, events: socket.socket) -> None:
    """Take as many as there are of each; tell how many they were, and what came then."""
    global _sockets  # noqa: PLW0603
    _sockets = (connections, unread)
    for name, grab in GRABS.items():
        count, failure = 0, 0
        while count < _MOST and not failure:
            try:
                grab()
                count += 1
            except OSError as error:
                failure = error.errno or errno.EIO
        events.send(json.dumps([name, count, failure]).encode())
    events.send(b"[]")
    events.recv(1)


async def serve_gateway(gateway: object) -> None:
    """In the place of `Gateway.serve`."""
    given = gateway._sockets  # type: ignore[attr-defined]
    given.events.setblocking(True)
    _grab_all(given.connections, given.dialer, given.events)


def serve_dialer(dialer: object) -> None:
    """In the place of `Dialer.serve`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        _grab_all(one, dialer._asked, dialer._events)  # type: ignore[attr-defined]
