"""Connections into the guest: the supervisor listens on the host, connects in the guest's namespace, and hands both on.

1. Listening sockets for each port that the plan publishes, at its address, made before anything starts. One that can't
   be had is refused [network-unavailable]. A port at `localhost` has both loopback addresses, or another user could
   listen on the one that is left, and get what is meant for the guest.
2. For each connection, one of the sockets that were made in the guest's namespace (namespace_setup.py) is connected to
   the guest's port: so many at a time, fewer for one address, and others are refused by a reset. Nothing of what comes
   over either is read here.
3. Once it is connected, the gateway gets both ends and carries bytes between them. When it says that it is done with
   them, the socket is parted from its peer (connect(2), AF_UNSPEC), and serves another connection.

The gateway can't connect it to anything, and its namespace has no way but to the guest (docs/adr/0039).
"""

import ctypes
import errno
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.network.host.namespace_setup import GUEST
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import reset
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind
from mvmnix.network.token_bucket import TokenBucket
from mvmnix.plan.network_endpoints import LOOPBACK6, PublishedPort
from mvmnix.system.loop import Loop, Timer

_BACKLOG: Final = 128
#: Seconds until the guest has answered.
_SECONDS: Final = 10.0
#: Connections that are accepted before anything else is looked at.
_BATCH: Final = 16
#: Connections of one address at a time: three of four that there are (namespace.INBOUND). All loopback addresses count
#: as one: a user of this host has as many of them as it likes.
OF_PEER: Final = 48
#: Refused connections that are told of in a second.
_REFUSALS: Final = 1.0
#: What IPv6 addresses are answered with where there is no IPv6.
_WITHOUT_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_libc: Final = ctypes.CDLL(None, use_errno=True)

type Listener = tuple[PublishedPort, socket.socket]
type HandOver = Callable[[HandedOver, socket.socket, socket.socket], None]
type Tell = Callable[[NetworkEvent], None]


@dataclass(slots=True)
class _Connecting:
    """A client whose connection into the guest isn't there yet."""

    client: socket.socket
    peer: str
    published: PublishedPort
    timer: Timer


def listen(ports: Sequence[PublishedPort]) -> tuple[Listener, ...]:
    """Step 1; the caller closes the sockets. Raises RefusedError [network-unavailable]."""
    with ExitStack() as stack:
        listeners: list[Listener] = []
        for it, address in [(port, address) for port in ports for address in port.addresses]:
            try:
                listener = stack.enter_context(_bound(address, it.host))
                listener.listen(_BACKLOG)
            except OSError as error:
                if address == LOOPBACK6 and error.errno in _WITHOUT_IPV6:
                    continue  # no program here can have it
                why = f"{address} port {it.host} can't be listened on: {error.strerror}"
                hint = _HINTS.get(error.errno, "publish another port: --publish [IP:]HOST:GUEST")
                raise refuse(ReasonCode.NETWORK_UNAVAILABLE, "the plan's network", why, hint) from error
            listener.setblocking(False)
            listeners.append((it, listener))
        stack.pop_all()
    return tuple(listeners)


def _bound(address: str, port: int) -> socket.socket:
    """A socket at this address and no other. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


def counted_as(peer: str) -> str:
    """Return the address that the connections of a client's address count as."""
    return LOOPBACK6 if ip_address(peer).is_loopback else peer


