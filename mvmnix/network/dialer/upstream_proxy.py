"""Asks a proxy for a connection, with CONNECT (RFC 9110, section 9.3.6); reads its answer's head alone.

What a server says first stays in the socket: the head is looked at before it is taken out of there.
"""

import re
import socket
import time
from typing import Final

from mvmnix.formats.addresses import AddressKind, is_public, kind_of
from mvmnix.plan.network_hosts import is_address

#: Bytes of an answer's head, and seconds for all of it.
_LONGEST: Final = 8192
_PROXY_SECONDS: Final = 15.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
#: Kinds of addresses at which a proxy may be that the plan names by its address.
_NEAR: Final = frozenset({AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.SHARED, AddressKind.LOOPBACK})


class ProxyRefusedError(OSError):
    """The proxy answered, and not with a connection."""


def may_be_proxy(host: str, address: str, *, is_own: bool) -> bool:
    """Return whether the proxy HOST of a plan may be at this address, which is one of this host's own where `is_own`.

    A name leads to public addresses of other hosts only: this host and its networks are not the resolver's to give.
    """
    if is_address(host):
        return kind_of(address) in _NEAR
    return is_public(address) and not is_own


def ask_proxy(connection: socket.socket, host: str, port: int) -> None:
    """Have a connected proxy connect to a name or an IPv4 address. Raises OSError, ProxyRefusedError."""
    target = f"{host}:{port}".encode("ascii")
    end = time.monotonic() + _PROXY_SECONDS
    connection.settimeout(_PROXY_SECONDS)
    connection.sendall(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target))
    head = _head(connection, end)
    status = _STATUS.match(head)
    if status is None or not status[1].startswith(b"2"):
        raise ProxyRefusedError(f"the proxy says {head.splitlines()[0][:100] if head else b''!r}")
    connection.settimeout(None)


def _head(connection: socket.socket, end: float) -> bytes:
    """An answer's head, taken out of the socket; empty for one that doesn't end, or is too long."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _LONGEST:
        connection.settimeout(max(0.01, end - time.monotonic()))
        seen = connection.recv(_LONGEST - len(head), socket.MSG_PEEK)
        both = head + seen
        found = both.find(b"\r\n\r\n", max(0, len(head) - 3))
        wanted = len(seen) if found < 0 else found + 4 - len(head)
        if not wanted:
            return b""
        head += connection.recv(wanted)
    return head if head.endswith(b"\r\n\r\n") else b""
