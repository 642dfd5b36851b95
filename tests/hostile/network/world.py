"""A world without uplink: a host, servers with global addresses beyond it, a resolver's settings, a guest without a VM.

The test's own thread has a network namespace of its own while a world is open, the host's, so that the dialer which it
starts is in there. A second one stands for the Internet: it has the addresses of the servers, and the host's default
route leads to it. The guest is a third, with its own tap, and frames are carried between both taps. Nothing of it leads
to this machine's network.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

import dns.message
import dns.rcode
import pytest

from mvmnix.network.host import setup
from mvmnix.network.host.namespace_setup import GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import DEFAULT_RATE, ConnectionRate, PublishedPort, UpstreamProxy
from mvmnix.system.loop import Loop
from mvmnix.system.process import is_readable
from mvmnix.vmm.jail.jail import BubblewrapJail
from tests.hostile.stand_in import jail
from tests.patience import EVENT_PATIENCE, POLL, until
from tests.unit.network import packet_rows

#: Servers of the world: addresses that are global, and here they are a namespace's own.
PUBLIC, OTHER = packet_rows.PUBLIC, packet_rows.OTHER
#: The host's own global addresses, and those of its next hop; and one that it has beside another of the same network.
HOST, HOST6 = packet_rows.HOST, packet_rows.HOST6
HOST_TOO, HOST6_TOO = "185.199.110.10", "2600:9000:1::10"
_BESIDE = ("185.199.110.9/24", f"{HOST_TOO}/24", "2600:9000:1::9/64", f"{HOST6_TOO}/64")
_NEXT, _NEXT6 = "185.199.108.8", "2a04:4e42::8"
_TUNSETIFF = 0x400454CA
_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR


def ip(*words: str) -> None:
    """ip(8), in the namespace of the calling thread."""
    subprocess.run(["/usr/sbin/ip", *words], check=True, capture_output=True)


#: Addresses beyond the host, and descriptors of the namespace that has them.
_BEYOND: dict[str, int] = {}


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """The calling thread is in a namespace: sockets that it makes are of that one."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    os.setns(namespace, os.CLONE_NEWNET)
    try:
        yield
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)


@contextmanager
def beyond(address: str) -> Iterator[None]:
    """The calling thread is where an address is: beyond the host, or still where it was."""
    with entered(_BEYOND[address]) if address in _BEYOND else nullcontext():
        yield


@contextmanager
def new_namespace() -> Iterator[int]:
    """A network namespace with its loopback up, by a descriptor."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    os.unshare(os.CLONE_NEWNET)
    try:
        ip("link", "set", "lo", "up")
        made = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)
    try:
        yield made
    finally:
        os.close(made)


@contextmanager
def own_network(addresses: Sequence[str]) -> Iterator[None]:
    """The calling thread is a host's, beyond which there is an Internet with these addresses, and nothing else."""
    with new_namespace() as internet, new_namespace() as host, entered(host):
        ip("link", "add", "uplink", "type", "veth", "peer", "downlink", "netns", f"/proc/{os.getpid()}/fd/{internet}")
        with entered(internet):
            _address_link("downlink", _NEXT, _NEXT6)
            for one in addresses:
                ip("address", "add", one, "dev", "lo", *(("nodad",) if ":" in one else ()))
        _address_link("uplink", HOST, HOST6)
        for one in _BESIDE:
            # one by IPv6 isn't chosen as a source, to which nothing here leads back
            ip("address", "add", one, "dev", "uplink", *(("nodad", "preferred_lft", "0") if ":" in one else ()))
        ip("route", "add", "default", "via", _NEXT)
        ip("-6", "route", "add", "default", "via", _NEXT6)
        before = dict(_BEYOND)
        _BEYOND.update(dict.fromkeys(addresses, internet))
        try:
            yield
        finally:
            _BEYOND.clear()
            _BEYOND.update(before)


def _address_link(name: str, address: str, address6: str) -> None:
    ip("address", "add", f"{address}/31", "dev", name)
    ip("address", "add", f"{address6}/127", "dev", name, "nodad")
    ip("link", "set", name, "up")


class Guest:
    """Runs programs where a guest would run them."""

    def __init__(self, tap: int) -> None:
        self._far = tap
        self._stop, self._stopped = os.pipe()
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        os.unshare(os.CLONE_NEWNET)
        try:
            self._near = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self._near, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _FLAGS))
            ip("link", "set", "lo", "up")
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self.configure()
        finally:
            os.setns(before, os.CLONE_NEWNET)
            os.close(before)
        self._thread = threading.Thread(target=self._pump)
        self._thread.start()

    def configure(self) -> None:
        """Have the settings that an agent makes, and no others."""
        with self.inside():
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            ip("address", "flush", "dev", "eth0")
            ip("link", "set", "eth0", "address", GUEST_MAC, "up")
            ip("address", "add", f"{GUEST}/30", "dev", "eth0")
            ip("neighbour", "replace", GATEWAY, "lladdr", GATEWAY_MAC, "dev", "eth0", "nud", "permanent")
            ip("route", "add", "default", "via", GATEWAY)

    def _pump(self) -> None:
        poll = select.poll()
        other = {self._near: self._far, self._far: self._near}
        for fd in (*other, self._stop):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._stop:
                    return
                with suppress(OSError):
                    while True:
                        os.write(other[fd], os.read(fd, 70000))

    def run(self, *argv: str, seconds: float = EVENT_PATIENCE) -> subprocess.CompletedProcess[str]:
        """A program to its end."""
        words = ["/usr/bin/nsenter", f"--net=/proc/{os.getpid()}/fd/{self.namespace}", *argv]
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the guest's namespace: sockets that it makes are the guest's."""
        with entered(self.namespace):
            yield

    def connect(self, address: str, port: int, seconds: float = EVENT_PATIENCE) -> socket.socket:
        """A connection of the guest's."""
        with self.inside():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """End it."""
        os.write(self._stopped, b"x")
        self._thread.join()
        for fd in (self._near, self.namespace, self._stop, self._stopped):
            os.close(fd)