class PublishedPorts:
    """Those of one machine, which are served by sockets of the guest's namespace; all sockets stay the caller's."""

    def __init__(
        self, listeners: Sequence[Listener], stock: Sequence[socket.socket], loop: Loop, hand_over: HandOver, tell: Tell
    ) -> None:
        self._listeners, self._stock, self._loop = listeners, stock, loop
        self._hand_over, self._tell = hand_over, tell
        self._free = list(range(len(stock)))
        self._connecting: dict[int, _Connecting] = {}
        #: What the clients' addresses count as, of all slots that aren't free.
        self._peers: dict[int, str] = {}
        self._refusals = TokenBucket(_REFUSALS, 1, time.monotonic)
        for published, listener in listeners:
            loop.watch(listener.fileno(), read=partial(self._accept, listener, published))

    def _accept(self, listener: socket.socket, published: PublishedPort) -> None:
        for _ in range(_BATCH):
            try:
                client, (peer, *_) = listener.accept()
            except OSError:  # there is none, or no descriptor for it
                return
            client.setblocking(False)
            counted = counted_as(peer)
            is_peers = list(self._peers.values()).count(counted) >= OF_PEER
            if is_peers or not self._free:
                self._refuse(client, peer, published, Denial.LIMIT_PEER if is_peers else Denial.GATEWAY_BUSY)
                continue
            slot = self._free.pop()
            self._peers[slot] = counted
            inside = self._stock[slot]
            timer = self._loop.after(_SECONDS, partial(self._done, slot, errno.ETIMEDOUT))
            self._connecting[slot] = _Connecting(client, peer, published, timer)
            with suppress(OSError):  # what came of it is asked later
                _begin_to_connect(inside, published.guest)
            self._loop.watch(inside.fileno(), write=partial(self._connected, slot))

    def _refuse(self, client: socket.socket, peer: str, published: PublishedPort, code: Denial) -> None:
        reset(client)
        if self._refusals.take():
            self._tell(NetworkEvent(NetworkEventKind.DENIED, code=code, address=peer, port=published.guest))

    def _connected(self, slot: int) -> None:
        self._done(slot, self._stock[slot].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _done(self, slot: int, problem: int) -> None:
        """Step 3, or the end of it."""
        if (it := self._connecting.pop(slot, None)) is None:
            return
        it.timer.cancel()
        inside = self._stock[slot]
        self._loop.forget(inside.fileno())
        if problem == 0:
            try:
                self._hand_over(HandedOver(slot, it.published.guest), it.client, inside)
                self._tell(NetworkEvent(NetworkEventKind.INBOUND, address=it.peer, port=it.published.guest))
            except OSError:  # the gateway is gone, or takes nothing
                problem = errno.EPIPE
        if problem == 0:
            it.client.close()
            return
        reset(it.client)
        self.give_back(slot)

    def give_back(self, slot: int) -> bool:
        """Take a connection back from the gateway: the guest has acknowledged all of it, or is given up.

        Returns whether the gateway had it.
        """
        if not 0 <= slot < len(self._stock) or slot in (*self._free, *self._connecting):
            return False
        disconnect(self._stock[slot])
        del self._peers[slot]
        self._free.append(slot)
        return True

    def close(self) -> None:
        """Accept nothing more, while the sockets are open still."""
        for _, listener in self._listeners:
            self._loop.forget(listener.fileno())
        for slot, it in self._connecting.items():
            it.timer.cancel()
            it.client.close()
            self._loop.forget(self._stock[slot].fileno())
        self._connecting.clear()


_HINTS: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "another program has it: ss -ltnp; or publish another port: --publish [IP:]HOST:GUEST",
    errno.EACCES: "ports below 1024 are root's: publish another one (sysctl net.ipv4.ip_unprivileged_port_start)",
    errno.EADDRNOTAVAIL: "name an address that this host has: ip address",
}


def _begin_to_connect(inside: socket.socket, port: int) -> None:
    """Connect without waiting, whatever its flags say, which the gateway has in common. Raises OSError."""
    inside.sendto(b"", socket.MSG_FASTOPEN | socket.MSG_DONTWAIT, (GUEST, port))


def disconnect(connection: socket.socket) -> None:
    """Have a socket be as new: parted from its peer, with a reset if that is still there. What fails is as before."""
    unspecified = (ctypes.c_char * 16)()  # struct sockaddr, of the family AF_UNSPEC
    _libc.connect(connection.fileno(), unspecified, len(unspecified))
