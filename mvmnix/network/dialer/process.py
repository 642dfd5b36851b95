"""Connects where the plan's rules lead, in the host's network, for a gateway that may have been taken over.

It runs in a sandbox of its own (jail/network_sandbox.py) and reads asks of a fixed shape (dialer_messages.py) and what
the host's resolver answers; nothing that a guest or a server wrote.

1. The rule with that id allows that host and port. What doesn't is a breach: the gateway asks for nothing else.
   The plan's rate has room for one connection more: each takes ports of this host, for its question and for itself.
2. The name is resolved here, now, by the host's resolver. All of its addresses are judged, by the same code as the
   downloader's: one that isn't public, and that the rule doesn't acknowledge, refuses all of them; so does one of the
   host itself. An address that a rule names itself isn't resolved.
3. Only an address that was judged is connected to. The supervisor is told of the connection, over a socket that the
   gateway doesn't have, and then the connected socket goes back with the address.
4. Where the plan names a proxy, that one is connected to and asked for the host (CONNECT: RFC 9110, section 9.3.6): it
   resolves the name, and mvm doesn't. All addresses of the proxy's own name are judged first, and one of them is
   connected to. Of its answer the head alone is read: what a server says first stays in the socket.

Each ask is done by a thread, of so many at a time; a slow name has a share of them (lookups.py), and a slow server none
(`Connecting`). Those that are idle read; the kernel wakes one of them for an ask, so that none waits for another one.
"""

import errno
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Final

from mvmnix.formats.addresses import AddressKind, is_public, kind_of
from mvmnix.formats.strict import MalformedError
from mvmnix.network.dialer.connecting import Connecting, ConnectionAttempt, address_family
from mvmnix.network.dialer.lookups import OF_ALL, Lookups, Turn
from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.policy.decisions import Denial, Rules
from mvmnix.network.sockets import PACKET_BYTES
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind, read_network
from mvmnix.network.token_bucket import TokenBucket
from mvmnix.plan.network import Network
from mvmnix.plan.network_endpoints import UpstreamProxy
from mvmnix.plan.network_hosts import is_address
from mvmnix.system.prctl import filter_system_calls

