"""A guest's raw frames, and what is seen of them on the host's side: AF_PACKET in both."""

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from mvmnix.network.host.namespace_setup import GATEWAY, GATEWAY_MAC, GUEST_MAC, PREFIX
from tests.hostile.network.world import beyond, entered, ip, new_namespace
from tests.unit.network.raw_guest import IPV6

_ALL = 0x0003  # ETH_P_ALL
_OUTGOING = 4  # PACKET_OUTGOING (packet(7))
_MOST = 1 << 16
#: What an interface with IPv6 says by itself: neighbours, routers, groups (RFC 4861, RFC 3810).
_CHATTER = frozenset({133, 134, 135, 136, 143})


class RawSocket:
    """Every frame at the interfaces of the calling thread's namespace; it sends by one of them."""

    def __init__(self, interface: str | None = None) -> None:
        self._interface = interface
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if interface is not None:
            self.socket.bind((interface, _ALL))

    def send(self, frame: bytes) -> None:
        """Raises OSError for one that is too long or too short."""
        self.socket.send(frame)

    def frames(self, seconds: float, *, incoming: bool = False) -> Iterator[bytes]:
        """What comes in so many seconds."""
        end = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]:
            frame, (_, _, kind, _, _) = self.socket.recvfrom(_MOST)
            if not (incoming and kind == _OUTGOING):
                yield frame

    def drain(self) -> None:
        """Forget what has come."""
        for _ in self.frames(0):
            pass

    def close(self) -> None:
        self.socket.close()


class Capture:
    """Everything at all interfaces of a world, on the host's side and beyond it."""

    def __init__(self, address: str) -> None:
        self._stack = ExitStack()
        self._sockets = [self._opened()]
        with beyond(address):
            self._sockets.append(self._opened())

    def _opened(self) -> RawSocket:
        made = RawSocket()
        self._stack.callback(made.close)
        return made

    def drain(self) -> None:
        """Forget what was seen."""
        for each in self._sockets:
            each.drain()

    def frames(self, seconds: float, marker: bytes) -> list[bytes]:
        """What is seen in so many seconds, but for an interface's own words without the marker."""
        found = [frame for each in self._sockets for frame in each.frames(seconds)]
        return [it for it in found if marker in it or not _is_chatter(it)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _is_chatter(frame: bytes) -> bool:
    if int.from_bytes(frame[12:14]) != IPV6:
        return False
    at, kind = 54, frame[20]
    if kind == 0:  # hop-by-hop options
        at, kind = 62, frame[54]
    return kind == 58 and frame[at] in _CHATTER


@contextmanager
def open_guest() -> Iterator[int]:
    """A guest as others have it: a veth pair to the host, which forwards. Its namespace; its interface is eth0 too."""
    forwards = Path("/proc/sys/net/ipv4/ip_forward")
    with new_namespace() as guest:
        peer = ("peer", "name", "eth0", "address", GUEST_MAC, "netns", f"/proc/{os.getpid()}/fd/{guest}")
        ip("link", "add", "open0", "address", GATEWAY_MAC, "type", "veth", *peer)
        ip("address", "add", f"{GATEWAY}/{PREFIX}", "dev", "open0")
        ip("link", "set", "open0", "up")
        forwards.write_text("1")
        with entered(guest):
            ip("link", "set", "eth0", "up")
        try:
            yield guest
        finally:
            forwards.write_text("0")
            ip("link", "del", "open0")
