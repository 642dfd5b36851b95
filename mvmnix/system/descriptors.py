"""Sends and takes descriptors: those of a packet, with its sender, and what a child made between fork and exec.

A descriptor that another process chose may block when it is closed: a socket that lingers (socket(7), SO_LINGER), a
file of a FUSE file system (fuse(4)). So what isn't known to be a pipe is closed by a thread of its own (`close_apart`).
"""

import _thread
import array
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

#: The largest packet in bytes, and the most descriptors in one.
PACKET: Final = 16_384
DESCRIPTORS: Final = 8
#: The most descriptors that a packet brings (unix(7), SCM_MAX_FD). What there is no room for, the kernel closes in the
#: process that receives, which may wait for that.
_ROOM: Final = 253
#: Packets that may wait to be received, more than the kernel lets wait (unix(7), max_dgram_qlen).
_WAITING_PACKETS: Final = 4096
#: struct ucred (unix(7)): process, user, group.
CREDENTIALS: Final = struct.Struct("iII")
#: asm-generic/socket.h (Linux 6.5): a packet brings a descriptor of the process that sent it.
_SO_PASSPIDFD, _SCM_PIDFD = 76, 4
#: Waits for its input to end, and is there on every system (hier(7)).
_WAITING: Final = "/bin/cat"
#: Looks at a number that a thread is about to free, and seconds between two of them.
_LOOKS, _PAUSE = 1000, 0.001
#: Descriptors for whose close there was no thread. In a fork these numbers may be other descriptors'.
_unclosed: Final[list[int]] = []
os.register_at_fork(after_in_child=_unclosed.clear)


class PacketError(ValueError):
    """What came was not a packet that fits, with no more descriptors than are taken."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The process that sent a packet, by the kernel's word (unix(7), SCM_CREDENTIALS).

    `process` is its id here, 0 where this PID namespace has none for it. `pidfd` refers to the process itself, None
    where the kernel sends none; the receiver closes it.
    """

    process: int
    user: int
    pidfd: int | None

    def close(self) -> None:
        """Close the pidfd."""
        if self.pidfd is not None:
            os.close(self.pidfd)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its bytes (none at the end of the connection), its descriptors and its sender, if that was asked for.

    The descriptors are the receiver's to close.
    """

    data: bytes
    descriptors: tuple[int, ...]
    sender: Sender | None = None

    def close(self) -> None:
        """Close all its descriptors, which may be of any kind."""
        close_apart(self.descriptors)
        if self.sender is not None:
            self.sender.close()


def ask_for_senders(end: socket.socket) -> None:
    """Have the kernel say with each packet who sent it; inherited by the connections of a listening socket."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with suppress(OSError):  # Linux before 6.5
        end.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, 1)


def send_packet(end: socket.socket, data: bytes, descriptors: Iterable[int] = ()) -> None:
    """Send one packet, which is never cut. Raises OSError; BlockingIOError where the other end is full."""
    rights = array.array("i", descriptors)
    end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else [])


def receive_packet(end: socket.socket, size: int, most: int) -> Packet:
    """Receive one packet of at most `size` bytes and `most` descriptors.

    Raises PacketError for a larger one, whose descriptors are closed; OSError.
    """
    found, sender, pidfd = array.array("i"), None, array.array("i")
    room = socket.CMSG_LEN(_ROOM * found.itemsize) + socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4)
    data, ancillary, flags, _ = end.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        match level, kind:
            case socket.SOL_SOCKET, socket.SCM_RIGHTS:
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
            case socket.SOL_SOCKET, socket.SCM_CREDENTIALS if len(content) >= CREDENTIALS.size:
                sender = CREDENTIALS.unpack_from(content)
            case socket.SOL_SOCKET, 4 if len(content) >= pidfd.itemsize:
                pidfd.frombytes(content[: pidfd.itemsize])
    judged = None if sender is None else Sender(sender[0], sender[1], pidfd[0] if pidfd else None)
    packet = Packet(data, tuple(found), judged)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(found) > most:
        packet.close()
        raise PacketError(f"a packet of more than {size} bytes, or with more than {most} descriptors")
    return packet


def hang_up(end: socket.socket) -> None:
    """Close a connection: first no more packets can come, and then the descriptors of those that wait are closed apart.

    The last close of a connection closes what waits in it, and the process that does it may wait for that.
    """
    if end.fileno() < 0:
        return
    with end, suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
        end.setblocking(False)
        ask_for_senders(end)  # an empty packet has a sender, and the end of the connection has none
        for _ in range(_WAITING_PACKETS):
            with suppress(PacketError):
                packet = receive_packet(end, 1, 0)
                packet.close()
                if packet.sender is None:
                    return