class World:
    """What a test has of it."""

    def __init__(self, network: setup.MachineNetwork, guest: Guest, loop: Loop) -> None:
        self.network, self.guest, self.loop = network, guest, loop
        self.events: list[NetworkEvent] = []
        self.ended: list[None] = []
        network.watch(loop, self.events.append, lambda: self.ended.append(None))

    def until(self, found: Callable[[], object]) -> None:
        """Turn the loop until something is so."""
        until(found, self.describe, lambda: self.loop.turn(POLL))

    def turn(self) -> None:
        """Take in what was told."""
        for _ in range(3):
            self.loop.turn(POLL)

    def forget(self) -> None:
        """Take in what was told, and forget it."""
        self.turn()
        self.events.clear()

    def find(self, name: str) -> str:
        """A name's address for the guest, of which no verdict was told yet."""
        address = str(self.resolve(name))
        self.forget()
        return address

    def resolve(self, name: str, kind: str = "A") -> str | None:
        """What the guest is answered: an address, "" for a name without one, None for no such name."""
        with self.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(EVENT_PATIENCE)
            asking.connect((GATEWAY, 53))
            asking.send(dns.message.make_query(name, kind).to_wire())
            answer = dns.message.from_wire(asking.recv(4096))
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return None
        return next((str(record) for found in answer.answer for record in found), "")

    def describe(self) -> str:
        """For a failing test."""
        return f"{self.events} {self.network.last_words}"

    def event(self, kind: NetworkEventKind, **fields: object) -> NetworkEvent:
        """The first event of this kind, with these fields."""

        def found() -> list[NetworkEvent]:
            return [it for it in self.events if it.kind is kind and all(getattr(it, k) == v for k, v in fields.items())]

        self.until(found)
        return found()[0]


@contextmanager
def world(
    where: Path,
    allow: Sequence[str],
    deny: Sequence[str] = (),
    *,
    hosts: str = "",
    ports: Sequence[str] = (),
    addresses: Sequence[str] = (PUBLIC, OTHER),
    resolver: str = "nameserver 127.0.0.1",
    proxy: str = "",
    rate: ConnectionRate = DEFAULT_RATE,
) -> Iterator[World]:
    """A world with a running network, by these rules; `hosts` and `resolver` are settings of the host's resolver."""
    with ExitStack() as stack:
        stack.enter_context(own_network(addresses))
        made = machine(where, allow, deny, hosts=hosts, ports=ports, resolver=resolver, proxy=proxy, rate=rate)
        yield stack.enter_context(made)


@contextmanager
def machine(
    where: Path,
    allow: Sequence[str],
    deny: Sequence[str] = (),
    *,
    hosts: str = "",
    ports: Sequence[str] = (),
    resolver: str = "nameserver 127.0.0.1",
    proxy: str = "",
    rate: ConnectionRate = DEFAULT_RATE,
) -> Iterator[World]:
    """A guest and its running network, on the host that the calling thread is at."""
    with ExitStack() as stack:
        walls = stack.enter_context(jail(where))
        plan = Network(
            parse_rules(tuple(allow), tuple(deny)),
            tuple(map(PublishedPort.parse, ports)),
            proxy=UpstreamProxy.parse(proxy) if proxy else None,
            connection_rate=rate,
        )
        network = made_network(plan, walls, hosts, resolver)
        loop = Loop()
        stack.callback(loop.close)
        stack.callback(network.close, loop)
        guest = Guest(os.dup(network.attachment.tap))
        stack.callback(guest.close)
        network.start()
        network.release()
        made = World(network, guest, loop)
        made.until(lambda: sum(it.kind is NetworkEventKind.READY for it in made.events) == 2)
        yield made


def made_network(
    network: Network, jail: BubblewrapJail, hosts: str, resolver: str = "nameserver 127.0.0.1"
) -> setup.MachineNetwork:
    """A network whose dialer has these names; it isn't started."""
    files = {
        "/etc/hosts": hosts.encode(),
        "/etc/resolv.conf": f"{resolver}\noptions timeout:1 attempts:1\n".encode(),
        "/etc/host.conf": b"multi on\n",
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mvmnix.network.host.setup.host_settings", lambda: files)
        return setup.MachineNetwork(network, jail)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server:
    """A server in the world: each connection is given to a function, in a thread of its own.

    It is beyond the host if its address is there.
    """

    def __init__(self, address: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        with beyond(address):
            self._listener = socket.create_server((address, port), family=_family(address), backlog=256)
        self._serve = serve
        self._closed = False
        self._open = dict[threading.Thread, socket.socket]()
        self.peers: list[str] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while is_readable(self._listener.fileno(), 3600) and not self._closed:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            thread = threading.Thread(target=self._served, args=(connection,), daemon=True)
            self._open[thread] = connection
            thread.start()

    def _served(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._serve(connection)
        del self._open[threading.current_thread()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for thread, connection in [*self._open.items()]:  # what a later test forks would have its thread beside it
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(EVENT_PATIENCE)
