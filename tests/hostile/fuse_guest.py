"""A guest without a machine: speaks vhost-user, virtio and FUSE with a share's server, and says what no kernel would.

vhost-user: QEMU's docs/interop/vhost-user.rst; virtqueues: virtio 1.2, section 2.7; FUSE: include/uapi/linux/fuse.h.
"""

import mmap
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from mvmnix.launch.shares.setup import ShareContext, Shares
from mvmnix.model import User
from mvmnix.plan.share import Share
from mvmnix.system.loop import Loop
from tests.hostile.stand_in import jail
from tests.patience import EVENT_PATIENCE

MEMORY_MIB: Final = 8
_BASE: Final = 0x4000_0000
_SIZE: Final = 64
_REQUEST, _REPLY, _ROOM = 0x10_0000, 0x40_0000, 0x20_0000
ROOT: Final = 1
USER: Final = User(1000, 1000)


class Op(IntEnum):
    """What is asked of a file system (enum fuse_opcode)."""

    LOOKUP = 1
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    SETXATTR = 21
    INIT = 26
    OPENDIR = 27
    CREATE = 35
    FALLOCATE = 43
    RENAME2 = 45
    COPY_FILE_RANGE = 47


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for: the server's number for it, kind and mode, owner, inode on the host."""

    node: int
    mode: int
    uid: int
    inode: int

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Out of `struct fuse_entry_out`."""
        attributes = data[40:]
        mode, _, uid = struct.unpack_from("=III", attributes, 60)
        return cls(struct.unpack_from("=Q", data)[0], mode, uid, struct.unpack_from("=Q", attributes)[0])


class FuseGuest:
    """One request at a time, on the second queue; the first is for what has priority."""

    def __init__(self, connection: socket.socket, memory: int) -> None:
        self._socket = connection
        self._socket.settimeout(EVENT_PATIENCE)
        self._memory = mmap.mmap(memory, MEMORY_MIB << 20)
        self._fd = memory
        self._kicks, self._calls = [os.eventfd(0), os.eventfd(0)], [os.eventfd(0), os.eventfd(0)]
        self._sent = self._unique = 0
        self._shake_hands()
        self.ask(Op.INIT, 0, struct.pack("=IIIII44x", 7, 38, 1 << 16, 0, 0))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        self._memory.close()
        for fd in (*self._kicks, *self._calls):
            os.close(fd)

    # vhost-user

    def _say(self, request: int, payload: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self._socket, [struct.pack("=III", request, 1, len(payload)) + payload], fds)

    def _hear(self, request: int) -> int:
        self._say(request, b"")
        answer = self._socket.recv(20, socket.MSG_WAITALL)
        return int(struct.unpack("=IIIQ", answer)[3])

    def _shake_hands(self) -> None:
        assert self._hear(1) >> 32 & 1, "virtio 1"
        self._say(3, b"")
        self._say(2, struct.pack("=Q", 1 << 32 | 1 << 30))
        self._hear(15)
        self._say(16, struct.pack("=Q", 0))
        region = struct.pack("=QQQQ", _BASE, MEMORY_MIB << 20, _BASE, 0)
        self._say(5, struct.pack("=II", 1, 0) + region, [self._fd])
        for queue in (0, 1):
            at = _BASE + queue * 0x10000
            self._say(8, struct.pack("=II", queue, _SIZE))
            self._say(10, struct.pack("=II", queue, 0))
            self._say(9, struct.pack("=IIQQQQ", queue, 0, at, at + 0x8000, at + 0x4000, 0))
            self._say(12, struct.pack("=Q", queue), [self._kicks[queue]])
            self._say(13, struct.pack("=Q", queue), [self._calls[queue]])
            self._say(18, struct.pack("=II", queue, 1))
        self._hear(1)  # it has taken in all of that: a queue that is not enabled yet would lose what is put into it

    # virtio

    def chain(self, *descriptors: tuple[int, int, int, int]) -> None:
        """Put descriptors (address, length, flags, next) in a chain into the queue, and say so."""
        queue = 0x10000
        for number, fields in enumerate(descriptors):
            struct.pack_into("=QIHH", self._memory, queue + 16 * number, *fields)
        struct.pack_into("=H", self._memory, queue + 0x4000 + 4 + 2 * (self._sent % _SIZE), 0)
        self._sent = (self._sent + 1) % 65536
        struct.pack_into("=H", self._memory, queue + 0x4000 + 2, self._sent)
        os.eventfd_write(self._kicks[1], 1)

    def answered(self) -> bool:
        """Wait until the queue's last chain was used; False when the server hangs up or never does."""
        poll = select.poll()
        poll.register(self._calls[1], select.POLLIN)
        poll.register(self._socket, select.POLLIN | select.POLLHUP)
        while struct.unpack_from("=H", self._memory, 0x10000 + 0x8000 + 2)[0] != self._sent:
            ready = [fd for fd, _ in poll.poll(EVENT_PATIENCE * 1000)]
            if self._calls[1] not in ready:
                return False
            os.eventfd_read(self._calls[1])
        return True

    # FUSE

    def ask(self, op: Op, node: int, body: bytes) -> tuple[int, bytes]:
        """The error (0: none) and the rest of the answer. Raises ConnectionError when there is none."""
        self._unique += 2
        head = struct.pack("=IIQQIIIHH", 40 + len(body), op, self._unique, node, USER.uid, USER.gid, 1, 0, 0)
        self._memory[_REQUEST : _REQUEST + len(head) + len(body)] = head + body
        self.chain((_BASE + _REQUEST, len(head) + len(body), 1, 1), (_BASE + _REPLY, _ROOM, 2, 0))
        if not self.answered():
            raise ConnectionError("the server has gone")
        length, error, unique = struct.unpack_from("=IiQ", self._memory, _REPLY)
        assert unique == self._unique
        return -error, bytes(self._memory[_REPLY + 16 : _REPLY + length])

    def entry(self, op: Op, node: int, body: bytes) -> Entry:
        """The same where something is expected to be there. Raises OSError."""
        error, data = self.ask(op, node, body)
        if error:
            raise OSError(error, os.strerror(error), body)
        return Entry.of(data)

    def forget(self, node: int) -> None:
        """Give up one reference to a file; nobody answers that."""
        self._unique += 2
        head = struct.pack("=IIQQIIIHH", 48, 2, self._unique, node, 0, 0, 0, 0, 0)
        self._memory[_REQUEST : _REQUEST + 48] = head + struct.pack("=Q", 1)
        self.chain((_BASE + _REQUEST, 48, 0, 0))
        self.answered()

    def lookup(self, name: bytes, node: int = ROOT) -> Entry:
        """What a name stands for."""
        return self.entry(Op.LOOKUP, node, name + b"\0")

    def create(self, name: bytes, mode: int = 0o644, node: int = ROOT) -> Entry:
        """A new file."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        return self.entry(Op.CREATE, node, struct.pack("=IIII", flags, 0o100000 | mode, 0, 0) + name + b"\0")

    def mkdir(self, name: bytes, mode: int = 0o755, node: int = ROOT) -> Entry:
        """A new directory."""
        return self.entry(Op.MKDIR, node, struct.pack("=II", mode, 0) + name + b"\0")

    def chmod(self, node: int, mode: int) -> int:
        """The error of a change of mode."""
        body = struct.pack("=IIQQQQQQIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 0, 0, 0, 0)
        return self.ask(Op.SETATTR, node, body)[0]

    def truncate(self, node: int, size: int) -> int:
        """The error of a change of size."""
        body = struct.pack("=IIQQQQQQIIIIIIII", 1 << 3, 0, 0, size, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return self.ask(Op.SETATTR, node, body)[0]

    def open(self, node: int, flags: int = os.O_RDWR) -> int:
        """A handle of a file. Raises OSError."""
        return int(struct.unpack_from("=Q", self._done(Op.OPEN, node, struct.pack("=II", flags, 0)))[0])

    def read(self, node: int) -> bytes:
        """The first bytes of a file. Raises OSError."""
        handle = self.open(node, os.O_RDONLY)
        return self._done(Op.READ, node, struct.pack("=QQIIQII", handle, 0, 4096, 0, 0, 0, 0))

    def write(self, node: int, handle: int, data: bytes, offset: int = 0) -> int:
        """How many bytes were written. Raises OSError."""
        head = struct.pack("=QQIIQII", handle, offset, len(data), 0, 0, 0, 0)
        return int(struct.unpack_from("=I", self._done(Op.WRITE, node, head + data))[0])

    def _done(self, op: Op, node: int, body: bytes) -> bytes:
        error, data = self.ask(op, node, body)
        if error:
            raise OSError(error, os.strerror(error))
        return data


@contextmanager
def serving(where: Path, *shares: Share, written: int | None = None) -> Iterator[Shares]:
    """The servers of these shares, started in the jail that is shipped; `where` is for its state."""
    with jail(where, uids=False) as it:
        made = Shares.ready(shares, ShareContext(it, MEMORY_MIB, USER, (), written))
        try:
            made.start()
            yield made
        finally:
            made.close()


@contextmanager
def guest(shares: Shares, number: int = 0) -> Iterator[FuseGuest]:
    """A guest of one of them; of another one only when this one asks for nothing more: both have the same memory."""
    assert shares.memory is not None
    os.pwrite(shares.memory, bytes(MEMORY_MIB << 20), 0)
    connection = socket.socket(fileno=os.dup(shares.attachments[number].descriptor))
    with connection:
        try:
            made = FuseGuest(connection, shares.memory)
        except ConnectionError as error:
            shares.watch(loop := Loop(), lambda: None)
            loop.turn(EVENT_PATIENCE)
            raise ConnectionError(f"the server says: {shares.last_words}") from error
        yield made
        made.close()