def close_listening(listening: socket.socket) -> None:
    """Close a listening socket, and hang up on those whose connections wait to be accepted."""
    with listening, suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
        listening.setblocking(False)
        while True:
            hang_up(listening.accept()[0])


def access_of(fd: int) -> int | None:
    """Return for what a descriptor is open: os.O_RDONLY, os.O_WRONLY or os.O_RDWR; None for O_PATH. Raises OSError.

    Asks no file system, which could make its caller wait (fcntl(2), F_GETFL).
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return None if flags & os.O_PATH else flags & os.O_ACCMODE


def reopen(fd: int, flags: int = os.O_RDONLY) -> int:
    """Return another descriptor of the same file, at its beginning and for `flags` alone. Raises OSError.

    The kernel looks at the file's mode anew (proc_pid_fd(5)): only its owner reopens what is 0600.
    """
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def make_together(*makers: Callable[[], int]) -> list[int]:
    """Return what each of these makes, in order: a descriptor; where one raises, those before it are closed."""
    made = list[int]()
    try:
        made.extend(make() for make in makers)
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    return made


def is_pipe(fd: int, access: int) -> bool:
    """Return whether a descriptor is a pipe's, opened for `access` (os.O_RDONLY or os.O_WRONLY), or for both.

    Neither call asks a file system, which could make its caller wait (fcntl(2), F_GETPIPE_SZ).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        return access_of(fd) in {access, os.O_RDWR}
    except OSError:
        return False


def close_apart(descriptors: Iterable[int]) -> None:
    """Close descriptors of any kind; a close that blocks holds up a thread of its own alone.

    The number is free before a close blocks, and that is waited for: a process that is forked afterwards has none of
    them, whose own close would block, too. Where the system grants no thread, they stay open until the next call.
    """
    others = []
    for fd in descriptors:
        if is_pipe(fd, os.O_RDONLY) or is_pipe(fd, os.O_WRONLY):
            os.close(fd)
        else:
            others.append(fd)
    with suppress(IndexError):
        while True:
            others.append(_unclosed.pop())
    for fd in others:
        try:
            # a `threading.Thread` waits for its beginning, for ever where there is no memory for that
            _thread.start_new_thread(_close, (fd,))
        except (RuntimeError, MemoryError):
            _unclosed.append(fd)
        else:
            _wait_until_free(fd)


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


def _wait_until_free(fd: int) -> None:
    """Wait for a moment until no file has this number; another thread may have opened one meanwhile."""
    for _ in range(_LOOKS):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            return
        time.sleep(_PAUSE)


def received(end: socket.socket, size: int = PACKET, most: int = DESCRIPTORS) -> tuple[bytes, list[int], int]:
    """A packet of at most `size` bytes, its descriptors, and its flags (recvmsg(2)). Raises OSError.

    No child inherits the descriptors (socket.recv_fds drops that flag).
    """
    found = array.array("i")
    room = socket.CMSG_LEN(most * found.itemsize)  # CMSG_SPACE is rounded up, and may have room for one more
    packet, ancillary, flags, _ = end.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return packet, list(found), flags


@contextmanager
def made_by_child(make: Callable[[], int], what: str) -> Iterator[tuple[int, int]]:
    """What a child makes that needs a process of its own, and the child's process id while it waits.

    `make` runs between fork and exec and answers with a descriptor; where it raises OSError there is none, and `what`
    couldn't be made. The caller closes the descriptor. A program is executed then, as a process with threads must not
    fork without; it is gone at the end. Raises OSError, ProcessError.
    """
    from mvmnix.system.process import spawn  # noqa: PLC0415 - what calls a machine starts no program

    ours, theirs = socket.socketpair()
    waiting, end = os.pipe2(os.O_CLOEXEC)
    with ours:
        try:
            with theirs:
                child = spawn((_WAITING,), env={}, stdin=waiting, before_exec=_sending(make, theirs))
        except BaseException:
            os.close(end)
            raise
        finally:
            os.close(waiting)
        try:
            _, found, _ = received(ours)
            if not found:
                number = child.wait()  # what `make` raised
                raise OSError(number, f"no {what} can be made: {os.strerror(number)}")
            yield child.pid, found[0]
        finally:
            os.close(end)
            child.kill()
            child.wait()


def _sending(make: Callable[[], int], told: socket.socket) -> Callable[[], None]:
    def send() -> None:
        try:
            socket.send_fds(told, [b"x"], [make()])
        except OSError as error:
            os._exit(error.errno or errno.EPERM)

    return send
