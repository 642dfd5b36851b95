"""POSIX record locks on lock files: who holds one is the kernel's word, not a file's content.

Two properties of these locks (POSIX.1-2024, fcntl) need care, and get it here alone. They belong to a process: threads
of one process do not exclude each other, so a table in memory does. And *any* close of the file by the process
releases them: so a lock file that this process holds is never opened a second time. A forked child holds none of them.
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

    `holders` counts the locks that stand for it: one, or several that share it.
    """

    fd: int
    thread: int
    granted: bool
    is_shared: bool = False
    holders: int = 1


_claims: dict[_Inode, _Claim] = {}
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
        self._is_held = True

    def release(self) -> None:
        """Let others have it. A second call, or one in a forked child, does nothing."""
        with _changed:
            claim = _claims.get(self._inode)
            if self._pid != os.getpid() or claim is None or claim.fd != self._fd or not self._is_held:
                return
            self._is_held = False
            claim.holders -= 1
            if claim.holders:
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

    Other processes, and threads of this one, may hold one that `is_shared` at the same time, while none can have it
    alone. Raises RuntimeError when the calling thread holds it already, and not shared as it asks for it, since it
    would wait for itself forever.
    """
    while True:
        claimed = _share(directory, name) if is_shared else _claim(directory, name)
        if isinstance(claimed, Lock):
            return claimed
        inode, fd = claimed
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        except BaseException:
            _drop(inode)
            raise
        if (lock := _granted(directory, name, inode)) is not None:
            return lock


def try_acquire(directory: int, name: str) -> Lock | None:
    """As `acquire`, but answer None at once when another thread or process holds it."""
    while True:
        with _changed:
            claimed = _inode_of(directory, name) in _claims
        if claimed:
            return None
        inode, fd = _claim(directory, name)
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


def _inode_of(directory: int, name: str) -> _Inode:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def _claim(directory: int, name: str) -> tuple[_Inode, int]:
    """Open the lock file and enter it in the table, once no other thread of ours has it there."""
    with _changed:
        while (claim := _claim_of(directory, name)) is not None:
            _wait_for(claim, name)
        return _enter(directory, name, is_shared=False)


def _share(directory: int, name: str) -> Lock | tuple[_Inode, int]:
    """Return another lock for a claim of this process that is shared; where there is none, do as `_claim`."""
    with _changed:
        while (claim := _claim_of(directory, name)) is not None:
            if claim.granted and claim.is_shared:
                claim.holders += 1
                return Lock(_inode_of(directory, name), claim.fd)
            _wait_for(claim, name)
        return _enter(directory, name, is_shared=True)


def _claim_of(directory: int, name: str) -> _Claim | None:
    return _claims.get(_inode_of(directory, name)) if _claims else None


def _wait_for(claim: _Claim, name: str) -> None:
    """Wait until the table changes. Raises RuntimeError where only the calling thread could change it."""
    if claim.thread == threading.get_ident():
        raise RuntimeError(f"this thread holds the lock {name!r} already")
    _changed.wait()


def _enter(directory: int, name: str, *, is_shared: bool) -> tuple[_Inode, int]:
    fd = os.open(name, _FLAGS | os.O_CREAT, 0o600, dir_fd=directory)
    status = os.fstat(fd)
    inode = (status.st_dev, status.st_ino)
    _claims[inode] = _Claim(fd, threading.get_ident(), granted=False, is_shared=is_shared)
    return inode, fd


def _drop(inode: _Inode) -> None:
    with _changed:
        os.close(_claims.pop(inode).fd)
        _changed.notify_all()


def _granted(directory: int, name: str, inode: _Inode) -> Lock | None:
    """The lock, or None when the file was removed or replaced while we waited: it then guards nothing any more."""
    if _inode_of(directory, name) != inode:
        _drop(inode)
        return None
    with _changed:
        claim = _claims[inode]
        claim.granted = True
        _changed.notify_all()  # those that share it
        return Lock(inode, claim.fd)
