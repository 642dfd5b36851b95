"""Keeps machines waiting, in the launcher: says which are to be started, and leads claims to those that wait.

A fork that has verified a pool's plan gives it to the launcher, by a socket that forks alone have. For each machine
that is missing the launcher forks, as it does for a caller; that fork verifies the plan anew, and waits (waiting.py).
What a pool is for is bytes to the launcher, which forks read.

A fork that was asked for a start looks which machine might do, and hands the caller on to the process that supervises
it: connection, request and descriptors. The one that takes them says so; a fork that isn't told so starts a machine.
Whether it is the right machine is judged there, by the gate: to look at a plan first, unverified, decides nothing else.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mvmnix.launch.control.pool_messages import MOST_WAITING
from mvmnix.launch.control.start_messages import MOST_DESCRIPTORS
from mvmnix.system import store
from mvmnix.system.descriptors import PacketError, ask_for_senders, hang_up, receive_packet, send_packet
from mvmnix.system.process import is_readable

#: Machines that may begin to wait at the same time.
_MOST_STARTING: Final = 2
#: Failures in a row after which a pool starts no machine any more, and seconds between two starts after one. One that
#: had waited for so many seconds is the first.
MOST_FAILURES: Final = 3
_PAUSE: Final = 2.0
_LONG: Final = 60.0
#: Seconds in which the machine that was claimed last has the processors for itself.
_REST: Final = 1.0
#: Bytes of what a pool is for, and of what a machine's process says.
_LIMIT: Final = 65536
_SET, _REMOVE = b"s", b"r"
#: What a machine's process says: that it waits, that it waits no more as it should, and in other words why it doesn't.
READY, DONE = b"ready", b"done"
#: What it says to the fork whose caller it takes over.
TAKEN: Final = b"y"
#: Seconds that it has for that.
_PATIENCE: Final = 5.0
#: Descriptors of a claim: a start's, the caller's connection, and where the answer goes.
CLAIM_DESCRIPTORS: Final = MOST_DESCRIPTORS + 2


@dataclass(slots=True)
class _Waiting:
    """The launcher's end of a connection with the process of a machine."""

    end: socket.socket
    is_ready: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Pool:
    """So many machines of a plan; `said` is what forks know it by, `why` is why the last machine doesn't wait."""

    count: int
    said: bytes
    plan: int
    waiting: list[_Waiting] = field(default_factory=list)
    failures: int = 0
    why: bytes = b""
    not_before: float = 0.0

    @property
    def lacks_machines(self) -> bool:
        return len(self.waiting) < self.count and self.failures < MOST_FAILURES and time.monotonic() >= self.not_before

    def failed(self, why: bytes) -> None:
        """Say so, and start none for a while."""
        self.failures, self.why = self.failures + 1, why or self.why or b"its process ended"
        self.not_before = time.monotonic() + _PAUSE

    def close(self) -> None:
        """Hang up: the machines end."""
        for each in self.waiting:
            hang_up(each.end)
        os.close(self.plan)


@dataclass(frozen=True, slots=True)
class KeptPool:
    """A pool as a fork sees it: what it is known by, how many machines are to wait and do, and what went wrong."""

    said: bytes
    count: int
    waiting: int
    why: bytes


