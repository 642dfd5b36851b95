"""Holds opened templates between starts, in the launcher, so that the machines of one template share its memory.

A fork that opens a template gives it to the launcher, by a socket that forks alone have; forks find it among their
descriptors then. The launcher sees to it that this is memory which no process can change, and looks no further: what it
says is read in forks, which are the user's own processes and trusted with more than that.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mvmnix.system import store
from mvmnix.system.descriptors import PacketError, ask_for_senders, receive_packet, reopen, send_packet

if TYPE_CHECKING:
    from mvmnix.digest import Digest
    from mvmnix.launch.templates.template import Template

#: Bytes of a record, at most (launch/templates/record.py); forks have that module, and the launcher needs none.
_LIMIT: Final = 65536
#: Bytes of a block (inode(7), st_blocks).
_BLOCK: Final = 512
#: Templates that are held, and bytes of memory that they may take together; the least recently used one goes first.
MOST_HELD: Final = 8
MOST_BYTES: Final = 2 << 30
_KEY: Final = 32
#: Bytes of the salt of a template's file (launch/templates/sealed_stream.py).
_SALT: Final = 32


@dataclass(frozen=True, slots=True)
class _Given:
    """A template as it was given: its key, what follows that in the packet, two memfds."""

    key: bytes
    said: bytes
    memory: int
    state: int

    @property
    def size(self) -> int:
        """Bytes of memory that it takes now; it grows, since machines fill holes by reading them."""
        return sum(os.fstat(fd).st_blocks * _BLOCK for fd in (self.memory, self.state))

    def close(self) -> None:
        """Close both."""
        os.close(self.memory)
        os.close(self.state)


class HeldTemplates:
    """Those of one launcher. In the launcher `receive` is called; in a fork of it `take`, `give` and `close`."""

    def __init__(self) -> None:
        self._ours, self._forks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ask_for_senders(self._ours)
        self._ours.setblocking(False)
        self._forks.setblocking(False)
        self._held: dict[bytes, _Given] = {}

    def fileno(self) -> int:
        """The descriptor that is readable once something was given."""
        return self._ours.fileno()

    def receive(self) -> None:
        """Take one packet of a fork's: a template, in the place of an older one of its key, or a word about one.

        A key alone: it is let go of. A key and a salt: a machine starts from that one. What is neither is closed.
        """
        try:
            packet = receive_packet(self._ours, _KEY + _SALT + _LIMIT, 2)
        except (OSError, PacketError):
            return
        if packet.sender is not None:
            packet.sender.close()
        key, salt = packet.data[:_KEY], packet.data[_KEY:]
        if not packet.descriptors and (len(key), len(salt)) == (_KEY, 0):
            self._drop(key)
            return
        if not packet.descriptors and (len(key), len(salt)) == (_KEY, _SALT):
            self._note_use(key, salt)
            return
        memory, *others = packet.descriptors or (-1,)
        if len(packet.data) < _KEY + _SALT or len(others) != 1 or not all(map(store.is_sealed, packet.descriptors)):
            for fd in packet.descriptors:
                os.close(fd)
            return
        given = _Given(packet.data[:_KEY], packet.data[_KEY:], memory, others[0])
        self._drop(given.key)
        if given.size > MOST_BYTES:
            given.close()
            return
        self._held[given.key] = given
        self._make_room()

    def _make_room(self) -> None:
        """Let go of what is more than is held; looked at with each start, for templates grow."""
        while len(self._held) > MOST_HELD or sum(each.size for each in self._held.values()) > MOST_BYTES:
            self._drop(next(iter(self._held)))

    def _note_use(self, key: bytes, salt: bytes) -> None:
        """Have one, unless it was replaced, be the last to go (a dict is in the order in which keys were added)."""
        held = self._held.get(key)
        if held is not None and held.said[:_SALT] == salt:
            self._held[key] = self._held.pop(key)
            self._make_room()

    def _drop(self, key: bytes) -> None:
        if (held := self._held.pop(key, None)) is not None:
            held.close()

    @property
    def descriptors(self) -> Iterator[int]:
        """What a fork keeps of the launcher's."""
        yield self._forks.fileno()
        for given in self._held.values():
            yield given.memory
            yield given.state

    def take(self, key: "Digest") -> "Template | None":
        """Return one with the caller's own descriptors, and tell the launcher of its use; None where it isn't held."""
        from mvmnix.launch.templates.record import TemplateRecord  # noqa: PLC0415 - forks have it
        from mvmnix.launch.templates.template import Template  # noqa: PLC0415 - as the line above

        given = self._held.get(key.raw)
        if given is None:
            return None
        salt, record = given.said[:_SALT], TemplateRecord.from_bytes(given.said[_SALT:])
        with suppress(OSError):  # the launcher has ended, or has much to take
            send_packet(self._forks, key.raw + salt)
        memory = os.dup(given.memory)
        return Template(record, memory, reopen(given.state), salt)

    def give(self, template: "Template") -> None:
        """Have the launcher hold one; the descriptors stay the caller's."""
        data = template.record.key.raw + template.salt + template.record.to_bytes()
        with suppress(OSError):  # the launcher has ended, or has much to take
            send_packet(self._forks, data, (template.memory, template.state))

    def drop(self, key: "Digest") -> None:
        """Have the launcher let go of one, which is of no use any more."""
        with suppress(OSError):  # the launcher has ended, or has much to take
            send_packet(self._forks, key.raw)

    def close(self) -> None:
        """Let go of all in this fork."""
        for given in self._held.values():
            given.close()
        self._held.clear()
        self._forks.close()