#: Threads: those that may wait for a name, and some that read on.
_WORKERS: Final = OF_ALL + 8
#: Threads and more: the first, one for slow servers. The kernel counts those of a uid in the sandbox's user namespace.
_TASKS: Final = _WORKERS + 8
#: Verdicts that are known from asks before; each depends on the plan alone.
_KNOWN: Final = 1024
_STACK: Final = 512 << 10
#: Seconds at the end for a connection that the supervisor was told of to reach the gateway.
_LAST: Final = 0.3
#: Addresses of one name: judging each of thousands would take the time of other connections.
_MOST_ADDRESSES: Final = 64
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})
#: Bytes of the head of a proxy's answer, and seconds for all of it.
_LONGEST: Final = 8192
_PROXY_SECONDS: Final = 15.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
#: Kinds of addresses at which a proxy may be that the plan names by its address.
_NEAR: Final = frozenset({AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.SHARED, AddressKind.LOOPBACK})
#: Addresses that no host has (RFC 5737, RFC 3849).
_NOBODYS: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class Dialer:
    """Serves one gateway until that hangs up."""

    def __init__(self, asked: socket.socket, events: socket.socket, network: Network) -> None:
        self._asked, self._events, self._proxy = asked, events, network.proxy
        rules, rate = Rules(network), network.connection_rate
        #: A proxy is asked for each connection by itself.
        self._lookups = Lookups(lambda id_: rules.rule(id_).host, shares_answers=self._proxy is None)
        self._rate = TokenBucket(rate.per_second, rate.burst, time.monotonic)
        self._admits, self._reaches = lru_cache(_KNOWN)(rules.admits), lru_cache(_KNOWN)(rules.reaches)
        self._counting = threading.Lock()
        self._threads = self._idle = 1
        self._ended = threading.Event()
        self._connecting = Connecting(self._ended.set)
        #: Held from telling of a connection until it was handed on.
        self._handing = threading.Lock()

    def serve(self) -> None:
        """Returns when the gateway has hung up, or has sent what none of ours sends, which is told then."""
        self._events.send(NetworkEvent(NetworkEventKind.READY).to_bytes())
        threading.Thread(target=self._work, daemon=True).start()
        self._ended.wait()
        if self._handing.acquire(timeout=_LAST):
            self._handing.release()

    def _work(self) -> None:
        """A thread that can't go on ends the dialer, so that nothing waits for it."""
        try:
            while (ask := self._next()) is not None:
                try:
                    self.dial(ask)
                except MemoryError:
                    self._reply(ask, Reply(ask.number, Denial.RESOLVE_FAILED, ask.rule))
                with self._counting:
                    self._idle += 1
        finally:
            self._ended.set()

    def _next(self) -> Ask | None:
        """The next ask; None when there will be no more. Others follow, if need be."""
        try:
            packet = b"" if self._ended.is_set() else self._asked.recv(PACKET_BYTES)
            ask = Ask.parse(packet) if packet else None
        except ConnectionResetError:
            ask = None
        except MalformedError:
            ask = None
            self._events.send(NetworkEvent(NetworkEventKind.BREACH).to_bytes())
        if ask is None:
            self._ended.set()
            return None
        self._have_another_follow()
        return ask

    def _have_another_follow(self) -> None:
        """See to it that a thread reads on, as long as there may be more of them."""
        with self._counting:
            self._idle -= 1
            if self._idle > 0 or self._threads >= _WORKERS:
                return
            self._threads += 1
            self._idle += 1
        try:
            threading.Thread(target=self._work, daemon=True).start()
        except RuntimeError:  # there is none left: this one reads on when it is done
            with self._counting:
                self._threads -= 1
                self._idle -= 1

    def _reply(self, ask: Ask, reply: Reply, connection: socket.socket | None = None) -> None:
        with suppress(OSError):  # the gateway or the supervisor is gone, and so will be this process
            if connection is None:
                self._asked.send(reply.to_bytes())
                return
            with connection, self._handing:
                if self._ended.is_set():
                    return
                opened = NetworkEvent(
                    NetworkEventKind.OPENED,
                    rule=ask.rule,
                    name=ask.host,
                    address=reply.address,
                    port=ask.port,
                    connection=ask.number,
                )
                self._events.send(opened.to_bytes())  # waits where the supervisor is slow
                try:
                    socket.send_fds(self._asked, [reply.to_bytes()], [connection.fileno()])
                except (OSError, MemoryError):  # ETOOMANYREFS: too many are on their way (unix(7))
                    self._asked.send(reply.to_bytes())  # the gateway takes it for one that it can't have

    def dial(self, ask: Ask) -> None:
        """Answer it, now or once a server has."""
        # 1. the rule, and the rate
        admitted = self._admits(ask.rule, ask.host, ask.port)
        if not admitted.allowed:
            with suppress(OSError):
                self._events.send(NetworkEvent(NetworkEventKind.BREACH, name=ask.host, port=ask.port).to_bytes())
            self._reply(ask, Reply(ask.number, admitted.code, admitted.rule))
            return
        with self._counting:
            is_too_fast = not self._rate.take()
        if is_too_fast:
            self._reply(ask, Reply(ask.number, Denial.LIMIT_CONNECTION_RATE, ask.rule))
            return
        turn = self._lookups.begin(ask)
        if turn is Turn.NEVER:
            self._reply(ask, Reply(ask.number, Denial.RESOLVE_FAILED, ask.rule))
        following = ask if turn is Turn.NOW else None
        while following is not None:
            following = self._look_up(following)

    def _look_up(self, ask: Ask) -> Ask | None:
        """Do it, and answer those that asked for the same name. Return the ask whose turn follows, if any."""
        addresses: Sequence[str] = ()
        unanswered = [ask]
        with suppress(MemoryError):
            if self._proxy is None:
                addresses = _resolved(ask.host, ask.port)  # 2
            else:
                self._reply(ask, *_by_proxy(self._proxy, ask))  # 4
                unanswered.clear()
        same, following = self._lookups.end(ask)
        for one in (*unanswered, *same):
            try:
                self._reach(one, addresses)
            except MemoryError:
                self._reply(one, Reply(one.number, Denial.RESOLVE_FAILED, one.rule))
        return following

    def _reach(self, ask: Ask, addresses: Sequence[str]) -> None:
        """Judge the addresses of a name, and connect to one of them; answer now, or once a server has."""
        if not addresses:
            self._reply(ask, Reply(ask.number, Denial.RESOLVE_FAILED, ask.rule))
            return
        for address in addresses:  # 2
            verdict = self._reaches(ask.rule, address, ask.port, is_own=_is_own(address))
            if not verdict.allowed:
                self._reply(ask, Reply(ask.number, verdict.code, verdict.rule, _plain(address)))
                return
        # 3. one of them
        self._connecting.connect(addresses, ask.port, partial(self._connected, ask, _plain(addresses[0])))

    def _connected(self, ask: Ask, first: str, found: tuple[str, socket.socket] | None) -> None:
        if found is None:
            self._reply(ask, Reply(ask.number, Denial.CONNECT_FAILED, ask.rule, first))
        else:
            self._reply(ask, Reply(ask.number, None, ask.rule, _plain(found[0])), found[1])


