"""POSIX record locks on lock files: who holds one is the kernel's word, not a file's content.

Two properties of these locks (POSIX.1-2024, fcntl) need care, and get it here alone. They belong to a process: threads
of one process do not exclude each other, so a table in memory does; those that share one share its descriptor. And
*any* close of the file by the process releases them: so a lock file that this process holds is never opened a second
time. A forked child holds none of them.
"""

import fcntl
import os
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

#: struct flock of Linux on 64-bit machines: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi4x")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

type _Inode = tuple[int, int]


@dataclass(slots=True)
class _Claim:
    """A lock of this process: its descriptor, the thread that asked for it, whether the kernel has granted it.

    `sharers` is how many hold it together; 0 for one that is held alone.
    """

    fd: int
    thread: int
    granted: bool
    sharers: int = 0


_claims: dict[_Inode, _Claim] = {}
#: Stands for a claim that gave way, which one that is to be alone never does.
_NOTHING = ((-1, -1), -1)
_changed = threading.Condition()


def _forget() -> None:
    """In a forked child: the parent's locks are not ours, and its threads are not here to release the condition."""
    global _changed  # noqa: PLW0603 - the parent's may be held by a thread that does not exist here
    _claims.clear()
    _changed = threading.Condition()


os.register_at_fork(after_in_child=_forget)


class Lock:
    """A lock that this process holds until `release` or its end; a context manager."""

    def __init__(self, inode: _Inode, fd: int) -> None:
        """Made by `acquire` and `try_acquire` only."""
        self._inode = inode
        self._fd = fd
        self._pid = os.getpid()
        self._is_released = False

    def release(self) -> None:
        """Let others have it. A second call, or one in a forked child, does nothing."""
        with _changed:
            claim = _claims.get(self._inode)
            if self._pid != os.getpid() or claim is None or claim.fd != self._fd:
                return
            if self._is_released:
                return
            self._is_released = True
            if claim.sharers > 1:
                claim.sharers -= 1
                return
            del _claims[self._inode]
            os.close(self._fd)
            _changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(directory: int, name: str, *, is_shared: bool = False) -> Lock:
    """Take the lock on the file `name` of the directory descriptor, creating it (0600); wait for its holder.

    Others, threads of this process among them, may hold one that `is_shared` at the same time, while none can have it
    alone. Raises RuntimeError when the calling thread holds it already and one of the two is alone, since it would wait
    for itself forever.
    """
    while True:
        if is_shared and (shared := _join(directory, name)) is not None:
            return shared
        if (claimed := _claim(directory, name, gives_way=is_shared)) is None:
            continue
        inode, fd = claimed
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        except BaseException:
            _drop(inode)
            raise
        if (lock := _granted(directory, name, inode, is_shared=is_shared)) is not None:
            return lock


def try_acquire(directory: int, name: str) -> Lock | None:
    """As `acquire`, but answer None at once when another thread or process holds it."""
    while True:
        with _changed:
            claimed = _inode_of(directory, name) in _claims
        if claimed:
            return None
        inode, fd = _claim(directory, name) or _NOTHING
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _drop(inode)
            return None
        if (lock := _granted(directory, name, inode)) is not None:
            return lock


def holder(directory: int, name: str) -> int | None:
    """The process that holds the lock on `name` now, by F_GETLK; None when none does or no such file exists.

    0 stands for a process that this PID namespace does not show.
    """
    with _changed:
        claim = _claims.get(_inode_of(directory, name))
        if claim is not None:
            return os.getpid() if claim.granted else _ask(claim.fd)
        try:
            fd = os.open(name, _FLAGS, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            return _ask(fd)
        finally:
            os.close(fd)


def _ask(fd: int) -> int | None:
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _join(directory: int, name: str) -> Lock | None:
    """Share what this process holds together with others already; None where it doesn't."""
    with _changed:
        inode = _inode_of(directory, name)
        claim = _claims.get(inode)
        if claim is None or not claim.granted or not claim.sharers:
            return None
        claim.sharers += 1
        return Lock(inode, claim.fd)


def _inode_of(directory: int, name: str) -> _Inode:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def _claim(directory: int, name: str, *, gives_way: bool = False) -> tuple[_Inode, int] | None:
    """Open the lock file and enter it in the table, once no other thread of ours has it there.

    None, for one that `gives_way`, where it can be shared instead.
    """
    with _changed:
        while _claims and (claim := _claims.get(_inode_of(directory, name))) is not None:
            if gives_way and claim.granted and claim.sharers:
                return None
            if claim.thread == threading.get_ident():
                raise RuntimeError(f"this thread holds the lock {name!r} already")
            _changed.wait()
        fd = os.open(name, _FLAGS | os.O_CREAT, 0o600, dir_fd=directory)
        status = os.fstat(fd)
        inode = (status.st_dev, status.st_ino)
        _claims[inode] = _Claim(fd, threading.get_ident(), granted=False)
        return inode, fd


def _drop(inode: _Inode) -> None:
    with _changed:
        os.close(_claims.pop(inode).fd)
        _changed.notify_all()


def _granted(directory: int, name: str, inode: _Inode, *, is_shared: bool = False) -> Lock | None:
    """The lock, or None when the file was removed or replaced while we waited: it then guards nothing any more."""
    if _inode_of(directory, name) != inode:
        _drop(inode)
        return None
    with _changed:
        claim = _claims[inode]
        claim.granted, claim.sharers = True, int(is_shared)
        _changed.notify_all()  # those that wait to share it
        return Lock(inode, claim.fd)