class Pools:
    """Those of one launcher, which calls what comes first here; forks of it call the rest."""

    def __init__(self) -> None:
        self._ours, self._forks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ask_for_senders(self._ours)
        self._ours.setblocking(False)
        self._forks.setblocking(False)
        self._pools: list[_Pool] = []

    # in the launcher

    @property
    def are_set(self) -> bool:
        """Whether the launcher is to stay for them: for one whose machine waits, or may wait yet."""
        return any(pool.waiting or pool.failures < MOST_FAILURES for pool in self._pools)

    def watched(self) -> dict[int, _Waiting | None]:
        """The descriptors that are readable once something was said; None for what forks say of pools."""
        ends = {each.end.fileno(): each for pool in self._pools for each in pool.waiting}
        return {self._ours.fileno(): None, **ends}

    def receive(self, waiting: _Waiting | None) -> None:
        """Take what was said."""
        if waiting is None:
            self._receive_order()
        else:
            self._hear(waiting)

    def _receive_order(self) -> None:
        try:
            packet = receive_packet(self._ours, _LIMIT, 1)
        except (OSError, PacketError):
            return
        if packet.sender is not None:
            packet.sender.close()
        verb, count, said = packet.data[:1], packet.data[1:2], packet.data[2:]
        self._drop(said)
        has_room = sum(pool.count for pool in self._pools) + sum(count) <= MOST_WAITING
        if verb == _SET and count and has_room and packet.descriptors and store.is_sealed(packet.descriptors[0]):
            self._pools.append(_Pool(count[0], said, packet.descriptors[0]))
        else:
            for fd in packet.descriptors:
                os.close(fd)

    def _drop(self, said: bytes) -> None:
        for pool in [each for each in self._pools if each.said == said]:
            self._pools.remove(pool)
            pool.close()

    def _hear(self, waiting: _Waiting) -> None:
        pool = next((each for each in self._pools if waiting in each.waiting), None)
        if pool is None:
            return
        try:
            said = receive_packet(waiting.end, _LIMIT, 0).data
        except BlockingIOError:
            return
        except (OSError, PacketError):
            said = b""
        if said == READY:
            waiting.is_ready, pool.why = True, b""
            return
        pool.waiting.remove(waiting)
        hang_up(waiting.end)
        if said == DONE:
            pool.failures, pool.not_before = 0, time.monotonic() + _REST
        else:
            if waiting.is_ready and time.monotonic() - waiting.since >= _LONG:
                pool.failures = 0
            pool.failed(said)

    def next_start(self) -> tuple[socket.socket, int] | None:
        """Return what the process of one more machine is given: its end, to be closed here, and the plan; or None.

        Raises OSError.
        """
        starting = sum(not each.is_ready for pool in self._pools for each in pool.waiting)
        pool = next((each for each in self._pools if each.lacks_machines), None)
        if pool is None or starting >= _MOST_STARTING:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        pool.waiting.append(_Waiting(ours))
        return theirs, pool.plan

    def drop_all(self) -> None:
        """End all machines that wait."""
        for pool in self._pools:
            pool.close()
        self._pools.clear()

    @property
    def descriptors(self) -> Iterator[int]:
        """What a caller's fork keeps of the launcher's."""
        yield self._forks.fileno()
        for pool in self._pools:
            yield from (each.end.fileno() for each in pool.waiting)

    # in a fork

    def keep(self, said: bytes, count: int, plan: int) -> None:
        """Have the launcher keep so many machines of a plan waiting. Raises OSError."""
        send_packet(self._forks, _SET + bytes([count]) + said, (plan,))

    def remove(self, said: bytes) -> None:
        """Have the launcher keep none waiting. Raises OSError."""
        send_packet(self._forks, _REMOVE + b"\0" + said)

    def kept(self) -> tuple[KeptPool, ...]:
        """Those that there were when this process was forked."""
        return tuple(
            KeptPool(pool.said, pool.count, sum(each.is_ready for each in pool.waiting), pool.why)
            for pool in self._pools
        )

    def claim(self, said: bytes, message: bytes, descriptors: Iterable[int]) -> bool:
        """Hand a caller on to the process of a machine of this pool; whether one took it."""
        passed = tuple(descriptors)
        ready = (each.end for pool in self._pools if pool.said == said for each in pool.waiting if each.is_ready)
        return any(_take(end, message, passed) for end in ready)

    def let_go(self) -> None:
        """Let go of what is known of the pools in this fork; the launcher's machines go on to wait."""
        for pool in self._pools:
            for each in pool.waiting:
                each.end.close()
        self._pools.clear()

    def close(self) -> None:
        """The same, and say nothing to the launcher any more."""
        self.let_go()
        self._forks.close()


def _take(end: socket.socket, message: bytes, descriptors: tuple[int, ...]) -> bool:
    """Whether the process at the other end takes a caller over: it alone answers from then on."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:  # none are left
        return False
    with ours:
        try:
            with theirs:
                send_packet(end, message, (theirs.fileno(), *descriptors))
        except OSError:  # it has ended, or others wait for it
            return False
        is_readable(ours.fileno(), _PATIENCE)
        ours.setblocking(False)
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RD)  # what it says from now on fails there, and it takes nothing over
            return ours.recv(1) == TAKEN
        return False