def _by_proxy(proxy: UpstreamProxy, ask: Ask) -> tuple[Reply, socket.socket | None]:
    addresses = _resolved(proxy.host, proxy.port)
    for address in addresses:
        if not may_be_proxy(proxy.host, _plain(address), is_own=_is_own(address)):
            return Reply(ask.number, Denial.PROXY_ADDRESS, ask.rule, _plain(address)), None
    if (found := ConnectionAttempt(addresses, proxy.port).wait()) is None:
        return Reply(ask.number, Denial.CONNECT_FAILED if addresses else Denial.RESOLVE_FAILED, ask.rule), None
    address, connection = found
    try:
        ask_proxy(connection, ask.host, ask.port)
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        code = Denial.PROXY_REFUSED if isinstance(error, ProxyRefusedError) else Denial.CONNECT_FAILED
        return Reply(ask.number, code, ask.rule, _plain(address)), None
    return Reply(ask.number, None, ask.rule, _plain(address)), connection


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
    """The head of a proxy's answer, taken out of the socket; empty for one that doesn't end, or is too long."""
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


def _plain(address: str) -> str:
    return address.partition("%")[0]


def _resolved(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, each once, in the resolver's order; none where it has none, or more than a host has."""
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    return addresses if len(addresses) <= _MOST_ADDRESSES else ()


def _is_own(address: str) -> bool:
    """Whether it is an address of this host, which a socket can have; what can't be told counts as one.

    Where sockets can have any (ip-sysctl, ip_nonlocal_bind), it is told from others by the kernel's choice of it as the
    source, too; that isn't so for an address beside another one of the same network.
    """
    try:
        if not _can_have(address):
            return False
        if not _can_have(_NOBODYS[address_family(address)]):
            return True
        with socket.socket(address_family(address), socket.SOCK_DGRAM) as one:
            one.connect((address, 9))
            return str(one.getsockname()[0]) == _plain(address)
    except OSError as error:
        return error.errno not in _NO_ROUTE  # it isn't connected to either


def _can_have(address: str) -> bool:
    """Raises OSError."""
    with socket.socket(address_family(address), socket.SOCK_DGRAM) as one:
        try:
            one.bind((address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True


def main(filter_: int, network: int, asked: int, events: int) -> None:
    """Serve; the process ends with the gateway.

    `filter_` is a file with the filter to serve under (prctl.py), `network` one with the plan's.
    """
    plan = read_network(network)
    threading.stack_size(_STACK)
    with socket.socket(fileno=asked) as asks, socket.socket(fileno=events) as told:
        dialer = Dialer(asks, told, plan)
        with suppress(ValueError):  # it may have fewer as it is
            resource.setrlimit(resource.RLIMIT_NPROC, (_TASKS, _TASKS))
        filter_system_calls(filter_)  # before there is a second thread
        dialer.serve()
    os._exit(0)  # threads may wait for a name yet
